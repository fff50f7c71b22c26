//! Who is let in: token, run, sponsor, limits and the right to connect, the same for every
//! protocol.

use std::sync::Arc;
use std::time::Duration;

use corral_gate::budget::{self, Opening, SessionBounds};
use corral_gate::policy::{Context, Subject};
use corral_gate::{Actor, Admission, Credential, Denial, DenialKind, Login, Proof, Verdict};
use corral_identity::Token;
use corral_model::event::{EventBody, Origin};
use corral_model::ids::SessionId;
use corral_model::resource::ColumnName;
use corral_model::token::{TokenDigest, TokenPurpose};
use corral_model::{Principal, Secret, limits};
use corral_session::scope::BoxFuture;
use corral_session::{Admitted, Authority, ConnectionFacts, OwnKey};
use corral_store::CredentialPurpose;
use time::OffsetDateTime;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::access_tokens::{RunToken, Shown};
use super::config::{Config, NoStanding, Standing, Target, hex};
use super::live::logins::LiveLogin;
use super::live::runs::LiveRun;
use super::live::sessions::{Activity, LiveSession};
use super::refusals::{self, Refused};
use super::scope::{Place, SessionScope, TicketHolder};
use super::{App, AppError, new_id};

/// The gateway's words that one session may leave unread.
const CONTROL_LEN_MAX: usize = 16;

/// Whose token was shown.
#[derive(Debug, Clone)]
pub(crate) enum Bearer {
    Principal {
        principal: Principal,
        token: TokenDigest,
        deadline: Instant,
        expires_at: OffsetDateTime,
    },
    Run(Arc<LiveRun>),
}

impl Bearer {
    pub(crate) fn principal(&self) -> &Principal {
        match self {
            Self::Principal { principal, .. } => principal,
            Self::Run(run) => run.principal(),
        }
    }

    fn run(&self) -> Option<&Arc<LiveRun>> {
        match self {
            Self::Principal { .. } => None,
            Self::Run(run) => Some(run),
        }
    }

    /// Whether it may act now, and for whom.
    pub(crate) fn standing(&self, config: &Config) -> Result<Standing, NoStanding> {
        match self {
            Self::Principal { principal, .. } => config.standing(principal),
            Self::Run(run) => {
                let standing = config.standing_under(run.principal(), run.sponsor())?;
                Ok(Standing { sponsor: run.sponsor().clone(), ..standing })
            }
        }
    }

    /// The runs and the principal, as policy wants them.
    pub(crate) fn subject(&self, standing: &Standing) -> Subject {
        Subject {
            principal: self.principal().clone(),
            groups: standing.groups.clone(),
            runs: self.run().map(|run| run.nodes()).unwrap_or_default(),
        }
    }

    /// Who and where, for events.
    pub(crate) fn origin(&self, standing: Option<&Standing>) -> Origin {
        Origin {
            principal: Some(self.principal().to_string()),
            sponsor: standing.map(|standing| standing.sponsor.to_string()),
            run: self.run().map(|run| run.id().clone()),
            run_path: self.run().map(|run| run.path().to_owned()),
            session: None,
            target: None,
        }
    }

    /// Whether its run or token is still good.
    async fn is_live(&self, app: &App) -> bool {
        match self {
            Self::Run(run) => run.is_live(Instant::now()),
            Self::Principal { token, .. } => matches!(app.bearer(*token).await, Ok(Some(_))),
        }
    }
}

/// Who shows a token, and when the token is over where that is before its run is.
struct ShownBearer {
    bearer: Bearer,
    token_ends: Option<std::time::Instant>,
}

impl ShownBearer {
    fn of(bearer: Bearer) -> Self {
        Self { bearer, token_ends: None }
    }
}

/// A refusal, with what the record may know of the refused.
struct Refusal {
    denial: Denial,
    origin: Origin,
}

impl Refusal {
    fn new(origin: &Origin, denial: Denial) -> Box<Self> {
        Box::new(Self { denial, origin: origin.clone() })
    }
}

/// The same words for every token that is not good, so that they tell nothing.
fn bad_token() -> Denial {
    Denial::new(
        DenialKind::Authentication,
        "this token is not valid: it is wrong, it expired, or its run, principal or sponsor is \
         no longer active",
    )
}

/// The gateway, as sessions see it.
pub struct Door {
    app: Arc<App>,
}

