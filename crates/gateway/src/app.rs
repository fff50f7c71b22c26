//! What the gateway can do, as functions with plain arguments and results.
//!
//! Handlers and sessions call these; nothing here knows HTTP, a protocol or a socket. Every
//! function that acts for somebody takes the [`Caller`] first and checks what that caller may.

pub mod about;
pub mod access_tokens;
mod admit;
pub mod approvals;
pub mod audit;
mod authority;
mod bad_deliveries;
pub mod caller;
mod config;
pub mod credentials;
pub mod error;
mod issuers;
pub mod job_ends;
mod job_polls;
pub mod jobs;
mod live;
pub mod offboard;
pub mod policies;
pub mod principals;
mod recheck;
pub mod record_key;
mod refusals;
pub mod relays;
mod renewals;
pub mod reports;
pub mod resources;
pub mod runs;
#[cfg(feature = "saml")]
pub mod saml;
pub mod scim;
mod scope;
pub mod sessions;
pub mod sign_in;
pub mod signals;
mod sweep;
pub mod token_service;
mod usage;
pub mod wrapper;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use corral_gate::policy::DecisionCache;
use corral_gate::{Denial, DenialKind};
use corral_identity::{PasswordChecks, TokenDigest};
use corral_model::CloseReason;
use corral_model::event::{EventBody, Origin};
use corral_model::ids::{PolicyVersion, PrincipalName, TargetName};
use corral_record::Recorder;
use corral_store::Store;
use time::OffsetDateTime;
use tokio::sync::{Notify, watch};

pub use caller::Caller;
pub use error::{AppError, Problem};

pub use admit::Door;
use config::Config;

use crate::metrics::Metrics;
use about::Identity;
use access_tokens::AccessTokens;
use issuers::Issuers;
use live::Live;
use relays::Relays;
use renewals::Renewals;

/// The gateway's state, shared by all sessions and handlers as `Arc<App>`.
pub struct App {
    identity: Identity,
    store: Store,
    recorder: Recorder,
    passwords: PasswordChecks,
    config: Configured,
    live: Live,
    relays: Relays,
    issuers: Issuers,
    access_tokens: AccessTokens,
    decisions: DecisionCache,
    metrics: Metrics,
    signals: Signals,
    directory: scim::Directory,
    transmitters: signals::Transmitters,
    bad_deliveries: bad_deliveries::BadDeliveries,
    refusals: refusals::Refusals,
    #[cfg(feature = "saml")]
    saml_sign_ins: saml::SamlSignIns,
    authority: authority::Authority,
    renewals: Renewals,
    /// Of the export of traces, where there is one.
    traces: OnceLock<corral_otlp::Intake>,
}

/// The configuration in use, and its change.
struct Configured {
    current: ArcSwap<Config>,
    /// The current one's number, so that a session sees with one load that nothing changed.
    version: AtomicU64,
    /// For open sessions: a configuration was put into use.
    changes: watch::Sender<()>,
    /// Held while a change is checked, stored and put into use: changes come one after another.
    changing: tokio::sync::Mutex<()>,
}

/// What wakes the gateway's own tasks.
#[derive(Default)]
struct Signals {
    /// A deadline came nearer.
    deadlines: Notify,
    /// The targets' own listeners may have changed.
    targets: Notify,
    is_draining: AtomicBool,
}

impl App {
    pub(crate) fn config(&self) -> Arc<Config> {
        self.config.current.load_full()
    }

    /// The number of the configuration in use.
    pub(crate) fn version(&self) -> PolicyVersion {
        PolicyVersion(self.config.version.load(Ordering::Acquire))
    }

    /// Puts a configuration into use, for whatever is decided from here on.
    fn use_config(&self, config: Config) {
        self.follow(&config);
        self.use_people(config);
    }

    /// What is kept beside a configuration follows it, in whatever people do not matter for.
    fn follow(&self, config: &Config) {
        self.relays.follow(config);
        self.directory.keep_only(|name| config.providers.contains_key(name));
        let signals = config.providers.values().filter_map(|provider| provider.signals.as_ref());
        self.transmitters.follow(signals);
        self.issuers.follow(config);
    }

    /// As [`App::use_config`], for a configuration that differs by people only.
    fn use_people(&self, config: Config) {
        let version = config.version.0;
        self.config.current.store(Arc::new(config));
        self.config.version.store(version, Ordering::Release);
        self.config.changes.send_replace(());
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.signals.is_draining.load(Ordering::Acquire)
    }

    /// Records what something depends on.
    fn append(&self, origin: Origin, body: EventBody) -> Result<(), AppError> {
        let at = OffsetDateTime::now_utc();
        self.recorder.append_gateway(at, &origin, &body).map(|_| ()).map_err(|error| {
            tracing::error!(%error, event = body.name(), "an event cannot be recorded");
            AppError::Unavailable("the record cannot be written; nothing was done".to_owned())
        })
    }

    /// Records what already happened.
    pub(crate) fn note(&self, origin: Origin, body: EventBody) {
        let at = OffsetDateTime::now_utc();
        if let Err(error) = self.recorder.note_gateway(at, &origin, &body) {
            tracing::error!(%error, event = body.name(), "an event is lost");
        }
    }
}

