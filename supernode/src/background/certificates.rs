//! Gives new connections the identity on disk when it was replaced; old connections live on.

use std::sync::Arc;

use common::reload::follow_identity;
use common::tls::ALPN_CONTROL;

use crate::context::Context;

pub(super) async fn run(context: Arc<Context>) {
    let directory = &context.config.identity_dir;
    follow_identity(directory, &context.reload, &context.clock, |identity| {
        context.tls.replace(identity.server_config(ALPN_CONTROL)?);
        Ok(())
    })
    .await;
}
