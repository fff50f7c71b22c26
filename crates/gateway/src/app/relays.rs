//! Relays: who may join, which are connected, and the way through them.

mod authority;
mod tunnels;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use corral_identity::Token;
use corral_model::event::{EventBody, Origin};
use corral_model::ids::ResourceName;
use corral_model::resource::RelaySpec;
use corral_model::{Secret, limits};
use corral_record::Recorder;
use corral_store::{JoinToken, JoinVerdict, RelayCertificateRow};
use corral_transport::tunnel::{AllowedAddress, OnRefused, RefusedBy, RelayPool};
use corral_transport::{Endpoint, Route};
use time::OffsetDateTime;

use self::authority::{Issued, RelayAuthority, RelayRequest};
use super::config::{Config, Target};
use super::error::describe;
use super::{App, AppError, Caller};
use crate::settings::RELAY;

/// Every relay's pool, and what joining needs.
pub(crate) struct Relays {
    pools: Mutex<BTreeMap<ResourceName, Arc<RelayPool>>>,
    authority: RelayAuthority,
    certificate_lifetime: Duration,
    tunnels: tunnels::Places,
    on_refused: OnRefused,
}

/// A token with which one relay process may join, shown once.
#[derive(Debug, Clone)]
pub struct Invited {
    pub relay: String,
    pub token: Secret,
    pub expires_at: OffsetDateTime,
}

/// What a relay that joined must know.
#[derive(Debug, Clone)]
pub struct Joined {
    pub relay: String,
    pub certificate_pem: String,
    pub authority_pem: String,
    /// Where relays reach the gateway, when it is not where they reach its API.
    pub host: Option<String>,
    pub port: u16,
}

/// A relay with its connected processes.
#[derive(Debug, Clone)]
pub struct RelayState {
    pub name: String,
    pub addresses: Vec<String>,
    pub processes: Vec<RelayProcess>,
}

/// One connected relay process.
#[derive(Debug, Clone)]
pub struct RelayProcess {
    pub serial: String,
    pub address: String,
    pub joined_at: OffsetDateTime,
    pub streams: usize,
    /// It takes no more streams: it stops.
    pub is_draining: bool,
}

/// What revoking a relay ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revoked {
    pub certificates: u64,
    pub connections: u64,
}

const NOT_VALID: &str = "this join token is not valid: it is wrong, it expired, or it was used; \
                         make another one with `corral relays token NAME`";

impl Relays {
    pub(super) async fn load(
        store: &corral_store::Store,
        certificate_lifetime: Duration,
        recorder: Recorder,
    ) -> anyhow::Result<Self> {
        let authority = RelayAuthority::load(store, OffsetDateTime::now_utc()).await?;
        Ok(Self {
            pools: Mutex::default(),
            authority,
            certificate_lifetime,
            tunnels: tunnels::Places::new(),
            on_refused: Arc::new(move |relay, host, port, by| {
                note_refused(&recorder, relay, host, port, by);
            }),
        })
    }

    fn new_pool(&self, name: &ResourceName, addresses: Vec<AllowedAddress>) -> Arc<RelayPool> {
        RelayPool::new(name.as_str(), addresses, Some(self.on_refused.clone()))
    }

    /// Takes up what the configuration says: lists of addresses, and relays that are gone.
    pub(super) fn follow(&self, config: &Config) {
        let mut pools = self.lock();
        for RelaySpec { name, addresses } in config.relays.values() {
            match pools.get(name) {
                Some(pool) => pool.allow(addresses),
                None => {
                    let pool = self.new_pool(name, addresses.clone());
                    pools.insert(name.clone(), pool);
                }
            }
        }
        pools.retain(|name, pool| {
            let is_there = config.relays.contains_key(name);
            if !is_there {
                pool.allow(&[]);
                end_all(pool);
            }
            is_there
        });
    }

