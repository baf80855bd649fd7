//! What is made of the identity on disk, and made anew when it is replaced.

use std::sync::Arc;

use common::reload::follow_identity;
use common::tls::{self, ALPN_BULK, ALPN_CONTROL, Identity, Reloadable};

use crate::config::Config;
use crate::run::Seams;
use crate::transfer::DataPlane;

/// Certificates for both planes and both directions.
#[derive(Clone)]
pub(crate) struct Credentials {
    pub(crate) control_server: Reloadable,
    pub(crate) control_client: Arc<rustls::ClientConfig>,
    pub(crate) data_server: Reloadable,
    pub(crate) data_client: Arc<rustls::ClientConfig>,
}

impl Credentials {
    /// From the files that `config` names.
    ///
    /// # Errors
    /// One of them cannot be used.
    pub(crate) fn load(config: &Config) -> Result<Self, tls::Error> {
        let identity = Identity::load(&config.identity_dir)?;
        Ok(Self {
            control_server: Reloadable::new(identity.server_config(ALPN_CONTROL)?),
            control_client: Arc::new(identity.client_config(ALPN_CONTROL)?),
            data_server: Reloadable::new(identity.server_config(ALPN_BULK)?),
            data_client: Arc::new(identity.client_config(ALPN_BULK)?),
        })
    }
}

/// Gives new connections the identity on disk when it was replaced, until the process ends. Connections of the control
/// plane to others keep the certificate of the start: it stays valid.
pub(crate) async fn follow(config: Arc<Config>, seams: Seams, credentials: Credentials, plane: DataPlane) {
    let replace = |identity: &Identity| {
        let (control, data) = (
            identity.server_config(ALPN_CONTROL)?,
            identity.server_config(ALPN_BULK)?,
        );
        plane.replace_client_tls(Arc::new(identity.client_config(ALPN_BULK)?));
        credentials.control_server.replace(control);
        credentials.data_server.replace(data);
        Ok(())
    };
    let following = follow_identity(&config.identity_dir, &seams.reload, &seams.clock, replace);
    seams.shutdown.guard(following).await;
}
