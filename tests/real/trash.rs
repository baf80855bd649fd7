//! The trash service, which the command cannot ask yet.

use std::sync::Arc;

use common::net::Network;
use common::tls::{self, ALPN_CONTROL, Role};
use dbfs_tests::Installation;
use proto::trash::v1 as wire;
use proto::trash::v1::trash_client::TrashClient;
use tonic::transport::Channel;

/// Brings the newest item of the trash below `path` back. `None` where nobody answers, or nothing is there.
pub(crate) fn restore(installation: &Installation, path: &str) -> Option<()> {
    let profiles = installation.scratch().join("config/dbfs/profiles.json");
    let profiles: serde_json::Value = serde_json::from_slice(&std::fs::read(profiles).unwrap()).unwrap();
    let profile = &profiles["profiles"]["local"];
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        for address in profile["supernodes"].as_array().unwrap() {
            let asking = ask(
                address.as_str().unwrap(),
                profile["ca_pem"].as_str().unwrap(),
                profile["token"].as_str().unwrap(),
                path,
            );
            if asking.await == Some(()) {
                return Some(());
            }
        }
        None
    })
}

async fn ask(address: &str, ca_pem: &str, token: &str, path: &str) -> Option<()> {
    tls::install_provider();
    let config = Arc::new(tls::client_config(ca_pem, ALPN_CONTROL).unwrap());
    let channel = proto::control::connect(&Network::tcp(None), address, &Role::Supernode, config);
    let mut client: TrashClient<Channel> = TrashClient::new(channel.unwrap());
    let list = wire::ListRequest {
        path: path.to_owned(),
        ..wire::ListRequest::default()
    };
    let items = client
        .list(authorized(list, token))
        .await
        .ok()?
        .into_inner()
        .items;
    let restore = wire::RestoreRequest {
        trash_id: items.first()?.trash_id,
        to: String::new(),
    };
    client.restore(authorized(restore, token)).await.ok().map(drop)
}

fn authorized<T>(message: T, token: &str) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    let value = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert(proto::AUTHORIZATION_HEADER, value);
    request
}
