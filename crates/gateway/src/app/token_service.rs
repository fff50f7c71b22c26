//! What the token service gives for a token (RFC 8693), says of one (RFC 7662), and takes back
//! (RFC 7009).

use std::sync::Arc;

use corral_identity::Token;
use corral_identity::dpop::CheckedProof;
use corral_model::token::TokenDigest;
use corral_model::{Principal, Run, RunEnd, RunId, Secret};
use serde_json::Value;
use time::OffsetDateTime;

use super::access_tokens::{self, RunToken, ShownProof, SignedToken};
use super::admit::Bearer;
use super::live::runs::LiveRun;
use super::runs::{StartRun, StartedRun};
use super::{App, AppError, Caller, Problem};

pub mod same_run;

/// The form of the token that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenForm {
    /// `crl_…`: for every protocol.
    Opaque,
    /// A JWT: for HTTP, and bound to a key when one is proven.
    Jwt,
}

/// One exchange.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// Of a job (a root run), a principal (a root run) or a run (a child).
    pub subject: Secret,
    /// The workload that is meant, where several trust the job's tokens.
    pub workload: Option<String>,
    pub ask: StartRun,
    pub form: TokenForm,
    pub proof: Option<ShownProof>,
}

/// The run of an exchange, and a token of it.
#[derive(Debug, Clone)]
pub struct Exchanged {
    pub run: Run,
    /// Names from the root run to this one.
    pub path: String,
    pub token: Secret,
    /// Of the token; a JWT's may come before its run's.
    pub expires_at: OffsetDateTime,
    /// Whether it is bound to the key that was proven.
    pub is_bound: bool,
}

/// What is said of a token that is good.
#[derive(Debug, Clone)]
pub struct TokenFacts {
    /// The principal, or `admin`.
    pub subject: String,
    pub sponsor: Option<String>,
    pub run: Option<RunId>,
    pub run_path: Option<String>,
    /// The run and its ancestors, each acting for the next.
    pub actors: Option<Value>,
    pub expires_at: Option<OffsetDateTime>,
    /// Thumbprint of the key that it is bound to.
    pub key: Option<String>,
}

/// Whose token it is, whatever its form.
enum Owner {
    Run { run: Arc<LiveRun>, expires_at: OffsetDateTime, key: Option<String> },
    Login { principal: Principal, token: TokenDigest, expires_at: OffsetDateTime },
    Admin,
}

impl App {
    /// Starts a run for whoever the subject token stands for.
    ///
    /// # Errors
    /// As [`App::start_run`], and what is wrong with the token of a job, recorded as
    /// `run.refused`; [`AppError::BadProof`]; [`AppError::Invalid`] when an opaque token is to be
    /// bound to a key.
    ///
    /// # Cancel safety
    /// Cancelled before it returns, a job has its run or has not; it is not started twice.
    pub async fn exchange(&self, exchange: Exchange) -> Result<Exchanged, AppError> {
        let Exchange { subject, workload, ask, form, proof } = exchange;
        if proof.is_some() && form == TokenForm::Opaque {
            let text = "only a JWT can be bound to a key; ask for one with requested_token_type";
            return Err(AppError::Invalid(vec![Problem::new(None, text)]));
        }
        let proof = proof.map(|proof| self.check_proof(&proof, None)).transpose()?;
        let key = proof.as_ref().map(CheckedProof::key);
        // The subject is known before the proof is used up, and that before anything is started.
        let use_up = || proof.as_ref().map_or(Ok(()), |proof| self.use_up(proof));
        let StartedRun { run, path, token } = match self.subject(&subject, key).await? {
            Some(caller) => {
                use_up()?;
                self.start_run(&caller, ask).await?
            }
            None => {
                let config = self.config();
                let workload = workload.as_deref();
                let starter = self.job_starter(&config, &subject, workload, &ask).await?;
                use_up()?;
                self.start_as(&config, &starter, &ask).await?
            }
        };
        let SignedToken { token, expires_at } = match form {
            TokenForm::Opaque => {
                let expires_at = run.expires_at;
                SignedToken { token, expires_at }
            }
            TokenForm::Jwt => {
                let live = self.live.runs().get(run.id.as_str()).ok_or_else(|| {
                    AppError::Conflict("the run has ended in the meantime".to_owned())
                })?;
                self.access_token(&live, key)
            }
        };
        Ok(Exchanged { run, path, token, expires_at, is_bound: key.is_some() })
    }

