//! Root runs from the tokens of CI systems and clusters: whose job it is, who answers for it, and
//! that it starts once.

use corral_identity::jwks::{JwksError, VerifyError};
use corral_identity::jwt::{Claims, Rules, Unverified};
use corral_identity::token::digest_of;
use corral_model::event::Origin;
use corral_model::ids::PrincipalName;
use corral_model::resource::{Job, PersonClue, TrustRule, WorkloadSpec};
use corral_model::{Principal, Secret, limits};
use corral_store::JobToken;
use time::OffsetDateTime;

use super::config::Config;
use super::error::describe;
use super::runs::{StartRun, Starter, check_ask};
use super::{App, AppError};

/// A job whose token was verified.
pub(super) struct ProvenJob {
    pub(super) job: Job,
    /// The person who answers for it.
    pub(super) sponsor: PrincipalName,
    pub(super) token: JobToken,
}

/// One rule, and whose it is.
#[derive(Clone, Copy)]
struct Trust<'c> {
    workload: &'c WorkloadSpec,
    rule: &'c TrustRule,
}

impl App {
    /// Finds out whose job a token is of that its CI system or cluster signed, and who answers for
    /// it. `workload` chooses one where several trust such tokens. The token is not used up: that
    /// is when the run is kept.
    ///
    /// # Errors
    /// [`AppError::Unauthenticated`] when the token is not good, or nobody trusts it.
    /// [`AppError::Denied`] when no active person answers for the job. [`AppError::Unavailable`]
    /// when the issuer's keys cannot be had. All are recorded as `run.refused`.
    /// [`AppError::Invalid`] for a bad name or TTL.
    pub(super) async fn job_starter(
        &self,
        config: &Config,
        token: &Secret,
        workload: Option<&str>,
        ask: &StartRun,
    ) -> Result<Starter, AppError> {
        check_ask(ask)?;
        let mut origin = Origin::default();
        let proven = self.prove_job(config, token.reveal(), workload, &mut origin).await;
        proven.inspect_err(|error| self.refuse_run(origin, ask, error))
    }

    /// `origin` is told who it is as soon as that is proven.
    async fn prove_job(
        &self,
        config: &Config,
        token: &str,
        workload: Option<&str>,
        origin: &mut Origin,
    ) -> Result<Starter, AppError> {
        let now = OffsetDateTime::now_utc();
        let trusts = trusts_of(config, token, workload)?;
        let verified = self.verify(&trusts, token, now).await?;
        let (trust, claims) = (matching(&verified)?, verified.claims);
        let name = &trust.workload.name;
        origin.principal = Some(name.to_string());
        let sponsor = person(config, trust, &claims)?;
        origin.sponsor = Some(sponsor.to_string());
        let id = token_id(&claims, token);
        let platform = trust.rule.platform;
        let key = platform.job_key(claims.as_map(), &id).ok_or_else(|| {
            let platform = platform.name();
            AppError::Denied(format!("the token does not say which job of {platform} it is for"))
        })?;
        let expires_at = claims.expires_at().unwrap_or(now) + limits::JWT_LEEWAY;
        let job = Job::of(trust.rule, key, claims.as_map());
        Ok(Starter {
            principal: Principal::workload(name.clone()),
            parent: None,
            started_by: None,
            job: Some(ProvenJob { job, sponsor, token: JobToken { id, expires_at } }),
        })
    }

    /// Verifies a token for each audience and by each source of keys that is trusted.
    async fn verify<'c>(
        &self,
        trusts: &[Trust<'c>],
        token: &str,
        now: OffsetDateTime,
    ) -> Result<Verified<'c>, AppError> {
        let mut claims: Option<Claims> = None;
        let (mut good, mut unknown) = (Vec::new(), Vec::new());
        let mut refused: Option<VerifyError> = None;
        for (at, Trust { rule, .. }) in trusts.iter().enumerate() {
            let is_same = |other: &&Trust<'_>| {
                other.rule.audience == rule.audience
                    && other.rule.jwks_uri == rule.jwks_uri
                    && other.rule.ca == rule.ca
            };
            if trusts.iter().take(at).any(|earlier| is_same(&earlier)) {
                continue;
            }
            let rules = Rules::new(&rule.issuer, &rule.audience);
            let verified = match self.issuers.of(rule) {
                Ok(source) => source.verify(token, &rules, now).await,
                Err(error) => Err(error.into()),
            };
            let these = trusts.iter().filter(is_same).copied();
            match verified {
                Ok(verified) => {
                    claims = Some(verified);
                    good.extend(these);
                }
                Err(error) => {
                    if matches!(error, VerifyError::Keys(_)) {
                        unknown.extend(these);
                    }
                    refused = Some(error);
                }
            }
        }
        match (claims, refused) {
            (Some(claims), _) => Ok(Verified { claims, good, unknown }),
            (None, Some(VerifyError::Token(why))) => {
                Err(AppError::Unauthenticated(why.to_string()))
            }
            (None, Some(VerifyError::Keys(why))) => Err(keys_unknown(&why)),
            (None, None) => {
                Err(AppError::Unauthenticated("no workload trusts this token's issuer".to_owned()))
            }
        }
    }
}

