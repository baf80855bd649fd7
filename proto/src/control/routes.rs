//! Several gRPC services on one server: dispatch by the first segment of the path.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::codegen::{BoxFuture, Service};
use tonic::server::NamedService;

/// Starts one call. Services are cloned per call, as tonic's own are made for.
type Call = dyn Fn(Request<Body>) -> BoxFuture<Response<Body>, Infallible> + Send + Sync;

/// The services of one server, by name. Cloning is cheap.
#[derive(Clone, Default)]
pub struct Routes {
    services: Arc<BTreeMap<&'static str, Arc<Call>>>,
}

impl Routes {
    /// No services: every call is answered with `UNIMPLEMENTED`.
    pub fn new() -> Self {
        Self::default()
    }

    /// These services and `service`, a generated `...Server`. A later service of the same name replaces the earlier.
    #[must_use]
    pub fn with<S>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        let call = move |request: Request<Body>| -> BoxFuture<Response<Body>, Infallible> {
            // Generated services are always ready: their `poll_ready` is `Ok(())`.
            Box::pin(service.clone().call(request))
        };
        Arc::make_mut(&mut self.services).insert(S::NAME, Arc::new(call));
        self
    }
}

impl std::fmt::Debug for Routes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.services.keys()).finish()
    }
}

impl Service<Request<Body>> for Routes {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let name = request.uri().path().split('/').nth(1).unwrap_or_default();
        match self.services.get(name) {
            Some(service) => service(request),
            None => {
                let status = tonic::Status::unimplemented(format!("no service '{name}' here"));
                Box::pin(async move { Ok(status.into_http()) })
            }
        }
    }
}