    fn pool(&self, name: &str) -> Option<Arc<RelayPool>> {
        let name = ResourceName::new(name).ok()?;
        self.lock().get(&name).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ResourceName, Arc<RelayPool>>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn note_refused(recorder: &Recorder, relay: &str, host: &str, port: u16, by: RefusedBy) {
    let reason = match by {
        RefusedBy::Gateway => "the relay's addresses do not have it",
        RefusedBy::Relay => "the relay process may not dial it",
    };
    let address =
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let (relay, reason) = (relay.to_owned(), reason.to_owned());
    let body = EventBody::RelayDialRefused { relay, address, reason };
    let noted = recorder.note_gateway(OffsetDateTime::now_utc(), &Origin::default(), &body);
    if let Err(error) = noted {
        tracing::error!(%error, event = body.name(), "an event is lost");
    }
}

fn end_all(pool: &RelayPool) -> u64 {
    let members = pool.members();
    for member in &members {
        member.tunnel.end();
    }
    u64::try_from(members.len()).unwrap_or(u64::MAX)
}

impl App {
    /// The way to a target, through its relay when it has one.
    pub(super) fn routed(&self, target: &Target) -> Endpoint {
        let mut endpoint = target.endpoint.clone();
        if let Some(name) = &target.spec.relay {
            // A relay that was deleted meanwhile reaches nothing.
            let pool = self.relays.pool(name.as_str());
            let pool = pool.unwrap_or_else(|| self.relays.new_pool(name, Vec::new()));
            endpoint.route = Route::Relay(pool);
        }
        endpoint
    }

    /// Makes a token with which one process of a relay may join, once.
    ///
    /// # Errors
    /// [`AppError::Denied`] for anybody but the administrator, [`AppError::NotFound`],
    /// [`AppError::Invalid`] for a time that is too short or too long,
    /// [`AppError::Unavailable`].
    pub async fn invite_relay(
        &self,
        caller: &Caller,
        relay: &str,
        ttl: Option<Duration>,
    ) -> Result<Invited, AppError> {
        caller.require_admin()?;
        self.known_relay(relay)?;
        let ttl = ttl.unwrap_or(limits::RELAY_JOIN_TTL);
        if ttl < Duration::from_secs(1) || ttl > limits::RELAY_JOIN_TTL_MAX {
            let max = limits::RELAY_JOIN_TTL_MAX.as_secs() / 86_400;
            let text = format!("ttl: a join token is valid for 1s to {max}d");
            return Err(AppError::Invalid(vec![super::Problem::new(None, text)]));
        }
        let token = Token::generate().map_err(|error| {
            tracing::error!(%error, "no token can be made");
            AppError::Unavailable("no token can be made".to_owned())
        })?;
        let created_at = OffsetDateTime::now_utc();
        let expires_at = created_at + ttl;
        let relay = relay.to_owned();
        let by = caller.label();
        let invited = EventBody::RelayInvited { relay: relay.clone(), by, expires_at };
        self.append(Origin::default(), invited)?;
        let row =
            JoinToken { digest: token.digest(), relay: relay.clone(), created_at, expires_at };
        self.store.insert_join_token(&row).await?;
        Ok(Invited { relay, token: Secret::new(token.reveal().to_owned()), expires_at })
    }

    /// Takes a relay process in: a certificate for a token and a request.
    ///
    /// # Errors
    /// [`AppError::Unauthenticated`], with one text whether the token is wrong, late or used;
    /// [`AppError::Invalid`] for a request that is none; [`AppError::Unavailable`].
    pub async fn join_relay(&self, token: &Secret, request_pem: &str) -> Result<Joined, AppError> {
        let request = (request_pem.len() <= limits::RELAY_REQUEST_BYTES_MAX)
            .then(|| RelayRequest::read(request_pem))
            .flatten();
        let Some(request) = request else {
            let text = "request_pem: this is not a certificate request in PEM, signed by its key";
            return Err(AppError::Invalid(vec![super::Problem::new(None, text)]));
        };
        let refuse = |relay: Option<String>, reason: &str| {
            tracing::warn!(relay, reason, "a relay may not join");
            let body = EventBody::RelayRefused { relay, address: None, reason: reason.to_owned() };
            self.note(Origin::default(), body);
            AppError::Unauthenticated(NOT_VALID.to_owned())
        };
        let Some(port) = self.identity().reach().listeners.get(RELAY).map(|found| found.port())
        else {
            let text = "this gateway has no listener for relays";
            return Err(AppError::Unavailable(text.to_owned()));
        };
        let digest = Token::parse(token.reveal())
            .map_err(|_| refuse(None, "what was shown is no token"))?
            .digest();
        let relay = match self.store.use_join_token(&digest, OffsetDateTime::now_utc()).await? {
            JoinVerdict::Joins { relay } => relay,
            JoinVerdict::Replayed { relay } => {
                return Err(refuse(Some(relay), "its join token was used before"));
            }
            JoinVerdict::Expired { relay } => {
                return Err(refuse(Some(relay), "its join token has expired"));
            }
            JoinVerdict::Unknown => return Err(refuse(None, "the join token was never given")),
        };
        if self.known_relay(&relay).is_err() {
            return Err(refuse(Some(relay), "there is no relay of this name"));
        }
        let issued = self.issue_relay_certificate(&request, &relay).await?;
        Ok(Joined {
            relay,
            certificate_pem: issued.pem,
            authority_pem: self.relays.authority.pem.clone(),
            host: self.identity().public_address.clone(),
            port,
        })
    }

    /// Signs a certificate and notes its serial number before anybody has it.
    async fn issue_relay_certificate(
        &self,
        request: &RelayRequest,
        relay: &str,
    ) -> Result<Issued, AppError> {
        let now = OffsetDateTime::now_utc();
        let lifetime = self.relays.certificate_lifetime;
        let issued = self.relays.authority.sign(request, relay, now, lifetime);
        let issued = issued.map_err(|error| {
            tracing::error!("a relay's certificate cannot be signed: {error:#}");
            AppError::Unavailable("the certificate cannot be signed".to_owned())
        })?;
        let row = RelayCertificateRow {
            serial: issued.facts.serial.clone(),
            relay: relay.to_owned(),
            issued_at: now,
            expires_at: issued.expires_at,
            revoked_at: None,
        };
        self.store.insert_relay_certificate(&row).await?;
        Ok(issued)
    }

    /// Every relay, with its connected processes.
    ///
    /// # Errors
    /// [`AppError::Denied`] for anybody but the administrator.
    pub fn list_relays(&self, caller: &Caller) -> Result<Vec<RelayState>, AppError> {
        caller.require_admin()?;
        let config = self.config();
        let state = |spec: &RelaySpec| {
            let members = self.relays.pool(spec.name.as_str()).map(|pool| pool.members());
            let process = |member: &Arc<corral_transport::tunnel::Member>| RelayProcess {
                serial: member.certificate.serial.clone(),
                address: member.address.clone(),
                joined_at: member.joined_at.into(),
                streams: member.tunnel.streams(),
                is_draining: !member.tunnel.is_open(),
            };
            RelayState {
                name: spec.name.to_string(),
                addresses: spec.addresses.iter().map(ToString::to_string).collect(),
                processes: members.iter().flatten().map(process).collect(),
            }
        };
        Ok(config.relays.values().map(state).collect())
    }

    /// Takes back every certificate and unused token of a relay, and ends its connections.
    ///
    /// # Errors
    /// [`AppError::Denied`] for anybody but the administrator, [`AppError::NotFound`],
    /// [`AppError::Unavailable`].
    pub async fn revoke_relay(&self, caller: &Caller, relay: &str) -> Result<Revoked, AppError> {
        caller.require_admin()?;
        self.known_relay(relay)?;
        let by = caller.label();
        let body = EventBody::RelayRevoked { relay: relay.to_owned(), by };
        self.append(Origin::default(), body)?;
        let certificates = self.store.revoke_relay(relay, OffsetDateTime::now_utc()).await?;
        // Whoever connects meanwhile is asked for again once it is in the pool.
        let connections = self.relays.pool(relay).map_or(0, |pool| end_all(&pool));
        Ok(Revoked { certificates, connections })
    }

    /// Ends every relay's connection: the gateway stops.
    pub(crate) fn end_relays(&self) {
        for pool in self.relays.lock().values() {
            end_all(pool);
        }
    }

    fn known_relay(&self, name: &str) -> Result<(), AppError> {
        let not_found = || AppError::NotFound { kind: "relay", name: name.to_owned() };
        let known = ResourceName::new(name).map_err(|_| not_found())?;
        if self.config().relays.contains_key(&known) { Ok(()) } else { Err(not_found()) }
    }

    pub(super) async fn forget_relay_history(&self, before: OffsetDateTime) {
        if let Err(error) = self.store.forget_relay_history(before).await {
            tracing::warn!(error = %describe(&error), "old relay certificates are forgotten later");
        }
    }
}
