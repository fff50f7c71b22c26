//! What is kept of one session with a cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use corral_gate::{Denial, DenialKind};
use corral_model::resource::{ColumnName, TargetTlsMode};
use corral_session::{Opened, OwnKey, SessionHandle};

use super::diff::DigestKey;
use super::options::Options;
use super::outgoing::{Outgoing, identity};
use super::shown::Shown;
use crate::http_parts::sessions::Kept;
use crate::http_parts::target::Target;

/// One session with a cluster.
pub(crate) struct Cluster {
    pub(crate) session: SessionHandle,
    pub(crate) options: Options,
    pub(crate) target: Target,
    pub(crate) outgoing: Outgoing,
    /// Fields that the record never shows.
    pub(crate) classified: Arc<[ColumnName]>,
    pub(crate) digest_key: DigestKey,
    token_ends: Option<Instant>,
    has_answered: AtomicBool,
}

impl Cluster {
    /// The target answered; told to the session once.
    pub(crate) async fn opened(&self) {
        if !self.has_answered.swap(true, Ordering::Relaxed) {
            self.session.opened().await;
        }
    }
}

impl Kept for Cluster {
    const KEY: &'static str = "kubernetes digests";

    fn new(opened: Opened, key: &OwnKey) -> Result<Self, Denial> {
        let Opened { session, admission, endpoint, renewed, token_ends } = opened;
        let options = Options::read(&admission.options).map_err(|error| {
            let mut denial =
                Denial::new(DenialKind::TargetUnavailable, "the target's options cannot be read");
            denial.internal = Some(error);
            denial
        })?;
        if endpoint.tls == TargetTlsMode::Disable && !admission.is_target_local {
            let text = "the gateway sends no token in clear to another machine";
            return Err(Denial::new(DenialKind::TargetUnavailable, text));
        }
        let outgoing = Outgoing::new(
            Shown::new(&admission.credential, renewed)?,
            &admission,
            &options.impersonate,
        )?;
        let target = Target::new(endpoint, identity(&admission), session.clone());
        let has_answered = AtomicBool::new(false);
        let digest_key = DigestKey::new(*key.reveal());
        let classified = admission.classified.clone();
        Ok(Self {
            session,
            options,
            target,
            outgoing,
            classified,
            digest_key,
            token_ends,
            has_answered,
        })
    }

    fn session(&self) -> &SessionHandle {
        &self.session
    }

    fn token_ends(&self) -> Option<Instant> {
        self.token_ends
    }
}
