//! Login tokens that are valid: whose each one is, and until when.

use std::collections::HashMap;

use corral_model::Principal;
use corral_model::token::TokenDigest;
use time::OffsetDateTime;
use tokio::time::Instant;

/// A valid login token.
#[derive(Debug, Clone)]
pub(crate) struct LiveLogin {
    pub(crate) principal: Principal,
    pub(crate) deadline: Instant,
    pub(crate) expires_at: OffsetDateTime,
}

impl LiveLogin {
    pub(crate) fn is_live(&self, now: Instant) -> bool {
        now < self.deadline
    }
}

/// All login tokens, by digest.
#[derive(Debug, Default)]
pub(crate) struct Logins {
    by_token: HashMap<TokenDigest, LiveLogin>,
}

impl Logins {
    pub(crate) fn insert(&mut self, token: TokenDigest, login: LiveLogin) {
        self.by_token.insert(token, login);
    }

    /// The login of a token, also one that is over. Until the store knows that it ended, it must
    /// not be asked: it measures with a clock that can be set back.
    pub(crate) fn get(&self, token: &TokenDigest) -> Option<LiveLogin> {
        self.by_token.get(token).cloned()
    }

    pub(crate) fn remove(&mut self, token: &TokenDigest) -> Option<LiveLogin> {
        self.by_token.remove(token)
    }

    pub(crate) fn remove_of(&mut self, principal: &Principal) {
        self.by_token.retain(|_, login| login.principal != *principal);
    }

    /// The tokens that are over. Whoever ended them in the store removes them.
    pub(crate) fn expired(&self, now: Instant) -> Vec<TokenDigest> {
        let over = self.by_token.iter().filter(|(_, login)| !login.is_live(now));
        over.map(|(token, _)| *token).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use corral_model::ids::PrincipalName;

    use super::*;

    #[test]
    fn a_clock_set_back_does_not_lengthen_a_login() {
        let start = Instant::now();
        let hour = Duration::from_secs(3600);
        let wall = OffsetDateTime::UNIX_EPOCH + 1000 * hour;
        let principal = Principal::user(PrincipalName::new("ada").expect("a name"));
        let token = TokenDigest([7; 32]);
        let mut logins = Logins::default();
        // By the wall it would be valid for years more.
        let login =
            LiveLogin { principal, deadline: start + hour, expires_at: wall + 100_000 * hour };
        logins.insert(token, login);

        let found = |now| logins.get(&token).expect("known").is_live(now);
        assert!(found(start));
        assert!(!found(start + hour));
        assert_eq!(logins.expired(start), []);
        assert_eq!(logins.expired(start + hour), [token]);
        // It stays known as ended until it is removed.
        assert!(logins.get(&token).is_some());
        logins.remove(&token);
        assert!(logins.get(&token).is_none());
    }
}
