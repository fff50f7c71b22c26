//! Who asks: a token becomes a [`Caller`].

use corral_identity::Token;
use corral_model::ids::{PrincipalName, RunId};
use corral_model::token::TokenDigest;
use corral_model::{Principal, PrincipalKind, Secret};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::access_tokens::Shown;
use super::admit::Bearer;
use super::config::{Config, NoStanding, Target};
use super::live::runs::LiveRun;
use super::{App, AppError};

/// Who calls the gateway's API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// The holder of `admin.token`: administers, but opens no sessions and approves nothing.
    Admin,
    /// Somebody who signed in; the digest is of the login token.
    Principal { principal: Principal, token: TokenDigest },
    /// A run, by its run token.
    Run { run: RunId, principal: Principal },
}

/// What `corral whoami` shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whoami {
    /// `admin`, `user`, `workload` or `run`.
    pub kind: &'static str,
    /// `admin`, the principal's name, or the run's path.
    pub name: String,
    pub sponsor: Option<String>,
    pub groups: Vec<String>,
    /// The identity provider of the person, or of whoever answers.
    pub provider: Option<String>,
    pub run: Option<RunId>,
    pub expires_at: Option<OffsetDateTime>,
}

const NOT_VALID: &str = "this token is not valid: it is wrong, it expired, or its run, principal \
                         or sponsor is no longer active; sign in again";

impl App {
    /// Finds out whose token this is. Live state decides: an ended run, a disabled user or
    /// an expired token is nobody. A workload whose sponsor is disabled is still somebody: it is
    /// refused what it asks for, with the reason.
    ///
    /// # Errors
    /// [`AppError::Unauthenticated`]: the caller is to blame.
    pub async fn authenticate(&self, token: &Secret) -> Result<Caller, AppError> {
        self.authenticate_shown(&Shown::bearer(token.clone())).await
    }

    /// The same for a token that may have come with a proof of the key that it is bound to.
    ///
    /// # Errors
    /// [`AppError::Unauthenticated`]: the caller is to blame.
    pub async fn authenticate_shown(&self, shown: &Shown) -> Result<Caller, AppError> {
        let nobody = || AppError::Unauthenticated(NOT_VALID.to_owned());
        let bearer = match (Token::parse(shown.token.reveal()), &shown.proof) {
            (Ok(token), None) if self.is_admin(&token.digest()) => return Ok(Caller::Admin),
            (Ok(token), None) => self.bearer(token.digest()).await?,
            // An opaque token is bound to no key.
            (Ok(_), Some(_)) => None,
            (Err(_), _) => self.bearer_of_jwt(shown)?.map(|found| Bearer::Run(found.run)),
        };
        let bearer = bearer.ok_or_else(nobody)?;
        let standing = bearer.standing(&self.config());
        match (bearer, standing) {
            (Bearer::Run(run), Ok(_)) => {
                Ok(Caller::Run { run: run.id().clone(), principal: run.principal().clone() })
            }
            (
                Bearer::Principal { principal, token, .. },
                Ok(_)
                | Err(
                    NoStanding::SponsorDisabled { .. }
                    | NoStanding::SponsorMissing { .. }
                    | NoStanding::NoSponsor(_),
                ),
            ) => Ok(Caller::Principal { principal, token }),
            (Bearer::Run(_), Err(_))
            | (
                Bearer::Principal { .. },
                Err(
                    NoStanding::Unknown { .. } | NoStanding::Disabled(_) | NoStanding::Suspended(_),
                ),
            ) => Err(nobody()),
        }
    }

