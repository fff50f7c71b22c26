//! The user name that a client sends: `LOGIN@TARGET`, or `LOGIN` where a listener has one target.

use corral_model::ids::TargetName;

use crate::bounds;

/// Whom a client wants to be, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UserName {
    pub(crate) login: String,
    /// Empty: the listener's own.
    pub(crate) target: String,
}

/// What is wrong with a user name; the text is for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NameError {
    #[error("the user name is LOGIN@TARGET: ssh LOGIN@TARGET@GATEWAY")]
    NoTarget,
    #[error("the login before '@TARGET' is empty")]
    NoLogin,
    #[error("the user name has characters that no login has, or is too long")]
    Unreadable,
    #[error("this port is for another target; write the login alone")]
    OtherTarget,
}

impl UserName {
    /// Reads a user name. The last '@' splits, so that a login may have one (`ada@example.com`).
    ///
    /// # Errors
    /// [`NameError`]: the client is to blame.
    pub(crate) fn parse(text: &str, of_listener: Option<&TargetName>) -> Result<Self, NameError> {
        let is_odd = |c: char| c.is_control() || c.is_whitespace();
        if text.len() > bounds::USER_NAME_BYTES_MAX || text.chars().any(is_odd) {
            return Err(NameError::Unreadable);
        }
        let (login, target) = match (text.rsplit_once('@'), of_listener) {
            (Some((login, target)), None) if !target.is_empty() => (login, target),
            (Some(_) | None, None) => return Err(NameError::NoTarget),
            (Some((login, target)), Some(own)) if target == own.as_str() => (login, ""),
            (Some(_), Some(_)) => return Err(NameError::OtherTarget),
            (None, Some(_)) => (text, ""),
        };
        if login.is_empty() {
            return Err(NameError::NoLogin);
        }
        Ok(Self { login: login.to_owned(), target: target.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, of_listener: Option<&str>, expect: Result<(&str, &str), NameError>) {
        let own = of_listener.map(|name| name.parse::<TargetName>().expect("a target's name"));
        let found = UserName::parse(text, own.as_ref());
        let expect =
            expect.map(|(login, target)| UserName { login: login.into(), target: target.into() });
        assert_eq!(found, expect, "{text:?} {of_listener:?}");
    }

    #[test]
    fn user_names_are_split_at_the_last_at() {
        check("root@web-1", None, Ok(("root", "web-1")));
        check("ada@example.com@web-1", None, Ok(("ada@example.com", "web-1")));
        check("root", Some("web-1"), Ok(("root", "")));
        check("root@web-1", Some("web-1"), Ok(("root", "")));
        check("root@web-2", Some("web-1"), Err(NameError::OtherTarget));
        check("root", None, Err(NameError::NoTarget));
        check("root@", None, Err(NameError::NoTarget));
        check("@web-1", None, Err(NameError::NoLogin));
        check("", Some("web-1"), Err(NameError::NoLogin));
        check("ro\not@web-1", None, Err(NameError::Unreadable));
        check(&"a".repeat(600), Some("web-1"), Err(NameError::Unreadable));
    }
}