impl Door {
    #[must_use]
    pub fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

impl Authority for Door {
    fn admit(
        &self,
        login: Login,
        connection: ConnectionFacts,
    ) -> BoxFuture<'_, Result<Admitted, Denial>> {
        Box::pin(async move {
            match self.app.try_admit(login, &connection).await {
                Ok(admitted) => Ok(admitted),
                Err(refusal) => {
                    let reason = refusal.denial.sentence();
                    self.app.record_refusal(refusal.origin, &connection, reason);
                    Err(refusal.denial)
                }
            }
        })
    }

    fn own_key(&self, name: &'static str) -> BoxFuture<'_, Result<OwnKey, Denial>> {
        Box::pin(self.app.own_key(name))
    }

    fn spawn(&self, session: BoxFuture<'static, ()>) {
        self.app.live.tasks().spawn(session);
    }

    fn cancel(&self, key: &[u8]) -> BoxFuture<'static, ()> {
        let (cancelling, done) = oneshot::channel();
        if let Some(session) = self.app.live.sessions().by_cancel_key(key) {
            session.tell(corral_session::Control::Cancel(cancelling));
        }
        Box::pin(async {
            // Nothing is sent: it is dropped.
            let _ = done.await;
        })
    }

    fn refused(&self, connection: &ConnectionFacts, reason: &str) {
        self.app.record_refusal(Origin::default(), connection, reason.to_owned());
    }
}

impl App {
    /// Refuses a connection in the record, one by one or with others of its source.
    fn record_refusal(&self, origin: Origin, connection: &ConnectionFacts, reason: String) {
        self.metrics.session_refused();
        let refusal = refusals::Refusal {
            refused: Refused::Session,
            origin: &origin,
            ip: connection.client_ip,
            address: Some(&connection.client_address),
            name: None,
            reason: &reason,
        };
        let client_address = connection.client_address.clone();
        let body = EventBody::SessionRefused { reason: reason.clone(), client_address };
        self.note_refusal(&refusal, body);
    }

    /// A secret of the gateway's own; the store keeps it as text.
    pub(super) async fn own_key(&self, name: &str) -> Result<OwnKey, Denial> {
        let unavailable = |text: &str| {
            tracing::error!(name, error = text, "a key of the gateway cannot be read");
            Denial::new(DenialKind::TargetUnavailable, "a key of the gateway cannot be read")
        };
        let made = Secret::new(hex(&random_bytes()?));
        let key = self.store.own_key(name, &made).await;
        let key = key.map_err(|error| unavailable(&error.to_string()))?;
        let bytes = bytes_of_hex(key.reveal()).ok_or_else(|| unavailable("it is not 32 bytes"))?;
        Ok(OwnKey::new(bytes))
    }

    /// Whose token this is; None for nobody's, and for the administrator's, which opens no
    /// sessions.
    ///
    /// # Errors
    /// [`AppError::Unavailable`] when the store had to be asked and does not answer.
    pub(crate) async fn bearer(&self, token: TokenDigest) -> Result<Option<Bearer>, AppError> {
        let now = Instant::now();
        if let Some(run) = self.live.runs().by_token(&token) {
            return Ok(run.is_live(now).then_some(Bearer::Run(run)));
        }
        if let Some(login) = self.live.logins().get(&token) {
            if !login.is_live(now) {
                return Ok(None);
            }
            let LiveLogin { principal, deadline, expires_at } = login;
            return Ok(Some(Bearer::Principal { principal, token, deadline, expires_at }));
        }
        // Given before the last start of the gateway, or never.
        let wall = OffsetDateTime::now_utc();
        let row = self.store.token(&token).await?.filter(|row| row.is_live(wall));
        let Some(row) = row else { return Ok(None) };
        let expires_at = row.expires_at.unwrap_or(wall);
        let left = left_of(expires_at, wall, limits::LOGIN_TTL);
        Ok(match row.purpose {
            TokenPurpose::Admin => None,
            TokenPurpose::Run(id) => {
                let run = self.live.runs().get(id.as_str());
                run.filter(|run| run.is_live(now)).map(Bearer::Run)
            }
            TokenPurpose::Login(principal) => {
                let deadline = now + left;
                Some(Bearer::Principal { principal, token, deadline, expires_at })
            }
        })
    }

