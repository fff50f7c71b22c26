//! Short-lived credentials for clients, what the gateway publishes of itself, and how a target
//! presents itself: asked of the protocol, which alone knows their form.

use std::sync::Arc;

use corral_gate::{Denial, DenialKind};
use corral_model::limits;
use corral_model::token::TokenDigest;
use corral_session::{Authority, IssueRequest, Issued, Service, StreamEngine};
use tokio::time::Instant;

use super::admit::{Bearer, Door};
use super::{App, AppError, Caller, Problem};
use crate::protocols;

/// What clients must know to recognise the gateway, and targets to take its credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    pub clients: String,
    pub targets: Option<String>,
}

impl App {
    /// A credential for whoever showed the token, for their own public `material`.
    ///
    /// # Errors
    /// [`AppError::Denied`] for the administrator, who opens no sessions; [`AppError::Invalid`]
    /// when the protocol has no such credentials or the material is not of its form;
    /// [`AppError::Unauthenticated`] when the token ended in the meantime.
    pub async fn issue_credential(
        self: &Arc<Self>,
        caller: &Caller,
        token: TokenDigest,
        protocol: &str,
        material: String,
    ) -> Result<Issued, AppError> {
        if matches!(caller, Caller::Admin) {
            let text = "the administrator's token opens no sessions; sign in, or start a run";
            return Err(AppError::Denied(text.to_owned()));
        }
        if material.len() > limits::CREDENTIAL_BYTES_MAX {
            let text = format!("material: more than {} bytes", limits::CREDENTIAL_BYTES_MAX);
            return Err(invalid(text));
        }
        let engine = engine(protocol)?;
        let nobody = || AppError::Unauthenticated("this token has ended".to_owned());
        let bearer = self.bearer(token).await?.ok_or_else(nobody)?;
        let now = Instant::now();
        let (name, left) = match &bearer {
            Bearer::Run(run) => (run.path().to_owned(), run.time_left(now)),
            Bearer::Principal { principal, deadline, .. } => {
                (principal.to_string(), deadline.saturating_duration_since(now))
            }
        };
        let ttl_max = left.min(limits::CLIENT_CREDENTIAL_TTL);
        let asked = IssueRequest { token, name, material, ttl_max };
        let door: &dyn Authority = &Door::new(self.clone());
        engine.issue(door, &asked).await.map_err(of_denial)
    }

    /// What a protocol publishes, for whoever reaches its listener at `host` and `port`.
    ///
    /// # Errors
    /// [`AppError::Invalid`] when it publishes nothing, or `host` is none.
    pub async fn published(
        self: &Arc<Self>,
        protocol: &str,
        host: &str,
        port: u16,
    ) -> Result<Published, AppError> {
        let engine = engine(protocol)?;
        // It becomes part of a text that clients read line by line and word by word.
        let is_host = (1..=limits::HOST_BYTES_MAX).contains(&host.len())
            && host
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':'));
        if !is_host {
            return Err(invalid("host: write a host's name or address".to_owned()));
        }
        let door: &dyn Authority = &Door::new(self.clone());
        let clients = engine.published(door, host, port).await.map_err(of_denial)?;
        let targets = engine.trusted(door).await.map_err(of_denial)?;
        Ok(Published { clients, targets })
    }

    /// How a target presents itself at this moment, for a person to compare and pin.
    ///
    /// # Errors
    /// [`AppError::Denied`] for everybody but the administrator, [`AppError::NotFound`],
    /// [`AppError::Invalid`] when the target's protocol has nothing that could be pinned,
    /// [`AppError::Unavailable`] when the target cannot be reached.
    pub async fn target_presents(
        &self,
        caller: &Caller,
        name: &str,
    ) -> Result<Vec<String>, AppError> {
        caller.require_admin()?;
        let not_found = || AppError::NotFound { kind: "target", name: name.to_owned() };
        let target = self.config().target(name).cloned().ok_or_else(not_found)?;
        let engine = engine(&target.spec.protocol)?;
        engine.inspect(&self.routed(&target)).await.map_err(of_denial)
    }
}

fn engine(protocol: &str) -> Result<&'static dyn StreamEngine, AppError> {
    match protocols::service(protocol) {
        Some(Service::Stream(engine)) => Ok(engine.as_ref()),
        Some(Service::Framed(_) | Service::Http(_)) => {
            let text = format!(
                "protocol '{protocol}' has no keys of its own: who is who there is told by TLS \
                 and tokens"
            );
            Err(invalid(text))
        }
        None => Err(AppError::NotFound { kind: "protocol", name: protocol.to_owned() }),
    }
}

fn invalid(text: String) -> AppError {
    AppError::Invalid(vec![Problem::new(None, text)])
}

/// A refusal in the API's words. Its text is made for clients; internals go to the log.
fn of_denial(denial: Denial) -> AppError {
    if let Some(internal) = &denial.internal {
        tracing::warn!(error = %internal, "a protocol refused what the API asked for");
    }
    let text = denial.client_text;
    match denial.kind {
        DenialKind::Authentication => AppError::Unauthenticated(text),
        DenialKind::Forbidden | DenialKind::ApprovalDenied | DenialKind::ApprovalExpired => {
            AppError::Denied(text)
        }
        DenialKind::TooManySessions | DenialKind::BudgetSpent => AppError::LimitReached(text),
        DenialKind::TooLarge | DenialKind::NotSupported | DenialKind::Protocol => invalid(text),
        DenialKind::Withdrawn
        | DenialKind::RecordUnavailable
        | DenialKind::TargetUnavailable
        | DenialKind::Ended
        | DenialKind::Shutdown => AppError::Unavailable(text),
    }
}
