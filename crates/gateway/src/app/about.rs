//! What a client must know to use this gateway.

use std::collections::BTreeMap;

use corral_model::ids::TargetName;

use super::{App, AppError, Caller};

/// The gateway as its clients see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    pub name: String,
    pub version: &'static str,
    /// Protocol id to `address:port`, as clients reach it; `https` is the API.
    pub listeners: BTreeMap<String, String>,
    /// The certificate authority of the listeners, PEM.
    pub ca_pem: String,
}

/// How to reach one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectFacts {
    pub target: TargetName,
    pub protocol: String,
    pub host: String,
    pub port: u16,
    /// What a client names as its database; None on a dedicated listener.
    pub database: Option<String>,
}

impl App {
    #[must_use]
    pub fn about(&self) -> About {
        todo!()
    }

    /// What `corral env` and `corral connect` need.
    ///
    /// # Errors
    /// [`AppError::NotFound`] when there is no such target or the caller may not know it.
    pub fn connect_facts(&self, caller: &Caller, target: &str) -> Result<ConnectFacts, AppError> {
        let _ = (caller, target);
        todo!()
    }

    /// Whether new sessions are admitted: the store answers, the record can be written, and the
    /// gateway does not drain. The text says what is wrong.
    pub async fn readiness(&self) -> Result<(), String> {
        todo!()
    }

    /// `/metrics` in Prometheus text format.
    #[must_use]
    pub fn metrics_text(&self) -> String {
        todo!()
    }
}
