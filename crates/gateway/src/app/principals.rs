//! People and workloads: signing in and out, disabling and enabling.

use corral_identity::{PasswordError, PasswordHash, Token, Verified};
use corral_model::event::{EventBody, Origin};
use corral_model::ids::PrincipalName;
use corral_model::resource::UserSpec;
use corral_model::token::TokenPurpose;
use corral_model::{CloseReason, Principal, Secret, limits};
use corral_store::TokenRow;
use time::OffsetDateTime;
use tokio::time::Instant;

use super::config::NoStanding;
use super::live::logins::LiveLogin;
use super::{App, AppError, Caller};

/// A login token, shown once.
#[derive(Debug, Clone)]
pub struct SignedIn {
    pub principal: Principal,
    pub token: Secret,
    pub expires_at: OffsetDateTime,
}

/// What disabling a principal ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Disabled {
    pub runs_ended: u64,
    pub sessions_closed: u64,
}

const WRONG: &str = "name or password are wrong, or the account is disabled";

impl App {
    /// Signs a user in by password.
    ///
    /// # Errors
    /// [`AppError::Unauthenticated`], with the same text and the same work whether the name or
    /// the password is wrong or the user is disabled. [`AppError::LimitReached`] when too many
    /// passwords are checked at once.
    pub async fn sign_in_user(&self, name: &str, password: Secret) -> Result<SignedIn, AppError> {
        let principal = PrincipalName::new(name).ok().map(Principal::user);
        self.sign_in(principal, password, "password").await
    }

    /// Signs a workload in by its secret. A disabled sponsor does not matter yet: it is what the
    /// workload asks for that is refused, with the reason.
    ///
    /// # Errors
    /// As [`App::sign_in_user`].
    pub async fn sign_in_workload(&self, name: &str, secret: Secret) -> Result<SignedIn, AppError> {
        let principal = PrincipalName::new(name).ok().map(Principal::workload);
        self.sign_in(principal, secret, "secret").await
    }

    async fn sign_in(
        &self,
        principal: Option<Principal>,
        secret: Secret,
        method: &str,
    ) -> Result<SignedIn, AppError> {
        let refused = || AppError::Unauthenticated(WRONG.to_owned());
        let hash = match &principal {
            Some(principal) if self.may_sign_in(principal) => {
                self.store.login_hash(principal).await?
            }
            Some(_) | None => None,
        };
        let hash = hash.and_then(|phc| PasswordHash::parse(phc.reveal()).ok());
        let verified = self.passwords.verify(secret, hash).await.map_err(|error| match error {
            PasswordError::Busy => {
                AppError::LimitReached("too many people sign in at once; try again".to_owned())
            }
            PasswordError::BadLength | PasswordError::BadHash | PasswordError::Failed => {
                tracing::error!(%error, "a password cannot be checked");
                AppError::Unavailable("the password cannot be checked".to_owned())
            }
        })?;
        let Some(principal) = principal else { return Err(refused()) };
        let name = principal.to_string();
        let origin = Origin { principal: Some(name.clone()), ..Origin::default() };
        match verified {
            Verified::Right => {}
            Verified::Wrong => {
                let reason = format!("wrong {method}, unknown, or disabled");
                self.note(origin, EventBody::PrincipalRefused { name, reason });
                return Err(refused());
            }
        }
        self.append(origin, EventBody::PrincipalSignedIn { name, method: method.to_owned() })?;
        let signed_in = self.issue_login(&principal).await?;
        // Whoever disables first changes the configuration and then removes tokens: either it
        // finds this token, or this finds the changed configuration.
        if !self.may_sign_in(&principal) {
            self.forget_logins(&principal).await?;
            return Err(refused());
        }
        Ok(signed_in)
    }

    fn may_sign_in(&self, principal: &Principal) -> bool {
        match self.config().standing(principal) {
            Ok(_) | Err(NoStanding::SponsorDisabled { .. } | NoStanding::SponsorMissing { .. }) => {
                true
            }
            Err(NoStanding::Unknown { .. } | NoStanding::Disabled(_)) => false,
        }
    }

