//! The two doors: a Unix socket, and a loopback port behind a token.

use std::fs::{DirBuilder, Permissions};
use std::future::{Future, IntoFuture};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use axum::{Router, middleware};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::watch;

use crate::limit::{CONNECTION_COUNT_MAX, Limited};
use crate::passing::{Carries, FileListener, Passed};
use crate::routes;
use crate::service::Service;
use crate::token;

/// How long answers under way may go on after a shutdown began.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// Fewest characters of a bearer token: 128 bits in hexadecimal.
pub const TOKEN_LEN_MIN: usize = 32;

/// Most bytes of a socket's path: `sun_path` of Linux has 108, one of them is the end.
const SOCKET_PATH_LEN_MAX: usize = 107;

/// Why the local API cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// A living process answers on the socket.
    #[error("{path} is served by a running node; stop it with `bithealth stop` or choose another --data-dir")]
    SocketInUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something else than a socket has the name.
    #[error("{path} is not a socket; move it away or choose another --data-dir")]
    NotASocket {
        /// The file.
        path: PathBuf,
    },
    /// The system takes no such long name for a socket.
    #[error("{path} has {got} bytes, a socket's path may have {SOCKET_PATH_LEN_MAX}; choose a shorter --data-dir")]
    SocketPathTooLong {
        /// The socket.
        path: PathBuf,
        /// Its length, with the part that is only there while it is made.
        got: usize,
    },
    /// The socket cannot be made.
    #[error("{path}: the socket cannot be made: {error}")]
    Socket {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// An address others can reach.
    #[error("{address} can be reached from outside; the local API listens on loopback only, as in 127.0.0.1:8080")]
    NotLoopback {
        /// What was asked for.
        address: SocketAddr,
    },
    /// The token can be guessed.
    #[error("the bearer token has {got} characters, at least {TOKEN_LEN_MIN} are due")]
    TokenTooShort {
        /// What came.
        got: usize,
    },
    /// The port cannot be had.
    #[error("{address} cannot be listened on: {error}")]
    Listen {
        /// What was asked for.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// Accepting or serving failed.
    #[error("the local API stopped: {0}")]
    Serve(io::Error),
}

/// Serves `service` on a socket at `path` that only this user can open, until `shutdown`; removes the socket.
///
/// # Errors
/// [`ServeError`] if the socket cannot be made or a living process has it. A dead process's socket is replaced.
pub async fn serve_unix<S: Service>(
    path: &Path,
    service: Arc<S>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    UnixServer::bind(path).await?.serve(service, shutdown).await
}

/// Serves `service` on the loopback `address` to callers that bring `token`, until `shutdown`.
///
/// # Errors
/// [`ServeError`] as [`TcpServer::bind`] and [`TcpServer::serve`] say.
pub async fn serve_tcp<S: Service>(
    address: SocketAddr,
    token: &str,
    service: Arc<S>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    TcpServer::bind(address, token).await?.serve(service, shutdown).await
}

/// The socket's door, bound but not yet served: callers can connect and wait.
#[derive(Debug)]
pub struct UnixServer {
    listener: UnixListener,
    path: PathBuf,
}

impl UnixServer {
    /// Makes a socket at `path` that only this user can open.
    ///
    /// # Errors
    /// [`ServeError`] if the socket cannot be made or a living process has it. A dead process's socket is replaced.
    pub async fn bind(path: &Path) -> Result<Self, ServeError> {
        Ok(Self { listener: listen_unix(path).await?, path: path.to_owned() })
    }

    /// Serves `service` until `shutdown`, then removes the socket.
    ///
    /// # Errors
    /// [`ServeError::Serve`] if the listener fails.
    pub async fn serve<S: Service>(
        self,
        service: Arc<S>,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), ServeError> {
        let routes = routes::shared(Arc::clone(&service)).merge(routes::socket_only(service));
        let result = run(FileListener(self.listener), routes, shutdown).await;
        let _ = std::fs::remove_file(&self.path); // the next start replaces it anyway
        result
    }
}

/// A socket at `path`. It is made in a folder only we can enter, then moved, so that nobody else can ever connect.
async fn listen_unix(path: &Path) -> Result<UnixListener, ServeError> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(ServeError::NotASocket { path: path.to_owned() });
        }
        Ok(_) if UnixStream::connect(path).await.is_ok() => {
            return Err(ServeError::SocketInUse { path: path.to_owned() });
        }
        _ => {}
    }
    let folder = path.with_extension(format!("new-{}", std::process::id()));
    let made = folder.join("s");
    let got = made.as_os_str().len();
    if got > SOCKET_PATH_LEN_MAX {
        return Err(ServeError::SocketPathTooLong { path: path.to_owned(), got });
    }
    let _ = std::fs::remove_dir_all(&folder); // left by a process of our number that died here
    let make = || {
        DirBuilder::new().mode(0o700).create(&folder)?;
        let listener = UnixListener::bind(&made)?;
        std::fs::set_permissions(&made, Permissions::from_mode(0o600))?;
        std::fs::rename(&made, path)?;
        Ok(listener)
    };
    let listener = make().map_err(|error| ServeError::Socket { path: path.to_owned(), error });
    let _ = std::fs::remove_dir_all(&folder); // empty now
    listener
}