    async fn try_admit(
        self: &Arc<Self>,
        login: Login,
        connection: &ConnectionFacts,
    ) -> Result<Admitted, Box<Refusal>> {
        let nobody = Origin::default();
        if self.is_draining() {
            let denial = Denial::new(DenialKind::Shutdown, "the gateway stops");
            return Err(Refusal::new(&nobody, denial));
        }
        self.check_authority().map_err(|denial| Refusal::new(&nobody, denial))?;
        let shown = self.shown(&login.proof).await.map_err(|error| {
            let mut denial = bad_token();
            denial.internal = Some(error.to_string());
            Refusal::new(&nobody, denial)
        })?;
        let ShownBearer { bearer, token_ends } =
            shown.ok_or_else(|| Refusal::new(&nobody, bad_token()))?;
        let config = self.config();
        let origin = bearer.origin(None);
        let standing = bearer.standing(&config).map_err(|why| {
            let mut denial = bad_token();
            denial.internal = Some(why.to_string());
            Refusal::new(&origin, denial)
        })?;
        let mut origin = bearer.origin(Some(&standing));
        if let Proof::Refused { reason, .. } = &login.proof {
            let denial = Denial::new(DenialKind::Forbidden, reason.clone());
            return Err(Refusal::new(&origin, denial));
        }
        let target = self
            .find_target(&config, &bearer, &login, connection)
            .map_err(|denial| Refusal::new(&origin, denial))?;
        origin.target = Some(target.spec.name.clone());
        let subject = Arc::new(bearer.subject(&standing));
        let context = Context {
            in_transaction: false,
            time: OffsetDateTime::now_utc(),
            tls: connection.is_tls,
            source_ip: connection.client_ip,
        };
        let decision = new_id("d");
        let (engine, facts) = (&config.engine, &target.facts);
        let ruling = self.decisions.may_connect(engine, &subject, facts, &context, decision);
        match ruling.verdict {
            Verdict::Allow => {}
            Verdict::Deny(denial) => return Err(Refusal::new(&origin, denial)),
            Verdict::Hold(_) => {
                let denial = Denial::new(DenialKind::Forbidden, "connecting needs an approval");
                return Err(Refusal::new(&origin, denial));
            }
        }
        let entry =
            Entry { bearer, token_ends, standing, subject, context, target, config, origin };
        self.open_session(entry, login, connection).await
    }

    /// Whose proof this is; None for nobody's.
    async fn shown(&self, proof: &Proof) -> Result<Option<ShownBearer>, AppError> {
        // Read before the clock on the wall, so that no token ends later by this one.
        let now = Instant::now();
        let found = match proof {
            Proof::Token(token) => match Token::parse(token.reveal()) {
                Ok(token) => return Ok(self.bearer(token.digest()).await?.map(ShownBearer::of)),
                Err(_) => self.bearer_of_jwt(&Shown::bearer(token.clone()))?,
            },
            Proof::Proven(token) => self.bearer_of_proven_jwt(token.reveal()),
            Proof::Certified(digest) | Proof::Refused { by: digest, .. } => {
                return Ok(self.bearer(*digest).await?.map(ShownBearer::of));
            }
        };
        Ok(found.map(|RunToken { run, expires_at, .. }| {
            let left = Duration::try_from(expires_at - OffsetDateTime::now_utc());
            let token_ends = Some(now.into_std() + left.unwrap_or(Duration::ZERO));
            ShownBearer { bearer: Bearer::Run(run), token_ends }
        }))
    }

    /// The target that a client means, when it is served by this protocol and within its grants.
    fn find_target(
        &self,
        config: &Config,
        bearer: &Bearer,
        login: &Login,
        connection: &ConnectionFacts,
    ) -> Result<Arc<Target>, Denial> {
        let name = match &connection.listener_target {
            Some(name) => name.as_str(),
            None => login.target.as_str(),
        };
        let target = config.target(name).filter(|target| {
            let is_granted = bearer.run().is_none_or(|run| run.may_use(&target.spec.name));
            is_granted && target.spec.protocol == connection.protocol
        });
        // The same words whether it does not exist or is not granted.
        target.cloned().ok_or_else(|| {
            let shown: String = name.chars().take(63).filter(|c| !c.is_control()).collect();
            let text =
                format!("there is no target '{shown}' that this token may use with this protocol");
            Denial::new(DenialKind::Forbidden, text)
        })
    }

