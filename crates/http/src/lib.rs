//! The routes of the local API, over one [`Service`] trait.
//!
//! A node serves them on a Unix socket that only its own user can open ([`serve_unix`]) and, if asked, on a loopback port
//! behind a bearer token ([`serve_tcp`]). Who only watches has a door of its own ([`MonitorServer`]). [`api`] holds the JSON both sides speak, [`ErrorCode`] every way to fail. Nothing
//! is decided here: a handler turns a request into one call of the service and its answer into a response.
//!
//! | route | call |
//! |---|---|
//! | `POST /v1/records` | [`Service::put`]: frames in, JSON lines of [`api::PutEvent`] out, both at once |
//! | `GET /v1/records` | [`Service::list`]: JSON lines of [`api::RecordInfo`] |
//! | `GET /v1/records/{record}` | [`Service::get`]: the bytes; `Range` is honoured |
//! | `GET /v1/records/{record}?into=OFFSET` | [`Service::get_into`]: written into the open file that came with the connection ([`WithFile`]), JSON lines of [`api::GetEvent`] out |
//! | `GET /v1/export` | [`Service::get_all`]: frames out |
//! | `GET /v1/status`, `/v1/peers`, `/v1/members` | JSON |
//! | `POST /v1/verify` | [`Service::verify`]: JSON lines of [`api::VerifyEvent`] |
//! | `GET /v1/restore` | [`Service::restore`]: JSON lines of [`api::RestoreEvent`] |
//! | `POST /v1/invites` | [`Service::invite`] |
//! | `GET /v1/recovery` | [`Service::recovery`] |
//! | `POST /v1/recovery` | [`Service::submit_recovery`] |
//! | `POST /v1/recovery/proposal` | [`Service::propose_recovery`] |
//! | `GET /v1/recovery/export` | [`Service::export_recovery`] |
//! | `POST /v1/proposals` | [`Service::propose`] |
//! | `GET /v1/proposals` | [`Service::proposals`] |
//! | `POST /v1/proposals/{id}/approvals` | [`Service::approve`] |
//! | `DELETE /v1/nodes/{id}` | [`Service::retire`] |
//! | `POST /v1/kit` | [`Service::kit`]: text; on the socket only, it holds the recovery secret |
//! | `GET /v1/ledger/checkpoint`, `/v1/ledger/witnesses` | JSON; the text in it is for witnesses |
//! | `POST /v1/ledger/cosignatures` | [`Service::cosigned`]: a cosigned note in, JSON out |
//! | `GET /metrics` | [`Service::metrics`]: OpenMetrics text |
//! | `GET /v1/health` | JSON; nothing is asked of the service |
//! | `GET /v1/ready` | [`Service::ready`]: JSON, with status 503 while it is not |
//! | `POST /v1/stop` | [`Service::stop`] |

pub mod api;
mod body;
mod error;
mod frames;
mod limit;
mod metrics;
mod monitor;
mod passing;
mod query;
mod range;
mod routes;
mod serve;
mod service;
mod token;

pub use error::{ErrorBody, ErrorCode};
pub use frames::{FRAME_HEAD_LEN, FRAME_LEN_MAX, FrameError, Frames};
pub use limit::CONNECTION_COUNT_MAX;
pub use monitor::MonitorServer;
pub use passing::WithFile;
pub use query::{Query, QueryError, percent_encode};
pub use range::ByteRange;
pub use routes::RECORD_HEADER;
pub use serve::{SHUTDOWN_GRACE, ServeError, TOKEN_LEN_MIN, TcpServer, UnixServer, serve_tcp, serve_unix};
pub use service::{ByteStream, EventStream, ExportAnswer, GetAnswer, Service, WrittenStream};