    async fn issue_login(&self, principal: &Principal) -> Result<SignedIn, AppError> {
        let token = new_token()?;
        let created_at = OffsetDateTime::now_utc();
        let expires_at = created_at + limits::LOGIN_TTL;
        let row = TokenRow {
            digest: token.digest(),
            purpose: TokenPurpose::Login(principal.clone()),
            created_at,
            expires_at: Some(expires_at),
            revoked_at: None,
        };
        self.store.insert_token(&row).await?;
        let deadline = Instant::now() + limits::LOGIN_TTL;
        let login = LiveLogin { principal: principal.clone(), deadline, expires_at };
        self.live.logins().insert(row.digest, login);
        let token = Secret::new(token.reveal().to_owned());
        Ok(SignedIn { principal: principal.clone(), token, expires_at })
    }

    /// Makes the caller's login token invalid and ends the sessions opened with it.
    ///
    /// # Errors
    /// [`AppError::Conflict`] when the caller is not signed in by a login token.
    pub async fn sign_out(&self, caller: &Caller) -> Result<(), AppError> {
        let Caller::Principal { token, .. } = caller else {
            let text = "this token was not made by signing in; a run is ended with `runs end`";
            return Err(AppError::Conflict(text.to_owned()));
        };
        self.store.revoke_token(token, OffsetDateTime::now_utc()).await?;
        self.live.logins().remove(token);
        self.end_sessions(CloseReason::Expired, "this session's token was signed out", |session| {
            session.login.as_ref() == Some(token)
        });
        Ok(())
    }

    /// Disables a user: its tokens, its runs, the runs that it sponsors, and their live sessions
    /// end at once. Only the administrator may.
    ///
    /// # Errors
    /// [`AppError::Denied`], [`AppError::NotFound`], [`AppError::Unavailable`].
    pub async fn disable_user(&self, caller: &Caller, name: &str) -> Result<Disabled, AppError> {
        caller.require_admin()?;
        let label = caller.label();
        let change = |user: &mut UserSpec| {
            user.disabled = true;
            user.disabled_by = Some(label.clone());
        };
        let swept = self.change_user(caller, name, change).await?;
        let principal = PrincipalName::new(name).map(Principal::user);
        if let Ok(principal) = principal {
            self.forget_logins(&principal).await?;
        }
        let body = EventBody::PrincipalDisabled {
            name: name.to_owned(),
            by: caller.label(),
            runs_ended: swept.runs_ended,
            sessions_closed: swept.sessions_closed,
        };
        self.note(Origin::default(), body);
        Ok(swept)
    }

    /// Enables a user again. Ended runs stay ended, and old login tokens stay invalid.
    ///
    /// # Errors
    /// As [`App::disable_user`].
    pub async fn enable_user(&self, caller: &Caller, name: &str) -> Result<(), AppError> {
        caller.require_admin()?;
        let change = |user: &mut UserSpec| {
            user.disabled = false;
            user.disabled_by = None;
        };
        self.change_user(caller, name, change).await?;
        let body = EventBody::PrincipalEnabled { name: name.to_owned(), by: caller.label() };
        self.note(Origin::default(), body);
        Ok(())
    }

    /// Makes every login token of a principal invalid.
    pub(super) async fn forget_logins(&self, principal: &Principal) -> Result<(), AppError> {
        let purpose = TokenPurpose::Login(principal.clone());
        let revoked = self.store.revoke_tokens(&purpose, OffsetDateTime::now_utc()).await;
        self.live.logins().remove_of(principal);
        revoked?;
        Ok(())
    }
}

/// A token that was never given before.
pub(super) fn new_token() -> Result<Token, AppError> {
    Token::generate().map_err(|error| {
        tracing::error!(%error, "no token can be made");
        AppError::Unavailable("the gateway has no random numbers".to_owned())
    })
}
