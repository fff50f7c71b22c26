//! Why a command failed: what the user reads, and what the process exits with.

use std::fmt;

use corral_api::{ApiError, ErrorCode};

/// The exit codes of CONTRACT section 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Failed,
    Usage,
    Denied,
    NotFound,
    Unreachable,
    /// The command's own: that of the program which it ran.
    Of(u8),
}

impl Exit {
    #[must_use]
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Denied => 3,
            Self::NotFound => 4,
            Self::Unreachable => 5,
            Self::Of(code) => code,
        }
    }
}

/// A command that did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub exit: Exit,
    /// What was wrong, where, and what would be right. Nothing is printed when it is empty.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None }
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// A file that cannot be read or written.
    pub(crate) fn io(doing: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::failed(format!("cannot {doing} {}: {error}", path.display()))
    }

    #[must_use]
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Without a hint, where it would lead back to what just failed.
    #[must_use]
    pub(crate) fn without_hint(mut self) -> Self {
        self.hint = None;
        self
    }

    /// Ends with this exit code and says nothing more.
    #[must_use]
    pub(crate) fn silent(exit: Exit) -> Self {
        Self { exit, message: String::new(), hint: None }
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        let exit = match error.code.exit_code() {
            3 => Exit::Denied,
            4 => Exit::NotFound,
            other => Exit::Of(other),
        };
        let hint = match error.code {
            ErrorCode::Unauthenticated => {
                Some("sign in with `corral login`, or pass --token-file or CORRAL_TOKEN".to_owned())
            }
            ErrorCode::Invalid
            | ErrorCode::Denied
            | ErrorCode::NotFound
            | ErrorCode::Conflict
            | ErrorCode::TooLarge
            | ErrorCode::LimitReached
            | ErrorCode::Unavailable
            | ErrorCode::Internal => {
                error.decision.map(|id| format!("`corral policy explain {id}` says why"))
            }
        };
        Self { exit, message: error.message, hint }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("corral: ")?;
        // Every line says whose it is, so that it can be told from the output of a child.
        f.write_str(&crate::text::visible_lines(&self.message).replace('\n', "\ncorral: "))?;
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateways_errors_become_the_contracts_exit_codes() {
        let check = |code: ErrorCode, exit: u8| {
            assert_eq!(Failure::from(ApiError::new(code, "x")).exit.code(), exit, "{code:?}");
        };
        check(ErrorCode::Denied, 3);
        check(ErrorCode::Unauthenticated, 3);
        check(ErrorCode::NotFound, 4);
        check(ErrorCode::Invalid, 1);
        check(ErrorCode::Internal, 1);
    }

    #[test]
    fn every_line_of_a_message_says_whose_it_is() {
        let failure = Failure::failed("one\ntwo").with_hint("three");
        assert_eq!(failure.to_string(), "corral: one\ncorral: two\nhint: three");
    }

    #[test]
    fn a_message_cannot_drive_the_terminal() {
        let failure = Failure::failed("a\u{1b}[2Jb");
        assert!(!failure.to_string().contains('\u{1b}'));
    }
}