    async fn open_session(
        self: &Arc<Self>,
        entry: Entry,
        login: Login,
        connection: &ConnectionFacts,
    ) -> Result<Admitted, Box<Refusal>> {
        let refuse = |denial: Denial| Refusal::new(&entry.origin, denial);
        let bounds = budget::session_bounds(
            &entry.config.limits,
            entry.bearer.principal(),
            &entry.standing.groups,
            &entry.target.facts,
            &entry.config.target_facts,
        );
        let ticket = self.take_place(&entry, &bounds).map_err(&refuse)?;
        // Before mask and credential are read: no change between the two is missed.
        let renewed = self.renewals.follow(&entry.target);
        let config_changes = self.config.changes.subscribe();
        let rights =
            entry.config.rights(&self.decisions, &entry.subject, &entry.target, &entry.context);
        let (credential, sees_raw) =
            self.credential(&entry.target, &rights.masked).await.map_err(&refuse)?;
        let id = session_id();
        let (control, words) = mpsc::channel(CONTROL_LEN_MAX);
        let session =
            self.register(&entry, &id, &login, connection, control, sees_raw).map_err(&refuse)?;
        // From here on the session leaves every count and list when this is dropped.
        let place = Place::new(self.clone(), session.clone(), ticket);
        self.check_again(&entry).await.map_err(&refuse)?;
        let opened = EventBody::SessionOpened {
            protocol: connection.protocol.to_owned(),
            client_address: connection.client_address.clone(),
            tls: connection.is_tls,
            claims: login.claims.clone(),
        };
        let durability = entry.target.spec.record.durability;
        let at = OffsetDateTime::now_utc();
        let origin = entry.origin.clone();
        let tap = self.recorder.begin_session(at, id.clone(), origin, durability, opened).await;
        let tap = tap.map_err(|error| {
            tracing::warn!(%error, "a session is refused because it cannot be recorded");
            let text = "the record cannot be written; no session is opened";
            refuse(Denial::new(DenialKind::RecordUnavailable, text))
        })?;
        if let Some(run) = entry.bearer.run() {
            run.reached(&entry.target.spec.name);
        }
        let scope = SessionScope::new(self.clone(), &entry, place, &rights, tap);
        self.metrics.session_opened();
        let database = login.database.or_else(|| entry.target.spec.database.clone());
        let admission = Admission {
            session: id,
            target: entry.target.spec.name.clone(),
            target_revision: entry.target.revision,
            credential,
            database,
            tls: entry.target.endpoint.tls,
            is_target_local: entry.target.endpoint.is_local(),
            classified: entry.target.classified.clone(),
            rights,
            record_rows: entry.target.spec.record.rows,
            cancel_secret: session.cancel_secret,
            options: entry.target.options.clone(),
            commands: entry.target.commands.clone(),
            actor: Actor {
                principal: entry.bearer.principal().clone(),
                sponsor: entry.standing.sponsor.clone(),
                groups: entry.standing.groups.clone(),
                run: entry.bearer.run().map(|run| (run.id().clone(), run.path().to_owned())),
            },
        };
        Ok(Admitted {
            admission,
            endpoint: self.routed(&entry.target),
            ttl: ttl(&entry.bearer, &bounds),
            token_ends: entry.token_ends,
            idle_timeout: bounds.idle_timeout.map(|bound| bound.max),
            scope: Box::new(scope),
            control: words,
            config_changes,
            renewed,
        })
    }

    /// The login that the gateway uses: the one without masked columns where there is one and
    /// something is masked. The only place where a credential is opened.
    async fn credential(
        &self,
        target: &Target,
        masked: &[ColumnName],
    ) -> Result<(Credential, bool), Denial> {
        let spec = &target.spec;
        let floor = spec.masked_credential.as_ref().filter(|_| !masked.is_empty());
        let (credential, purpose) = match floor {
            Some(floor) => (Some(floor), CredentialPurpose::MaskedCredential),
            None => (spec.credential.as_ref(), CredentialPurpose::Credential),
        };
        let unavailable = || {
            let text = "the target's credential cannot be used";
            Denial::new(DenialKind::TargetUnavailable, text)
        };
        let credential = credential.ok_or_else(unavailable)?;
        let secret = self.store.credential(&spec.name, purpose).await.map_err(|error| {
            tracing::error!(%error, target = %spec.name, "a credential cannot be opened");
            unavailable()
        })?;
        let credential = Credential {
            username: credential.username.clone(),
            kind: credential.kind(),
            secret,
            client_certificate: credential.client_certificate.clone(),
            is_issued: credential.issued,
        };
        Ok((credential, floor.is_none()))
    }

    /// Counts the session in, under every limit at once.
    fn take_place(
        self: &Arc<Self>,
        entry: &Entry,
        bounds: &SessionBounds,
    ) -> Result<TicketHolder, Denial> {
        let run = entry.bearer.run();
        let runs = run.map(|run| run.budget().session_bounds()).unwrap_or_default();
        let opening = Opening {
            principal: entry.bearer.principal(),
            target: &entry.target.spec.name,
            ceilings: &bounds.ceilings,
            runs: &runs,
        };
        let ticket = self.live.ledger().try_open(&opening).map_err(Denial::from)?;
        Ok(TicketHolder::new(self.clone(), ticket))
    }

