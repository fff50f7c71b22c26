//! How a target's credential is kept from running out, for protocols whose targets give new ones.

use std::time::Duration;

use corral_gate::Denial;
use corral_model::Secret;
use corral_transport::Endpoint;
use serde_json::{Map, Value};
use time::OffsetDateTime;

use crate::scope::BoxFuture;

/// From when to when a credential is good, as it says itself, and how long one should be good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    pub from: OffsetDateTime,
    pub until: OffsetDateTime,
    /// What the target is asked for; it may give less.
    pub wanted: Duration,
}

/// A protocol's knowledge of credentials that end. The gateway decides when it is time, keeps what
/// it was given, and knows nothing of their form.
pub trait CredentialRenewal: Send + Sync {
    /// The time of a credential that is to be renewed; None when the target's `options` ask for no
    /// renewal, or it has no end.
    ///
    /// # Errors
    /// A [`Denial`] when renewal is asked for, and this credential cannot be renewed: whoever
    /// wrote the target is to blame.
    fn lifetime(
        &self,
        options: &Map<String, Value>,
        secret: &Secret,
    ) -> Result<Option<Lifetime>, Denial>;

    /// Asks the target for a new credential with the present one. The caller limits its time.
    ///
    /// # Errors
    /// A [`Denial`] that says why there is none; the present one stays as good as it was.
    ///
    /// # Cancel safety
    /// Dropping it loses the new credential, which then ends by itself.
    fn renew<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        options: &'a Map<String, Value>,
        secret: &'a Secret,
    ) -> BoxFuture<'a, Result<Secret, Denial>>;
}
