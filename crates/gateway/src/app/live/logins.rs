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

/// All login tokens, by digest.
#[derive(Debug, Default)]
pub(crate) struct Logins {
    by_token: HashMap<TokenDigest, LiveLogin>,
}

impl Logins {
    pub(crate) fn insert(&mut self, token: TokenDigest, login: LiveLogin) {
        self.by_token.insert(token, login);
    }

    /// The login of a token that is still valid.
    pub(crate) fn get(&self, token: &TokenDigest, now: Instant) -> Option<LiveLogin> {
        self.by_token.get(token).filter(|login| now < login.deadline).cloned()
    }

    pub(crate) fn remove(&mut self, token: &TokenDigest) -> Option<LiveLogin> {
        self.by_token.remove(token)
    }

    pub(crate) fn remove_of(&mut self, principal: &Principal) {
        self.by_token.retain(|_, login| login.principal != *principal);
    }

    /// Forgets what is over.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<TokenDigest> {
        let is_over = |login: &LiveLogin| login.deadline <= now;
        let over: Vec<TokenDigest> = self
            .by_token
            .iter()
            .filter(|(_, login)| is_over(login))
            .map(|(token, _)| *token)
            .collect();
        self.by_token.retain(|_, login| !is_over(login));
        over
    }
}
