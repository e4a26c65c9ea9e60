//! What the command line says when it cannot: what happened, to what, and what to do.

use std::fmt::Display;
use std::path::Path;

use super::exit::Exit;
use crate::client::ClientError;

/// A failed command.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What the program ends with.
    pub(crate) exit: Exit,
    /// What happened, to what.
    pub(crate) what: String,
    /// What to do.
    pub(crate) next: Option<String>,
}

impl Failure {
    pub(crate) fn new(what: impl Display) -> Self {
        Self { exit: Exit::Failed, what: what.to_string(), next: None }
    }

    pub(crate) fn usage(what: impl Display) -> Self {
        Self { exit: Exit::Usage, ..Self::new(what) }
    }

    pub(crate) fn io(what: impl Display, error: std::io::Error) -> Self {
        Self::new(format_args!("{what}: {error}"))
    }

    pub(crate) fn file(path: &Path, error: std::io::Error) -> Self {
        Self::io(path.display(), error)
    }

    pub(crate) fn next(self, next: impl Into<String>) -> Self {
        Self { next: Some(next.into()), ..self }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let exit = match error {
            ClientError::NotRunning { .. } | ClientError::Denied { .. } => Exit::NotRunning,
            _ => Exit::Failed,
        };
        Self { exit, next: Some(error.next_step()), what: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bithealth_http::{ErrorBody, ErrorCode};

    #[test]
    fn a_node_that_does_not_run_names_the_socket_and_the_command() {
        let failure = Failure::from(ClientError::NotRunning { socket: "/data/node.sock".into() });
        assert_eq!(failure.exit, Exit::NotRunning);
        assert_eq!(failure.what, "no node answers on /data/node.sock");
        assert_eq!(failure.next.unwrap(), "start it with `bithealth --data-dir /data node`");
    }

    #[test]
    fn a_refusal_keeps_the_node_s_own_next_step() {
        let body = ErrorBody::new(ErrorCode::DiskFull, "the disk is full").with_next_step("free 2 GiB");
        let failure = Failure::from(ClientError::Refused(body));
        assert_eq!((failure.exit, failure.what.as_str()), (Exit::Failed, "the disk is full"));
        assert_eq!(failure.next.as_deref(), Some("free 2 GiB"));
    }
}