    fn register(
        &self,
        entry: &Entry,
        id: &SessionId,
        login: &Login,
        connection: &ConnectionFacts,
        control: mpsc::Sender<Box<corral_session::Control>>,
        sees_raw: bool,
    ) -> Result<Arc<LiveSession>, Denial> {
        let session = Arc::new(LiveSession {
            id: id.clone(),
            principal: entry.bearer.principal().clone(),
            sponsor: entry.standing.sponsor.clone(),
            run: entry.bearer.run().cloned(),
            login: match &entry.bearer {
                Bearer::Principal { token, .. } => Some(*token),
                Bearer::Run(_) => None,
            },
            target: entry.target.spec.name.clone(),
            protocol: connection.protocol,
            client_ip: connection.client_ip,
            client_address: connection.client_address.clone(),
            is_tls: connection.is_tls,
            claims: login.claims.clone(),
            started_at: OffsetDateTime::now_utc(),
            cancel_secret: random_bytes()?,
            sees_raw,
            control: control.clone(),
            activity: Activity::default(),
        });
        self.live.sessions().insert(session.clone());
        Ok(session)
    }

    /// Whoever ends runs, disables people or changes the configuration first changes the state
    /// and then looks through the sessions. This session is in the list by now: either they
    /// find it, or this finds the changed state.
    async fn check_again(&self, entry: &Entry) -> Result<(), Denial> {
        let config = self.config();
        let is_active = entry.bearer.is_live(self).await && entry.bearer.standing(&config).is_ok();
        if !is_active {
            return Err(bad_token());
        }
        let is_same = config.targets.get(&entry.target.spec.name).is_some_and(|target| {
            config.version == entry.config.version || target.revision == entry.target.revision
        });
        self.check_authority()?;
        if !is_same || self.is_draining() {
            let text = "the configuration changed while this session was opened; try again";
            return Err(Denial::new(DenialKind::Shutdown, text));
        }
        Ok(())
    }
}

/// Everything that is known of a client that may come in, if there is room.
pub(crate) struct Entry {
    pub(crate) bearer: Bearer,
    pub(crate) token_ends: Option<std::time::Instant>,
    pub(crate) standing: Standing,
    pub(crate) subject: Arc<Subject>,
    pub(crate) context: Context,
    pub(crate) target: Arc<Target>,
    pub(crate) config: Arc<Config>,
    pub(crate) origin: Origin,
}

/// A run's own TTL ends its sessions when it ends the run, so that renewing the run keeps them.
fn ttl(bearer: &Bearer, bounds: &SessionBounds) -> Option<Duration> {
    let of_session = bounds.ttl.as_ref().map(|bound| bound.max);
    let of_token = match bearer {
        Bearer::Principal { deadline, .. } => {
            Some(deadline.saturating_duration_since(Instant::now()))
        }
        Bearer::Run(_) => None,
    };
    [of_session, of_token].into_iter().flatten().min()
}

/// What is left until a time that another run of the gateway wrote. A clock that was set back
/// adds nothing: never more than the whole of it.
pub(super) fn left_of(
    expires_at: OffsetDateTime,
    now: OffsetDateTime,
    whole: Duration,
) -> Duration {
    Duration::try_from(expires_at - now).unwrap_or(Duration::ZERO).min(whole)
}

fn session_id() -> SessionId {
    SessionId::new(new_id("s")).expect("an id is hexadecimal with a prefix")
}

pub(super) fn random_bytes() -> Result<[u8; 32], Denial> {
    let mut bytes = [0_u8; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| {
        Denial::new(DenialKind::Ended, "the gateway has no random numbers; no session is opened")
    })?;
    Ok(bytes)
}

pub(super) fn bytes_of_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0_u8; 32];
    if text.len() != 2 * bytes.len() {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_set_back_adds_nothing_to_what_is_left() {
        let hour = Duration::from_secs(3600);
        let end = OffsetDateTime::UNIX_EPOCH + 1000 * hour;
        let check = |now: OffsetDateTime, expect: Duration| {
            assert_eq!(left_of(end, now, 8 * hour), expect, "{now}");
        };
        check(end - 8 * hour, 8 * hour);
        check(end - hour, hour);
        check(end - 9 * hour, 8 * hour);
        check(OffsetDateTime::UNIX_EPOCH, 8 * hour);
        check(end, Duration::ZERO);
        check(end + hour, Duration::ZERO);
    }
}
