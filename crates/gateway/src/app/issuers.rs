//! The keys of every issuer that some workload trusts, kept from one configuration to the next.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use corral_identity::jwks::{JwksError, KeySource, KeySourceOptions};
use corral_model::resource::TrustRule;

use super::config::Config;

/// By issuer, address of its keys, and certificates: a rule that says something else of an issuer
/// does not share what another one found.
type Key = (String, Option<String>, Option<String>);

/// Every trusted issuer's keys.
#[derive(Debug, Default)]
pub(crate) struct Issuers(Mutex<BTreeMap<Key, Arc<KeySource>>>);

/// Where the keys of a rule's issuer are.
pub(super) fn options(rule: &TrustRule) -> KeySourceOptions {
    KeySourceOptions {
        issuer: rule.issuer.clone(),
        jwks_uri: rule.jwks_uri.clone(),
        ca_pem: rule.ca.clone(),
    }
}

fn key(rule: &TrustRule) -> Key {
    (rule.issuer.clone(), rule.jwks_uri.clone(), rule.ca.clone())
}

impl Issuers {
    /// Forgets issuers that nobody trusts any more.
    pub(super) fn follow(&self, config: &Config) {
        let rules = config.workloads.values().flat_map(|workload| &workload.trust);
        let trusted: Vec<Key> = rules.map(key).collect();
        self.lock().retain(|known, _| trusted.contains(known));
    }

    /// The keys of a rule's issuer; asks nobody yet.
    ///
    /// # Errors
    /// The configuration is to blame, which is checked when it is applied.
    pub(super) fn of(&self, rule: &TrustRule) -> Result<Arc<KeySource>, JwksError> {
        let mut sources = self.lock();
        if let Some(known) = sources.get(&key(rule)) {
            return Ok(known.clone());
        }
        let source = Arc::new(KeySource::new(&options(rule))?);
        sources.insert(key(rule), source.clone());
        Ok(source)
    }

    /// Nothing panics while it is held, and every change is whole.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Arc<KeySource>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
