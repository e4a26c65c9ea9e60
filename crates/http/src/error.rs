//! Every way the local API can fail: code, status and next step, in one table.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bithealth_types::{ByteLen, RecordId};
use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($(#[$doc:meta])* $code:ident $status:ident $next_step:literal;)*) => {
        /// What went wrong, for programs. In JSON in snake case.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum ErrorCode {
            $($(#[$doc])* $code,)*
        }

        impl ErrorCode {
            /// Every code there is.
            pub const ALL: &[Self] = &[$(Self::$code),*];

            /// The HTTP status it travels under.
            pub fn status(self) -> StatusCode {
                match self { $(Self::$code => StatusCode::$status,)* }
            }

            /// What a person can do about it, unless the place that failed knows better.
            pub fn next_step(self) -> &'static str {
                match self { $(Self::$code => $next_step,)* }
            }
        }
    };
}

codes! {
    /// A parameter, header or body that cannot be read.
    BadRequest BAD_REQUEST "correct the request; `bithealth COMMAND --help` lists what is accepted";
    /// No token, or a false one.
    Unauthorized UNAUTHORIZED "send the token of the node's data folder as `Authorization: Bearer TOKEN`";
    /// Asked over TCP for what only the socket gives.
    SocketOnly FORBIDDEN "ask on the node's own machine, over its socket";
    /// There is no such route.
    NoRoute NOT_FOUND "the command line and the node may be of different versions; compare `bithealth --version`";
    /// No record has this id here.
    NotFound NOT_FOUND "`bithealth ls` lists the records this node can read";
    /// The record exists, but was not sealed to this organisation.
    NotGranted FORBIDDEN "ask its author to put the record with `--for` and the name of your organisation";
    /// The wanted bytes lie past the record's end.
    RangeNotSatisfiable RANGE_NOT_SATISFIABLE "ask for bytes inside the record";
    /// No organisation has this name.
    UnknownOrganisation UNPROCESSABLE_ENTITY "`bithealth status` lists the organisations of the network";
    /// No proposal has this id.
    UnknownProposal NOT_FOUND "`bithealth admin proposals` lists what was proposed";
    /// The ledger's rules forbid it.
    AgainstRules CONFLICT "`bithealth status` says who is a member, `bithealth admin proposals` what was proposed";
    /// No code and layout of today's nodes can hold the wanted policy.
    PolicyImpossible UNPROCESSABLE_ENTITY "ask for less, or add nodes in other regions";
    /// Too few shards can be reached now.
    Unreachable SERVICE_UNAVAILABLE "`bithealth peers` shows who is connected; ask again when more nodes are";
    /// No block covers it yet.
    NotFinal SERVICE_UNAVAILABLE "ask again soon; `bithealth status` says which validators are missing";
    /// Somebody signed another history than the one that is here.
    Forked CONFLICT "keep what was refused, compare `bithealth ledger verify` with other members, and tell them all";
    /// Too much at once.
    Busy SERVICE_UNAVAILABLE "ask again in a moment";
    /// The node is going down.
    Stopping SERVICE_UNAVAILABLE "start it again with `bithealth node`";
    /// The disk or the node's quota is full.
    DiskFull INSUFFICIENT_STORAGE "free space on the node's disk, or raise its capacity";
    /// A file was to be handed over, and none came; between machines none can.
    NoFile BAD_REQUEST "ask for the bytes, without `into`, and write them yourself";
    /// The open file that the caller handed over cannot be written.
    FileNotWritten INSUFFICIENT_STORAGE "free space where the file lies, or choose another place for it";
    /// What was read is not what was written, and could not be repaired from peers.
    Damaged INTERNAL_SERVER_ERROR "`bithealth verify --full` lists what is damaged and repairs it from peers";
    /// A fault of the node itself.
    Internal INTERNAL_SERVER_ERROR "the node's log says more; run it with `RUST_LOG=debug`";
}

/// A failed request, as the caller gets it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ErrorBody {
    /// For programs.
    pub error: ErrorCode,
    /// What happened, to what.
    pub message: String,
    /// What to do.
    pub next_step: String,
    /// Only with [`ErrorCode::RangeNotSatisfiable`]: what the record has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plaintext_len: Option<ByteLen>,
}

impl ErrorBody {
    /// A failure with the code's own next step.
    pub fn new(error: ErrorCode, message: impl ToString) -> Self {
        Self { error, message: message.to_string(), next_step: error.next_step().to_owned(), plaintext_len: None }
    }

    /// The wanted bytes lie outside the `len` bytes of `record`.
    pub fn range_not_satisfiable(record: &RecordId, len: u64) -> Self {
        let message = format!("record {record} has {len} bytes, none of them in the range asked for");
        Self { plaintext_len: Some(ByteLen(len)), ..Self::new(ErrorCode::RangeNotSatisfiable, message) }
    }

    /// With a next step that knows more than the code's own.
    pub fn with_next_step(self, next_step: impl Into<String>) -> Self {
        Self { next_step: next_step.into(), ..self }
    }
}

impl IntoResponse for ErrorBody {
    fn into_response(self) -> Response {
        let content_range = self.plaintext_len.map(|len| format!("bytes */{}", len.0));
        let mut response = (self.error.status(), Json(self)).into_response();
        if let Some(value) = content_range.and_then(|text| HeaderValue::try_from(text).ok()) {
            response.headers_mut().insert(header::CONTENT_RANGE, value); // RFC 9110, 15.5.17
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_an_error_status_and_says_what_to_do() {
        for code in ErrorCode::ALL {
            assert!(code.status().is_client_error() || code.status().is_server_error(), "{code:?}");
            assert!(!code.next_step().is_empty() && !code.next_step().ends_with('.'), "{code:?}");
        }
    }

    #[test]
    fn a_failure_reads_back_from_its_json() {
        let body = ErrorBody::range_not_satisfiable(&RecordId([1; 16]), 9).with_next_step("look");
        let json = serde_json::to_string(&body).unwrap();
        assert!(json.contains("\"error\":\"range_not_satisfiable\""), "{json}");
        assert_eq!(serde_json::from_str::<ErrorBody>(&json).unwrap(), body);
    }

    #[test]
    fn an_unsatisfiable_range_tells_the_length() {
        let response = ErrorBody::range_not_satisfiable(&RecordId([1; 16]), 9).into_response();
        assert_eq!(response.status(), StatusCode::RANGE_NOT_SATISFIABLE);
        assert_eq!(response.headers()[header::CONTENT_RANGE], "bytes */9");
    }
}