    /// Whose subject token this is; None when only a job's issuer can say.
    async fn subject(&self, token: &Secret, key: Option<&str>) -> Result<Option<Caller>, AppError> {
        if Token::parse(token.reveal()).is_ok() {
            return self.authenticate(token).await.map(Some);
        }
        if !self.is_own_jwt(token.reveal()) {
            return Ok(None);
        }
        let over = || {
            let text = "this token is not good: it expired, or its run has ended";
            AppError::Unauthenticated(text.to_owned())
        };
        let RunToken { run, key: bound, .. } = self.run_of_jwt(token.reveal()).ok_or_else(over)?;
        if bound.is_some() && bound.as_deref() != key {
            let text = "this token is bound to a key; prove it with DPoP";
            return Err(AppError::Unauthenticated(text.to_owned()));
        }
        let standing = self.config().standing_under(run.principal(), run.sponsor());
        standing.map_err(|_| over())?;
        Ok(Some(Caller::Run { run: run.id().clone(), principal: run.principal().clone() }))
    }

    /// What a token is good for, when it is good and the caller may know it: the administrator any,
    /// a principal the runs that it may see, a run itself and what is below it, everybody its own.
    ///
    /// # Errors
    /// [`AppError::Unavailable`].
    pub async fn introspect(
        &self,
        caller: &Caller,
        token: &Secret,
    ) -> Result<Option<TokenFacts>, AppError> {
        let Some(owner) = self.owner(token).await? else { return Ok(None) };
        let config = self.config();
        Ok(match owner {
            Owner::Run { run, expires_at, key } => {
                let is_good = config.standing_under(run.principal(), run.sponsor()).is_ok();
                (is_good && self.may_see_run(caller, &run)).then(|| TokenFacts {
                    subject: run.principal().to_string(),
                    sponsor: Some(run.sponsor().to_string()),
                    run: Some(run.id().clone()),
                    run_path: Some(run.path().to_owned()),
                    actors: Some(access_tokens::actors(&run)),
                    expires_at: Some(expires_at),
                    key,
                })
            }
            Owner::Login { principal, expires_at, .. } => {
                let is_own = match caller {
                    Caller::Admin => true,
                    Caller::Principal { principal: own, .. } => *own == principal,
                    Caller::Run { .. } => false,
                };
                let standing = config.standing(&principal).ok().filter(|_| is_own);
                standing.map(|standing| TokenFacts {
                    subject: principal.to_string(),
                    sponsor: Some(standing.sponsor.to_string()),
                    run: None,
                    run_path: None,
                    actors: None,
                    expires_at: Some(expires_at),
                    key: None,
                })
            }
            Owner::Admin => matches!(caller, Caller::Admin).then(|| TokenFacts {
                subject: "admin".to_owned(),
                sponsor: None,
                run: None,
                run_path: None,
                actors: None,
                expires_at: None,
                key: None,
            }),
        })
    }

    /// Takes a token back: its run ends with everything below it, or its login is signed out.
    /// Whoever has a token may do so, and a token that is not good is as if it was taken back.
    ///
    /// # Errors
    /// [`AppError::Conflict`] for the administrator's, which is a file; [`AppError::Unavailable`].
    pub async fn revoke(&self, token: &Secret) -> Result<(), AppError> {
        match self.owner(token).await? {
            None => Ok(()),
            Some(Owner::Run { run, .. }) => {
                let by = format!("run {}", run.id());
                self.end_tree(run.id(), RunEnd::Done, &by).await;
                Ok(())
            }
            Some(Owner::Login { principal, token, .. }) => {
                self.sign_out(&Caller::Principal { principal, token }).await
            }
            Some(Owner::Admin) => Err(AppError::Conflict(
                "the administrator's token is not taken back here; replace admin.token".to_owned(),
            )),
        }
    }

    async fn owner(&self, token: &Secret) -> Result<Option<Owner>, AppError> {
        let Ok(opaque) = Token::parse(token.reveal()) else {
            let found = self.run_of_jwt(token.reveal());
            return Ok(found.map(|RunToken { run, key, expires_at }| {
                let expires_at = expires_at.min(run.shown_end());
                Owner::Run { run, expires_at, key }
            }));
        };
        if self.is_admin(&opaque.digest()) {
            return Ok(Some(Owner::Admin));
        }
        Ok(self.bearer(opaque.digest()).await?.map(|bearer| match bearer {
            Bearer::Run(run) => {
                let expires_at = run.shown_end();
                Owner::Run { run, expires_at, key: None }
            }
            Bearer::Principal { principal, token, expires_at, .. } => {
                Owner::Login { principal, token, expires_at }
            }
        }))
    }
}
