//! People and workloads with secrets of their own: signing in and out.

use corral_identity::{PasswordError, PasswordHash, Token, Verified};
use corral_model::event::{EventBody, Origin};
use corral_model::ids::PrincipalName;
use corral_model::token::TokenPurpose;
use corral_model::{CloseReason, OffboardCause, Principal, PrincipalKind, Secret, limits};
use corral_store::TokenRow;
use time::OffsetDateTime;
use tokio::time::Instant;

use super::config::NoStanding;
use super::live::logins::LiveLogin;
use super::resources::Author;
use super::{App, AppError, Caller};

/// A login token, shown once.
#[derive(Debug, Clone)]
pub struct SignedIn {
    pub principal: Principal,
    pub token: Secret,
    pub expires_at: OffsetDateTime,
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
        self.lift_suspension(&principal).await?;
        let is_person = principal.kind == PrincipalKind::User;
        let break_glass = is_person && !self.config().providers.is_empty();
        let method = method.to_owned();
        let body = EventBody::PrincipalSignedIn { name, method, provider: None, break_glass };
        self.append(origin, body)?;
        let signed_in = self.issue_login(&principal).await?;
        // Whoever disables first changes the configuration and then removes tokens: either it
        // finds this token, or this finds the changed configuration.
        if !self.may_hold_a_login(&principal) {
            self.forget_logins(&principal).await?;
            return Err(refused());
        }
        Ok(signed_in)
    }

    /// Whether this principal may show a password or secret at all. Suspended is not in the way of
    /// a local account: signing in is what ends it.
    fn may_sign_in(&self, principal: &Principal) -> bool {
        let config = self.config();
        let is_local = || {
            let user = config.users.get(&principal.name);
            user.is_some_and(|user| user.signs_in_by().is_none())
        };
        match (principal.kind, config.standing(principal)) {
            (PrincipalKind::User, Ok(_) | Err(NoStanding::Suspended(_))) => is_local(),
            (
                PrincipalKind::Workload,
                Ok(_)
                | Err(
                    NoStanding::SponsorDisabled { .. }
                    | NoStanding::SponsorMissing { .. }
                    | NoStanding::NoSponsor(_),
                ),
            ) => true,
            (
                _,
                Err(
                    NoStanding::Unknown { .. }
                    | NoStanding::Disabled(_)
                    | NoStanding::Suspended(_)
                    | NoStanding::SponsorDisabled { .. }
                    | NoStanding::SponsorMissing { .. }
                    | NoStanding::NoSponsor(_),
                ),
            ) => false,
        }
    }

    /// Whether a login token of this principal is good. A workload may hold one under a sponsor who
    /// is not active: it is refused what it asks for, with the reason.
    pub(super) fn may_hold_a_login(&self, principal: &Principal) -> bool {
        match self.config().standing(principal) {
            Ok(_)
            | Err(
                NoStanding::SponsorDisabled { .. }
                | NoStanding::SponsorMissing { .. }
                | NoStanding::NoSponsor(_),
            ) => true,
            Err(
                NoStanding::Unknown { .. } | NoStanding::Disabled(_) | NoStanding::Suspended(_),
            ) => false,
        }
    }

    /// A good sign-in ends a suspension.
    pub(super) async fn lift_suspension(&self, principal: &Principal) -> Result<(), AppError> {
        if !matches!(self.config().standing(principal), Err(NoStanding::Suspended(_))) {
            return Ok(());
        }
        let author = Author { by: principal.to_string(), cause: OffboardCause::ByHand };
        self.change_user(&author, &principal.name, |user| user.suspended = None).await.map(drop)
    }

    pub(super) async fn issue_login(&self, principal: &Principal) -> Result<SignedIn, AppError> {
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