impl App {
    /// Lets no new session in.
    pub(crate) fn drain(&self) {
        self.signals.is_draining.store(true, Ordering::Release);
    }

    pub(crate) fn sessions_open(&self) -> usize {
        self.live.sessions().len()
    }

    /// Ends every session: the gateway stops.
    pub(crate) fn end_all_sessions(&self) -> u64 {
        let denial = || Denial::new(DenialKind::Shutdown, "the gateway stops");
        let all = self.live.sessions().select(|_| true);
        let ended = all.iter().filter(|session| session.end(CloseReason::Shutdown, denial()));
        u64::try_from(ended.count()).unwrap_or(u64::MAX)
    }

    /// Waits until every session that is no listener's own task has ended.
    pub(crate) async fn sessions_ended(&self) {
        self.live.tasks().close();
        self.live.tasks().wait().await;
    }

    /// Runs a change to its end, also when whoever asked for it is gone by then: what the store
    /// keeps and what is in use must not part. Nothing comes back when it panicked, which is in
    /// the log.
    pub(crate) async fn to_its_end<T: Send + 'static>(
        &self,
        change: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        match self.live.tasks().spawn(change).await {
            Ok(done) => Some(done),
            Err(error) => {
                tracing::error!(%error, "a change did not come to its end");
                None
            }
        }
    }

    /// Waits until the configuration has changed.
    ///
    /// # Cancel safety
    /// A change that came while nobody waited is told to the next who waits.
    pub(crate) async fn targets_changed(&self) {
        self.signals.targets.notified().await;
    }

    /// The listeners of single targets that there should be, with their protocols.
    pub(crate) fn dedicated_listeners(&self) -> BTreeMap<TargetName, (SocketAddr, String)> {
        let config = self.config();
        let listener = |target: &Arc<config::Target>| {
            let address = target.spec.listen_address()?;
            Some((target.spec.name.clone(), (address, target.spec.protocol.clone())))
        };
        config.targets.values().filter_map(listener).collect()
    }
}

/// A unique id: a prefix and 128 bits that sort by time.
pub(crate) fn new_id(prefix: &str) -> String {
    format!("{prefix}-{}", uuid::Uuid::now_v7().simple())
}

/// What an [`App`] is made of.
pub(crate) struct Parts {
    pub(crate) identity: Identity,
    pub(crate) store: Store,
    pub(crate) recorder: Recorder,
    pub(crate) passwords: PasswordChecks,
    pub(crate) relay_certificate_lifetime: std::time::Duration,
    pub(crate) access_token_lifetime: std::time::Duration,
    pub(crate) dpop_nonces: access_tokens::DpopNonces,
}

impl App {
    /// Takes up what the store holds: configuration, active runs, valid tokens. What was pending
    /// when the gateway ended is withdrawn.
    ///
    /// # Errors
    /// When the store cannot be read, or holds a configuration that does not compile.
    pub(crate) async fn start(parts: Parts) -> anyhow::Result<Arc<Self>> {
        let (version, resources) = parts.store.snapshot().await?;
        let config = Config::compile(version, resources, None).map_err(|problems| {
            let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
            anyhow::anyhow!("the stored configuration is not valid: {}", texts.join("; "))
        })?;
        let directory = scim::Directory::load(parts.store.scim_documents().await?)
            .map_err(|what| anyhow::anyhow!("the store holds {what}"))?;
        let relays =
            Relays::load(&parts.store, parts.relay_certificate_lifetime, parts.recorder.clone())
                .await?;
        relays.follow(&config);
        let issuers = Issuers::default();
        issuers.follow(&config);
        let access_tokens =
            AccessTokens::load(&parts.store, parts.access_token_lifetime, parts.dpop_nonces)
                .await?;
        let version = config.version.0;
        let app = Self {
            identity: parts.identity,
            store: parts.store,
            recorder: parts.recorder,
            passwords: parts.passwords,
            config: Configured {
                current: ArcSwap::from_pointee(config),
                version: AtomicU64::new(version),
                changes: watch::Sender::new(()),
                changing: tokio::sync::Mutex::new(()),
            },
            live: Live::default(),
            relays,
            issuers,
            access_tokens,
            decisions: DecisionCache::new(),
            metrics: Metrics::default(),
            signals: Signals::default(),
            directory,
            transmitters: signals::Transmitters::default(),
            bad_deliveries: bad_deliveries::BadDeliveries::default(),
            refusals: refusals::Refusals::default(),
            #[cfg(feature = "saml")]
            saml_sign_ins: saml::SamlSignIns::default(),
            authority: authority::Authority::new(tokio::time::Instant::now()),
            renewals: Renewals::default(),
            traces: OnceLock::new(),
        };
        let mut runs_of: BTreeMap<PrincipalName, u64> = BTreeMap::new();
        for kept in app.store.active_runs().await? {
            *runs_of.entry(kept.run.sponsor).or_default() += 1;
        }
        app.take_up().await?;
        app.complete_offboardings(&runs_of).await?;
        app.scim_project_all().await?;
        Ok(Arc::new(app))
    }

    /// Whether this is the administrator's token.
    fn is_admin(&self, token: &TokenDigest) -> bool {
        corral_identity::token::is_same(token, &self.identity.admin)
    }
}