/// A token whose signature is good by the keys of at least one rule.
struct Verified<'c> {
    claims: Claims,
    /// The rules whose keys and audience it is good for.
    good: Vec<Trust<'c>>,
    /// The rules whose keys cannot be had: it may be good for them too.
    unknown: Vec<Trust<'c>>,
}

/// The rules for the issuer that a token names. Nothing of it is believed yet.
fn trusts_of<'c>(
    config: &'c Config,
    token: &str,
    workload: Option<&str>,
) -> Result<Vec<Trust<'c>>, AppError> {
    let refuse = |text: String| AppError::Unauthenticated(text);
    let unverified = Unverified::parse(token).map_err(|why| refuse(why.to_string()))?;
    let issuer = unverified.claimed().issuer().unwrap_or_default();
    let is_meant = |spec: &&WorkloadSpec| workload.is_none_or(|name| spec.name.as_str() == name);
    let trusts: Vec<Trust<'c>> = config
        .workloads
        .values()
        .filter(is_meant)
        .flat_map(|workload| workload.trust.iter().map(move |rule| Trust { workload, rule }))
        .filter(|trust| trust.rule.issuer == issuer)
        .collect();
    if trusts.is_empty() {
        return Err(refuse("no workload trusts this token's issuer".to_owned()));
    }
    Ok(trusts)
}

/// The one workload that a verified token is for.
fn matching<'c>(verified: &Verified<'c>) -> Result<Trust<'c>, AppError> {
    let Verified { claims, good, unknown } = verified;
    let fits = |trust: &&Trust<'c>| trust.rule.mismatch(claims.as_map()).is_none();
    let unavailable = || {
        let text = "a workload that may take this token has an issuer whose keys cannot be had at \
                    the moment; try again, or name another workload as client_id";
        AppError::Unavailable(text.to_owned())
    };
    let mut fitting = good.iter().filter(fits);
    let Some(first) = fitting.next() else {
        if unknown.iter().any(|other| fits(&other)) {
            return Err(unavailable());
        }
        let of_one = match good.as_slice() {
            [Trust { rule, workload }] => rule
                .mismatch(claims.as_map())
                .map(|claim| format!(": '{claim}' is not what '{}' asks for", workload.name)),
            _ => None,
        };
        let why = of_one.unwrap_or_default();
        return Err(AppError::Unauthenticated(format!("no workload takes this token{why}")));
    };
    let is_other = |other: &Trust<'c>| other.workload.name != first.workload.name;
    if fitting.any(is_other) {
        let text = "several workloads take this token; name one as client_id";
        return Err(AppError::Unauthenticated(text.to_owned()));
    }
    // Which of them it is must not depend on whose keys can be had at the moment.
    if unknown.iter().filter(fits).any(is_other) {
        return Err(unavailable());
    }
    Ok(*first)
}

/// The person who answers for a job.
fn person(config: &Config, trust: Trust<'_>, claims: &Claims) -> Result<PrincipalName, AppError> {
    let Trust { workload, rule } = trust;
    let denied = |text: String| AppError::Denied(format!("the run is refused: {text}"));
    let clue = rule.person(claims.as_map(), workload.sponsor.as_ref());
    let found = match &clue {
        PersonClue::Named => {
            return workload.sponsor.clone().ok_or_else(|| {
                denied(format!(
                    "no person started this job (a bot or a schedule did), and workload '{}' names \
                     no sponsor",
                    workload.name
                ))
            });
        }
        PersonClue::Missing { claim } => {
            return Err(denied(format!("the token has no '{claim}', which names the person")));
        }
        PersonClue::Name(name) => {
            PrincipalName::new(name).ok().and_then(|name| config.users.get(&name))
        }
        PersonClue::Account { account, id } => config.users.of_account(account, id),
    };
    match (found, clue) {
        (Some(user), _) => Ok(user.name.clone()),
        (None, PersonClue::Account { account, .. }) => Err(denied(format!(
            "the person who started this job is nobody's `accounts.{account}` here"
        ))),
        (None, _) => Err(denied("the person who started this job is no user here".to_owned())),
    }
}

/// What makes a token single use: its `jti`, or its digest.
fn token_id(claims: &Claims, token: &str) -> String {
    match claims.id() {
        Some(id) if !id.is_empty() => format!("jti:{}", digest_of(id).to_hex()),
        Some(_) | None => format!("token:{}", digest_of(token).to_hex()),
    }
}

/// Who shows a token reads what is wrong with it; what is wrong with its issuer is for the log.
fn keys_unknown(why: &JwksError) -> AppError {
    tracing::warn!(error = %describe(why), "the keys of an issuer are not known");
    AppError::Unavailable(
        "the keys of the token's issuer cannot be had at the moment; try again".to_owned(),
    )
}