/// The loopback door, bound but not yet served.
#[derive(Debug)]
pub struct TcpServer {
    listener: TcpListener,
    address: SocketAddr,
    token: Arc<str>,
}

impl TcpServer {
    /// Listens on `address` (port 0: any free one) for callers that bring `token`.
    ///
    /// # Errors
    /// [`ServeError`] if the address is not loopback, the token too short, or the port taken.
    pub async fn bind(address: SocketAddr, token: &str) -> Result<Self, ServeError> {
        if !address.ip().is_loopback() {
            return Err(ServeError::NotLoopback { address });
        }
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
        let routes = routes::shared(service)
            .merge(routes::socket_only_refused())
            .layer(middleware::from_fn_with_state(self.token, token::require));
        run(self.listener, routes, shutdown).await
    }
}

/// Listens for callers that bring `token`, and where.
pub(crate) async fn listen(address: SocketAddr, token: &str) -> Result<(TcpListener, SocketAddr), ServeError> {
    if token.len() < TOKEN_LEN_MIN {
        return Err(ServeError::TokenTooShort { got: token.len() });
    }
    let failed = |error| ServeError::Listen { address, error };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// Serves until `shutdown`, then gives what is under way [`SHUTDOWN_GRACE`]. What takes longer ends with the runtime.
pub(crate) async fn run<L: Listener<Io: Unpin + Carries>>(
    listener: L,
    routes: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError>
where
    L::Addr: std::fmt::Debug,
{
    let (began, mut begins) = watch::channel(false);
    let shutdown = async move {
        shutdown.await;
        tracing::debug!("the local API takes no more requests");
        let _ = began.send(true); // nobody waits once serving ended
    };
    let limited = Limited::new(listener, CONNECTION_COUNT_MAX);
    let routes = routes.into_make_service_with_connect_info::<Passed>();
    let serving = axum::serve(limited, routes).with_graceful_shutdown(shutdown).into_future();
    let grace = async {
        if begins.wait_for(|began| *began).await.is_err() {
            std::future::pending::<()>().await; // serving ended by itself and says so
        }
        tokio::time::sleep(SHUTDOWN_GRACE).await;
    };
    tokio::select! {
        result = serving => result.map_err(ServeError::Serve),
        () = grace => {
            tracing::debug!("some answers are still under way");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(folder: &tempfile::TempDir) -> PathBuf {
        folder.path().join("node.sock")
    }

    #[tokio::test]
    async fn the_socket_is_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let _server = UnixServer::bind(&socket(&folder)).await.unwrap();
        let mode = std::fs::metadata(socket(&folder)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "only the socket is left");
    }

    #[tokio::test]
    async fn a_living_node_keeps_its_socket() {
        let folder = tempfile::tempdir().unwrap();
        let _server = UnixServer::bind(&socket(&folder)).await.unwrap();
        let error = UnixServer::bind(&socket(&folder)).await.unwrap_err();
        assert!(matches!(error, ServeError::SocketInUse { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_dead_node_s_socket_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        drop(std::os::unix::net::UnixListener::bind(socket(&folder)).unwrap());
        UnixServer::bind(&socket(&folder)).await.unwrap();
        UnixStream::connect(socket(&folder)).await.unwrap_err(); // dropped at once: dead again
    }

    #[tokio::test]
    async fn a_file_in_the_socket_s_place_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(socket(&folder), "precious").unwrap();
        let error = UnixServer::bind(&socket(&folder)).await.unwrap_err();
        assert!(matches!(error, ServeError::NotASocket { .. }), "{error}");
        assert_eq!(std::fs::read(socket(&folder)).unwrap(), b"precious");
    }

    #[tokio::test]
    async fn a_path_too_long_for_a_socket_is_refused_with_its_length() {
        let folder = tempfile::tempdir().unwrap();
        let error = UnixServer::bind(&folder.path().join("x".repeat(SOCKET_PATH_LEN_MAX))).await.unwrap_err();
        assert!(matches!(error, ServeError::SocketPathTooLong { got, .. } if got > SOCKET_PATH_LEN_MAX), "{error}");
    }

    #[tokio::test]
    async fn a_socket_in_a_missing_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = UnixServer::bind(&folder.path().join("none/node.sock")).await.unwrap_err();
        assert!(matches!(error, ServeError::Socket { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_port_others_can_reach_is_refused() {
        let address = "0.0.0.0:0".parse().unwrap();
        let error = TcpServer::bind(address, &"t".repeat(TOKEN_LEN_MIN)).await.unwrap_err();
        assert!(matches!(error, ServeError::NotLoopback { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_short_token_is_refused() {
        let error = TcpServer::bind("127.0.0.1:0".parse().unwrap(), &"t".repeat(TOKEN_LEN_MIN - 1)).await.unwrap_err();
        assert!(matches!(error, ServeError::TokenTooShort { got } if got == TOKEN_LEN_MIN - 1), "{error}");
    }

    #[tokio::test]
    async fn a_taken_port_is_named() {
        let token = "t".repeat(TOKEN_LEN_MIN);
        let first = TcpServer::bind("127.0.0.1:0".parse().unwrap(), &token).await.unwrap();
        let error = TcpServer::bind(first.address(), &token).await.unwrap_err();
        assert!(matches!(error, ServeError::Listen { address, .. } if address == first.address()), "{error}");
    }
}
