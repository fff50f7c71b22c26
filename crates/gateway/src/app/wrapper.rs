//! A run's wrapper: whoever attached to it first, before anything ran in it.
//!
//! It alone says which of its processes a child run is for, and the run ends when it ends or no
//! longer answers. The run's token is no proof of being the wrapper, since everything in the run
//! has it: the wrapper shows a key, which the first to attach is told and nobody after that.

use std::sync::Arc;

use aws_lc_rs::hmac;
use corral_model::{RunEnd, RunId, Secret};
use tokio::time::Instant;

use super::config::hex;
use super::live::runs::LiveRun;
use super::{App, AppError, Caller};

/// The name of the gateway's own key that wrappers' keys are made of: every gateway of one store
/// makes the same ones, also after a restart.
const OWN_KEY: &str = "run-wrapper";

/// A connection that holds a run.
pub(crate) struct Attached {
    app: Arc<App>,
    run: Arc<LiveRun>,
    /// For the first.
    key: Option<Secret>,
}

impl Attached {
    /// The wrapper's key, for the first who attached.
    pub(crate) fn key(&self) -> Option<&Secret> {
        self.key.as_ref()
    }

    /// Whether the run goes on.
    pub(crate) fn is_live(&self) -> bool {
        self.run.is_live(Instant::now())
    }

    /// A gateway that stops closes every connection; its runs go on when it is back.
    pub(crate) fn is_draining(&self) -> bool {
        self.app.is_draining()
    }

    /// The wrapper is gone, or does not answer: the run ends, unless it is held otherwise.
    pub(crate) async fn lost(self) {
        if self.run.let_go() && !self.app.is_draining() {
            self.app.end_tree(self.run.id(), RunEnd::WrapperLost, "gateway").await;
        }
    }
}

impl App {
    /// Holds a run, as that run, by its first wrapper or by one that shows the wrapper's `key`.
    ///
    /// # Errors
    /// [`AppError::Denied`] for everybody else; [`AppError::Unauthenticated`] when the run ended
    /// in the meantime; [`AppError::Unavailable`] when the store is away.
    pub(crate) async fn attach(
        self: &Arc<Self>,
        caller: &Caller,
        id: &str,
        key: Option<Secret>,
    ) -> Result<Attached, AppError> {
        let is_itself = matches!(caller, Caller::Run { run, .. } if run.as_str() == id);
        if !is_itself {
            let text = "only a run itself may attach to its end";
            return Err(AppError::Denied(text.to_owned()));
        }
        let nobody = || AppError::Unauthenticated("this run has ended".to_owned());
        let run = self.live.runs().get(id).ok_or_else(nobody)?;
        if let Some(key) = key {
            if !self.is_wrapper_key(run.id(), &key).await? {
                return Err(not_the_wrapper());
            }
            run.hold_again();
            return Ok(Attached { app: self.clone(), run, key: None });
        }
        let key = self.wrapper_key(run.id()).await?;
        // Stored first: a gateway that is killed after this knows that the run has a wrapper.
        if !self.store.attach_run(run.id()).await? {
            return Err(nobody());
        }
        if !run.hold_first() {
            return Err(not_the_wrapper());
        }
        Ok(Attached { app: self.clone(), run, key: Some(key) })
    }

    async fn wrapper_key(&self, run: &RunId) -> Result<Secret, AppError> {
        let tag = hmac::sign(&self.wrapper_hmac().await?, run.as_str().as_bytes());
        Ok(Secret::new(hex(tag.as_ref())))
    }

    /// Whether this is the key of the run's wrapper.
    ///
    /// # Errors
    /// [`AppError::Unavailable`] when the store had to be asked and is away.
    pub(super) async fn is_wrapper_key(&self, run: &RunId, key: &Secret) -> Result<bool, AppError> {
        let own = self.wrapper_hmac().await?;
        let Some(tag) = super::admit::bytes_of_hex(key.reveal()) else { return Ok(false) };
        Ok(hmac::verify(&own, run.as_str().as_bytes(), &tag).is_ok())
    }

    async fn wrapper_hmac(&self) -> Result<hmac::Key, AppError> {
        let own = self.own_key(OWN_KEY).await;
        let own = own.map_err(|denial| AppError::Unavailable(denial.client_text))?;
        Ok(hmac::Key::new(hmac::HMAC_SHA256, own.reveal()))
    }
}

fn not_the_wrapper() -> AppError {
    let text = "this run has a wrapper, and only that one attaches again";
    AppError::Denied(text.to_owned())
}
