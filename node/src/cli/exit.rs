//! How the program ends: one table, which `--help` prints.

use std::process::ExitCode;

macro_rules! exits {
    ($($(#[$doc:meta])* $name:ident $code:literal $text:literal;)*) => {
        /// How the program ends.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Exit {
            $($(#[$doc])* $name = $code,)*
        }

        /// The end of `--help`.
        pub(crate) const EXIT_HELP: &str = concat!("Exit status:\n", $("  ", stringify!($code), "\t", $text, "\n",)*);

        #[cfg(test)]
        const ALL: &[Exit] = &[$(Exit::$name),*];
    };
}

exits! {
    /// All of it.
    Done 0 "done";
    /// None of it.
    Failed 1 "failed";
    /// The rest was done.
    Partly 2 "partly failed: what failed is named, the rest is done";
    /// There is nobody to ask.
    NotRunning 3 "the node does not run, or may not be asked by this user";
    /// Durable here, and not yet elsewhere.
    LocalOnly 4 "kept on this node, but not replicated in the time given";
    /// `EX_USAGE` of sysexits.h.
    Usage 64 "wrong usage";
    /// As shells report SIGINT.
    Interrupted 130 "interrupted";
}

impl Exit {
    /// Of two parts of one command.
    pub(crate) fn worse(self, other: Self) -> Self {
        match (self, other) {
            (Self::Done, exit) | (exit, Self::Done) => exit,
            (a, b) if a == b => a,
            _ => Self::Partly,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_lists_every_code_once() {
        assert_eq!(EXIT_HELP.lines().count(), ALL.len() + 1);
        for exit in ALL {
            let start = format!("  {}\t", *exit as u8);
            assert_eq!(EXIT_HELP.lines().filter(|line| line.starts_with(&start)).count(), 1, "{exit:?}");
        }
    }

    #[test]
    fn two_parts_are_done_only_together() {
        assert_eq!(Exit::Done.worse(Exit::Done), Exit::Done);
        assert_eq!(Exit::Done.worse(Exit::Partly), Exit::Partly);
        assert_eq!(Exit::Failed.worse(Exit::Done), Exit::Failed);
        assert_eq!(Exit::Failed.worse(Exit::Partly), Exit::Partly);
    }

    #[test]
    fn a_partial_failure_differs_from_success_and_failure() {
        assert_eq!([Exit::Done as u8, Exit::Failed as u8, Exit::Partly as u8, Exit::Usage as u8], [0, 1, 2, 64]);
    }
}
