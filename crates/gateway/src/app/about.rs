//! What a client must know to use this gateway, and how the gateway is.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use corral_identity::TokenDigest;
use corral_model::ids::TargetName;
use corral_model::native::{self, Lifetime, ReachedTarget};

use super::config::Target;
use super::{App, AppError, Caller};
use crate::metrics::Gauges;
use crate::protocols;
use crate::settings::HTTPS;

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

/// Where clients of a protocol go, and which targets they may find there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectFacts {
    pub protocol: String,
    pub host: String,
    pub reach: native::Reach,
}

/// Who this gateway is. Addresses and certificates may change while it runs.
pub(crate) struct Identity {
    pub(crate) name: String,
    /// Where clients are told to connect, when it is not a listener's own address.
    pub(crate) public_address: Option<String>,
    pub(crate) admin: TokenDigest,
    pub(crate) reach: Mutex<Reach>,
}

/// Where the gateway is reached and what its clients trust.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reach {
    pub(crate) listeners: BTreeMap<String, SocketAddr>,
    /// Listeners of single targets.
    pub(crate) dedicated: BTreeMap<TargetName, SocketAddr>,
    pub(crate) ca_pem: String,
}

impl Reach {
    /// The listener that all targets of a protocol share.
    fn shared(&self, protocol: &str) -> Option<SocketAddr> {
        let is_mounted = protocols::find(protocol)?.spec().mount.is_some();
        self.listeners.get(if is_mounted { HTTPS } else { protocol }).copied()
    }
}

impl Identity {
    pub(crate) fn reach(&self) -> Reach {
        self.reach.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn change_reach(&self, change: impl FnOnce(&mut Reach)) {
        change(&mut self.reach.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The host by which clients reach a listener.
    fn host(&self, address: SocketAddr) -> String {
        self.public_address.clone().unwrap_or_else(|| address.ip().to_string())
    }

    fn shown(&self, address: SocketAddr) -> String {
        match &self.public_address {
            Some(host) => format!("{host}:{}", address.port()),
            None => address.to_string(),
        }
    }
}

impl App {
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    #[must_use]
    pub fn about(&self) -> About {
        let reach = self.identity.reach();
        let listeners = reach.listeners.iter();
        About {
            name: self.identity.name.clone(),
            version: env!("CARGO_PKG_VERSION"),
            listeners: listeners
                .map(|(name, address)| (name.clone(), self.identity.shown(*address)))
                .collect(),
            ca_pem: reach.ca_pem,
        }
    }

    /// Address of the API, as clients reach it.
    pub(crate) fn api_url(&self) -> String {
        let reach = self.identity.reach();
        let https = reach.listeners.get(HTTPS);
        https.map_or_else(String::new, |address| {
            format!("https://{}", self.identity.shown(*address))
        })
    }

    /// What `corral env` and `corral connect` need.
    ///
    /// # Errors
    /// [`AppError::NotFound`] when there is no such target or the caller may not know it.
    pub fn connect_facts(
        &self,
        caller: &Caller,
        target: &str,
        lifetime: Lifetime,
    ) -> Result<ConnectFacts, AppError> {
        let not_found = || AppError::NotFound { kind: "target", name: target.to_owned() };
        let config = self.config();
        let known = config.target(target).ok_or_else(not_found)?;
        if !self.may_know_target(&config, caller, known) {
            return Err(not_found());
        }
        self.facts_of_target(known, lifetime).ok_or_else(not_found)
    }

    /// By the target's own listener, else by the one that it shares; None when it has neither.
    fn facts_of_target(&self, target: &Target, lifetime: Lifetime) -> Option<ConnectFacts> {
        let protocol = &target.spec.protocol;
        let reach = self.identity.reach();
        let (listener, address) = match reach.dedicated.get(&target.spec.name) {
            Some(own) => (native::Listener::OfTarget, *own),
            None => (native::Listener::Shared, reach.shared(protocol)?),
        };
        let targets = vec![reached(target)];
        Some(ConnectFacts {
            protocol: protocol.clone(),
            host: self.identity.host(address),
            reach: native::Reach { port: address.port(), listener, lifetime, targets },
        })
    }

    /// What a client of each protocol needs, with all targets that the caller may use. Protocols
    /// that nobody listens for are left out.
    #[must_use]
    pub fn client_facts(&self, caller: &Caller, lifetime: Lifetime) -> Vec<ConnectFacts> {
        let config = self.config();
        let all = config.targets.values();
        let known: Vec<&Target> = all
            .filter(|target| self.may_know_target(&config, caller, target))
            .map(AsRef::as_ref)
            .collect();
        let of_protocol = |id: &'static str| {
            let targets: Vec<&Target> =
                known.iter().copied().filter(|target| target.spec.protocol == id).collect();
            if let [only] = targets.as_slice() {
                return self.facts_of_target(only, lifetime);
            }
            let address = self.identity.reach().shared(id)?;
            let targets = targets.into_iter().map(reached).collect();
            let listener = native::Listener::Shared;
            Some(ConnectFacts {
                protocol: id.to_owned(),
                host: self.identity.host(address),
                reach: native::Reach { port: address.port(), listener, lifetime, targets },
            })
        };
        protocols::ids().filter_map(of_protocol).collect()
    }

    /// Whether new sessions are admitted: the store answers, the record can be written, and the
    /// gateway does not drain.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub async fn readiness(&self) -> Result<(), String> {
        if self.is_draining() {
            return Err("the gateway stops".to_owned());
        }
        self.check_authority().map_err(|denial| denial.client_text)?;
        self.store
            .config_version()
            .await
            .map(|_| ())
            .map_err(|_| "the store does not answer".to_owned())
    }

    /// Has the metrics count what an export of traces does.
    pub(crate) fn count_traces(&self, intake: corral_otlp::Intake) {
        // A gateway has one export at most.
        let _ = self.traces.set(intake);
    }

    /// `/metrics` in Prometheus text format.
    #[must_use]
    pub fn metrics_text(&self) -> String {
        let gauges = Gauges {
            sessions_open: self.live.sessions().len(),
            runs_active: self.live.runs().len(),
            approvals_pending: self.live.approvals().pending(),
            config_version: self.version().0,
        };
        self.metrics.render(&gauges, self.traces.get().map(corral_otlp::Intake::counts))
    }
}

fn reached(target: &Target) -> ReachedTarget {
    let credential = target.spec.credential.as_ref();
    ReachedTarget {
        name: target.spec.name.to_string(),
        username: credential.map(|credential| credential.username.clone()).unwrap_or_default(),
    }
}
