//! Identifiers as newtypes, so that a run can never be passed where a session is meant.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use crate::limits;

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error("a name cannot be empty")]
    Empty,
    #[error("'{text}' is {len} bytes long; at most {max} are allowed")]
    TooLong { text: String, len: usize, max: usize },
    #[error("'{text}' holds '{character}'; allowed here: {allowed}")]
    BadCharacter { text: String, character: char, allowed: &'static str },
}

fn check(
    text: &str,
    max: usize,
    allowed: &'static str,
    is_allowed: fn(char) -> bool,
) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if text.len() > max {
        return Err(IdError::TooLong {
            text: text.chars().take(80).collect(),
            len: text.len(),
            max,
        });
    }
    match text.chars().find(|c| !is_allowed(*c)) {
        Some(character) => Err(IdError::BadCharacter { text: text.to_owned(), character, allowed }),
        None => Ok(()),
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $max:expr, $allowed:literal, $is_allowed:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Checks `text` and makes an identifier of it.
            ///
            /// # Errors
            /// [`IdError`] when it is empty, too long or holds a character that is not allowed:
            /// whoever wrote the text is to blame.
            pub fn new(text: impl Into<String>) -> Result<Self, IdError> {
                let text: String = text.into();
                check(&text, $max, $allowed, $is_allowed)?;
                Ok(Self(text))
            }

            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::new(text).map_err(serde::de::Error::custom)
            }
        }
    };
}

fn is_id_character(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_'
}

fn is_target_character(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'
}

fn is_name_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@' | '+' | ':' | '/')
}

text_id!(
    /// One execution of an agent.
    RunId, limits::ID_BYTES_MAX, "a-z, 0-9, '-' and '_'", is_id_character
);
text_id!(
    /// One client connection to one target.
    SessionId, limits::ID_BYTES_MAX, "a-z, 0-9, '-' and '_'", is_id_character
);
text_id!(
    /// One request for a person's approval.
    ApprovalId, limits::ID_BYTES_MAX, "a-z, 0-9, '-' and '_'", is_id_character
);
text_id!(
    /// A target's name as clients write it: lower case letters, digits and '-', 1 to 63 bytes.
    TargetName, 63, "a-z, 0-9 and '-'", is_target_character
);
text_id!(
    /// A group of principals.
    GroupName, limits::NAME_BYTES_MAX, "letters, digits and -_.@+:/", is_name_character
);
text_id!(
    /// The name of a user or a workload.
    PrincipalName, limits::NAME_BYTES_MAX, "letters, digits and -_.@+:/", is_name_character
);
text_id!(
    /// The name of a policy, a limit or another resource that no client connects to.
    ResourceName, limits::NAME_BYTES_MAX, "letters, digits and -_.@+:/", is_name_character
);

text_id!(
    /// A command with typed parameters, as clients write it: one plain word.
    CommandName, limits::ID_BYTES_MAX, "a-z, 0-9, '-' and '_'", is_id_character
);

/// Number of a statement within its session, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StatementSeq(pub u64);

/// Number of the configuration under which something was decided; it grows with every change.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Default,
)]
#[serde(transparent)]
pub struct PolicyVersion(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_names_follow_the_contract() {
        let good = ["orders-db", "a", "1"];
        let too_long = "x".repeat(64);
        let bad = ["", "Orders", "orders_db", "orders db", "orders/db", too_long.as_str()];
        for text in good {
            assert!(TargetName::new(text).is_ok(), "{text}");
        }
        for text in bad {
            assert!(TargetName::new(text).is_err(), "{text}");
        }
    }
}
