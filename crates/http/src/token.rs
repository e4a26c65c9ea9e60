//! The bearer token of the TCP door (RFC 6750).

use std::hint::black_box;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::error::{ErrorBody, ErrorCode};

/// Lets a request through if it brings the token.
pub(crate) async fn require(State(token): State<Arc<str>>, request: Request, next: Next) -> Response {
    let given =
        request.headers().get(header::AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    match given {
        Some(given) if same(given, token.as_bytes()) => next.run(request).await,
        Some(_) => ErrorBody::new(ErrorCode::Unauthorized, "the bearer token is not this node's").into_response(),
        None => ErrorBody::new(ErrorCode::Unauthorized, "the request brings no bearer token").into_response(),
    }
}

/// Compares in a time that depends on the lengths only, so that a caller cannot guess the token byte by byte.
fn same(given: &[u8], token: &[u8]) -> bool {
    let differences = given.iter().zip(token).fold(0, |found, (a, b)| black_box(found | (a ^ b)));
    given.len() == token.len() && black_box(differences) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_is_the_same() {
        assert!(same(b"secret", b"secret"));
        for other in [&b"secreT"[..], b"Secret", b"secre", b"secrets", b""] {
            assert!(!same(other, b"secret"));
        }
    }
}
