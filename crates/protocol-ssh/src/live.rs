//! A connection that was let in: its session, its target, and what its channels share.

use std::sync::{Arc, OnceLock, Weak};
use std::time::SystemTime;

use corral_gate::blank::Secrets;
use corral_gate::{Denial, DenialKind, Login, Proof};
use corral_model::Secret;
use corral_model::TokenDigest;
use corral_model::event::CloseReason;
use corral_model::resource::CommandSpec;
use corral_session::{Authority, ConnectionFacts, Opened, SessionHandle};
use russh::keys::ssh_key::Certificate;
use russh::server::Handle;
use tokio_util::task::TaskTracker;

use crate::channel::Asker;
use crate::forward::Listens;
use crate::inbox::Inboxes;
use crate::names::UserName;
use crate::options::Options;
use crate::target::{self, Target, Visit};
use crate::target_side::Belongs;
use crate::{certificate, keys};

/// Everything that the channels of one connection share.
pub(crate) struct Live {
    pub(crate) session: SessionHandle,
    pub(crate) target: Target,
    pub(crate) options: Options,
    /// The account at the target.
    pub(crate) login: String,
    pub(crate) secrets: Secrets,
    /// Those with typed parameters that are for this target.
    pub(crate) commands: Arc<[CommandSpec]>,
    /// What the target sent.
    pub(crate) from_target: Arc<Inboxes>,
    /// What the client sent.
    pub(crate) from_client: Arc<Inboxes>,
    /// The channels that run.
    pub(crate) channels: TaskTracker,
    /// Where the target listens for the client.
    pub(crate) listens: Listens,
    /// The way to the client, known once it asked the target to listen.
    pub(crate) to_client: OnceLock<Handle>,
}

impl Live {
    /// Who asks, and what the target has for them.
    pub(crate) fn asker(&self) -> Asker<'_> {
        Asker { login: &self.login, options: &self.options, commands: &self.commands }
    }
}

/// The way from a target's connection to what it belongs to; empty until the client is let in.
pub(crate) type Owner = Arc<OnceLock<Weak<Live>>>;

/// What a client shows.
pub(crate) enum Shown<'a> {
    Token(&'a str),
    Certificate(&'a Certificate),
    /// Somebody showed it for the client before it came here.
    Before(Proof),
}

/// Lets a client in: its name, its proof, the session, the target.
///
/// # Errors
/// A [`Denial`] that is recorded.
pub(crate) async fn open(
    authority: &dyn Authority,
    facts: &ConnectionFacts,
    user: &str,
    shown: Shown<'_>,
    from_client: Arc<Inboxes>,
) -> Result<Arc<Live>, Denial> {
    let refuse = |kind: DenialKind, text: String| {
        authority.refused(facts, &text);
        Denial::new(kind, text)
    };
    let name = UserName::parse(user, facts.listener_target.as_ref())
        .map_err(|error| refuse(DenialKind::Authentication, error.to_string()))?;
    let proof = match shown {
        Shown::Token(token) => Proof::Token(Secret::new(token.to_owned())),
        Shown::Before(proof) => proof,
        Shown::Certificate(certificate) => {
            let token = token_of(authority, certificate).await?;
            Proof::Certified(token.map_err(|text| refuse(DenialKind::Authentication, text))?)
        }
    };
    let login = Login {
        proof,
        target: name.target.clone(),
        database: None,
        claims: vec![("user".to_owned(), user.to_owned())],
    };
    let opened = corral_session::open(authority, login, facts.clone()).await?;
    reach(authority, opened, name.login, from_client).await
}

async fn token_of(
    authority: &dyn Authority,
    certificate: &Certificate,
) -> Result<Result<TokenDigest, String>, Denial> {
    let own = keys::own(authority, keys::CLIENT_AUTHORITY).await?;
    let trusted = own.public_key().key_data();
    let token = certificate::token_of(certificate, trusted, SystemTime::now());
    Ok(token.map_err(|error| error.to_string()))
}

/// Connects an open session with its target. What goes wrong ends the session.
async fn reach(
    authority: &dyn Authority,
    opened: Opened,
    login: String,
    from_client: Arc<Inboxes>,
) -> Result<Arc<Live>, Denial> {
    let Opened { session, admission, endpoint, renewed: _, token_ends: _ } = opened;
    let work = async {
        let options = Options::of_session(&admission.options)?;
        if login != admission.credential.username && !options.logins.contains(&login) {
            let text = "this target does not let anybody in under this login; see the target's \
                        options.logins";
            return Err(Denial::new(DenialKind::Forbidden, text));
        }
        let from_target = Arc::new(Inboxes::default());
        let visit = Visit {
            authority,
            admission: &admission,
            endpoint: &endpoint,
            options: &options,
            login: &login,
        };
        let owner = Owner::default();
        let belongs = Belongs {
            session: session.clone(),
            inboxes: from_target.clone(),
            owner: owner.clone(),
        };
        let target = target::connect(&visit, belongs).await?;
        Ok((options, from_target, target, owner))
    };
    let reached = {
        tokio::pin!(work);
        // Somebody may kill the session while its target is slow.
        let first = tokio::select! {
            biased;
            reached = &mut work => Ok(reached),
            end = session.ended() => Err(end),
        };
        match first {
            Ok(reached) => reached,
            // Whoever tried a target whose connection is gone is about to say why.
            Err(end) if matches!(end.reason, CloseReason::Target) => work.await,
            Err(end) => Err(end.denial),
        }
    };
    match reached {
        Ok((options, from_target, target, owner)) => {
            session.opened().await;
            let live = Arc::new(Live {
                secrets: Secrets::of(&admission.credential),
                commands: admission.commands.clone(),
                session,
                target,
                options,
                login,
                from_target,
                from_client,
                channels: TaskTracker::new(),
                listens: Listens::default(),
                to_client: OnceLock::new(),
            });
            // Nobody else sets it.
            let _ = owner.set(Arc::downgrade(&live));
            Ok(live)
        }
        Err(denial) => {
            if let Some(internal) = &denial.internal {
                tracing::warn!(session = %session.id(), internal, "a target was not reached");
            }
            let reason = match denial.kind {
                DenialKind::TargetUnavailable => CloseReason::Target,
                _ => CloseReason::Client,
            };
            session.end(reason, denial.clone());
            Err(denial)
        }
    }
}
