//! The door for who only watches: Prometheus, which speaks no Unix socket, and whatever asks whether the node is well.
//!
//! Its token opens the numbers and nothing else, so that a machine that monitors, or whoever reads its configuration, can
//! read no record and stop no node. Therefore it may listen where others reach it, unlike [`crate::TcpServer`]. Whether the
//! node is alive and ready it tells anybody: who asks that has no place for secrets.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::{Router, middleware};
use tokio::net::TcpListener;

use crate::serve::{ServeError, listen, run};
use crate::service::Service;
use crate::{routes, token};

/// The door, bound but not yet served.
#[derive(Debug)]
pub struct MonitorServer {
    listener: TcpListener,
    address: SocketAddr,
    token: Arc<str>,
}

impl MonitorServer {
    /// Listens on `address` (port 0: any free one); who brings `token` may read the metrics.
    ///
    /// # Errors
    /// [`ServeError`] if the token is too short or the port taken.
    pub async fn bind(address: SocketAddr, token: &str) -> Result<Self, ServeError> {
        let (listener, address) = listen(address, token).await?;
        Ok(Self { listener, address, token: token.into() })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves `service` until `shutdown`.
    ///
    /// # Errors
    /// [`ServeError::Serve`] if the listener fails.
    pub async fn serve<S: Service>(
        self,
        service: Arc<S>,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), ServeError> {
        let guard = middleware::from_fn_with_state(self.token, token::require);
        let routes = Router::new()
            .merge(routes::numbers().route_layer(guard))
            .merge(routes::health())
            .fallback(routes::no_route)
            .method_not_allowed_fallback(routes::no_route)
            .with_state(service);
        run(self.listener, routes, shutdown).await
    }
}