    /// Who the caller is.
    ///
    /// # Errors
    /// [`AppError::Unauthenticated`] when the caller ended in the meantime.
    pub async fn whoami(&self, caller: &Caller) -> Result<Whoami, AppError> {
        let nobody = || AppError::Unauthenticated(NOT_VALID.to_owned());
        let config = self.config();
        let (principal, run, expires_at) = match caller {
            Caller::Admin => {
                return Ok(Whoami {
                    kind: "admin",
                    name: "admin".to_owned(),
                    sponsor: None,
                    groups: Vec::new(),
                    provider: None,
                    run: None,
                    expires_at: None,
                });
            }
            Caller::Principal { principal, token } => match self.bearer(*token).await? {
                Some(Bearer::Principal { expires_at, .. }) => (principal, None, expires_at),
                Some(Bearer::Run(_)) | None => return Err(nobody()),
            },
            Caller::Run { run, principal } => {
                let run = self.live.runs().get(run.as_str());
                let run = run.filter(|run| run.is_live(Instant::now())).ok_or_else(nobody)?;
                let expires_at = run.shown_end();
                (principal, Some(run), expires_at)
            }
        };
        let standing = match &run {
            Some(run) => config.standing_under(principal, run.sponsor()),
            None => config.standing(principal),
        };
        if matches!(standing, Err(NoStanding::Disabled(_) | NoStanding::Suspended(_))) {
            return Err(nobody());
        }
        let standing = standing.ok();
        let kind = match (&run, principal.kind) {
            (Some(_), _) => "run",
            (None, PrincipalKind::User) => "user",
            (None, PrincipalKind::Workload) => "workload",
        };
        Ok(Whoami {
            kind,
            name: run.as_ref().map_or(principal.to_string(), |run| run.path().to_owned()),
            sponsor: standing.as_ref().map(|standing| standing.sponsor.to_string()),
            provider: standing
                .as_ref()
                .and_then(|standing| config.users.get(&standing.sponsor))
                .and_then(|user| user.identity.as_ref())
                .map(|identity| identity.provider.to_string()),
            groups: standing
                .map(|standing| standing.groups.iter().map(ToString::to_string).collect())
                .unwrap_or_default(),
            run: run.map(|run| run.id().clone()),
            expires_at: Some(expires_at),
        })
    }

    /// Whether the caller may see a run: its own tree below it, those of or sponsored by it.
    pub(super) fn may_see_run(&self, caller: &Caller, run: &LiveRun) -> bool {
        match caller {
            Caller::Admin => true,
            Caller::Principal { principal, .. } => {
                run.principal() == principal || is_sponsor(principal, run.sponsor())
            }
            Caller::Run { run: own, .. } => run.is_within(own.as_str()),
        }
    }

    /// Whether the caller may know that a target exists: it was granted, and policy lets the
    /// caller connect. The administrator knows all.
    pub(super) fn may_know_target(
        &self,
        config: &Config,
        caller: &Caller,
        target: &Target,
    ) -> bool {
        let (standing, principal, runs) = match caller {
            Caller::Admin => return true,
            Caller::Principal { principal, .. } => {
                (config.standing(principal), principal, Vec::new())
            }
            Caller::Run { run, principal } => {
                let Some(run) = self.live.runs().get(run.as_str()) else { return false };
                if !run.may_use(&target.spec.name) {
                    return false;
                }
                (config.standing_under(principal, run.sponsor()), principal, run.nodes())
            }
        };
        let Ok(standing) = standing else { return false };
        let mut subject = corral_gate::policy::Subject {
            principal: principal.clone(),
            groups: standing.groups,
            runs,
        };
        let context = corral_gate::policy::Context {
            in_transaction: false,
            time: OffsetDateTime::now_utc(),
            tls: true,
            source_ip: None,
        };
        let may_connect = |subject: &corral_gate::policy::Subject| {
            let id = super::new_id("d");
            let ruling = config.engine.may_connect(subject, &target.facts, &context, id);
            matches!(ruling.verdict, corral_gate::Verdict::Allow)
        };
        if may_connect(&subject) {
            return true;
        }
        // A run whose processes alone may connect leads them there, so it has to know.
        let Some(acting) = subject.runs.last_mut() else { return false };
        acting.attribution = corral_gate::policy::Attribution::Process;
        may_connect(&subject)
    }
}

impl Caller {
    /// As in events: `admin`, a principal's name, or a run's id.
    pub(super) fn label(&self) -> String {
        match self {
            Self::Admin => "admin".to_owned(),
            Self::Principal { principal, .. } => principal.to_string(),
            Self::Run { run, .. } => format!("run {run}"),
        }
    }

    /// Only the administrator's token administers.
    pub(super) fn require_admin(&self) -> Result<(), AppError> {
        match self {
            Self::Admin => Ok(()),
            Self::Principal { .. } | Self::Run { .. } => {
                let text = "only the administrator may do this; use the gateway's admin.token, \
                            or --data DIR on its machine";
                Err(AppError::Denied(text.to_owned()))
            }
        }
    }
}

/// Whether this person answers for what has this sponsor.
pub(super) fn is_sponsor(principal: &Principal, sponsor: &PrincipalName) -> bool {
    principal.kind == PrincipalKind::User && principal.name == *sponsor
}
