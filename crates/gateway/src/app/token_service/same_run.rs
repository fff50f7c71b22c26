//! Another JWT of a run that is there, for whoever has a token of that run: it starts nothing, and
//! gives the run neither time nor rights.

use corral_identity::dpop::CheckedProof;
use corral_model::event::EventBody;
use corral_model::{RunId, Secret};

use super::{Exchanged, TokenForm};
use crate::app::access_tokens::{ShownProof, SignedToken};
use crate::app::{App, AppError, Caller, Problem};

/// One exchange for the same run.
#[derive(Debug, Clone)]
pub struct SameRun {
    /// A good token of the run itself.
    pub subject: Secret,
    /// The run, so that nobody who means a child gets this.
    pub run: RunId,
    pub form: TokenForm,
    pub proof: Option<ShownProof>,
}

impl App {
    /// Gives another JWT of a run, and records that first. One that comes of a bound JWT is bound to the same key; one that
    /// comes of another token, to the key that is proven, if any is.
    ///
    /// # Errors
    /// [`AppError::Unauthenticated`] when the subject token is not good, [`AppError::BadProof`],
    /// [`AppError::Denied`] when the token is not one of this run, [`AppError::Invalid`] when an
    /// opaque token is asked for, [`AppError::Unavailable`].
    pub async fn exchange_for_same_run(&self, exchange: SameRun) -> Result<Exchanged, AppError> {
        let SameRun { subject, run, form, proof } = exchange;
        if form == TokenForm::Opaque {
            let text = "a run has one opaque token, which is good as long as the run is; ask for \
                        a JWT with requested_token_type";
            return Err(AppError::Invalid(vec![Problem::new(None, text)]));
        }
        let unavailable = |denial: corral_gate::Denial| AppError::Unavailable(denial.client_text);
        self.check_authority().map_err(unavailable)?;
        let proof = proof.map(|proof| self.check_proof(&proof, None)).transpose()?;
        let key = proof.as_ref().map(CheckedProof::key);
        let caller = self.subject(&subject, key).await?;
        let is_own = matches!(&caller, Some(Caller::Run { run: own, .. }) if *own == run);
        if !is_own {
            let text = "only a token of the run itself is exchanged for another one of that run; \
                        name a child instead of run_id to start one";
            return Err(AppError::Denied(text.to_owned()));
        }
        if let Some(proof) = &proof {
            self.use_up(proof)?;
        }
        let live = self.live.runs().get(run.as_str());
        let live = live.ok_or_else(|| AppError::Unauthenticated("the run has ended".to_owned()))?;
        let SignedToken { token, expires_at } = self.access_token(&live, key);
        let renewed = EventBody::TokenRenewed { until: expires_at, key: key.map(str::to_owned) };
        self.append(self.origin_of_run(&live), renewed)?;
        let (run, path) = (live.snapshot(), live.path().to_owned());
        Ok(Exchanged { run, path, token, expires_at, is_bound: key.is_some() })
    }
}
