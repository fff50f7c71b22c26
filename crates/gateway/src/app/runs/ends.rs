//! Runs that somebody ends.

use corral_model::RunEnd;
use corral_model::event::EventBody;
use corral_model::process::LeftProcesses;

use super::no_run;
use crate::app::offboard::Disabled;
use crate::app::{App, AppError, Caller, Problem};

/// What ending a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndedRuns {
    pub runs_ended: u64,
    pub sessions_closed: u64,
}

impl App {
    /// Ends a run and everything below it, as done. Its sessions end too. The caller may be the
    /// run itself.
    ///
    /// `left` is what the caller says that the run's command left behind.
    ///
    /// # Errors
    /// [`AppError::NotFound`]; ending an ended run changes nothing and succeeds.
    /// [`AppError::Invalid`] when `left` is too long.
    pub async fn end_run(
        &self,
        caller: &Caller,
        id: &str,
        left: Option<LeftProcesses>,
    ) -> Result<EndedRuns, AppError> {
        if let Some(left) = left {
            self.note_left(caller, id, left)?;
        }
        self.finish_run(caller, id, RunEnd::Done).await
    }

    /// Records what a command left behind, when its run is about to end.
    fn note_left(&self, caller: &Caller, id: &str, left: LeftProcesses) -> Result<(), AppError> {
        if let Some(text) = left.unfit() {
            return Err(AppError::Invalid(vec![Problem::new(None, text)]));
        }
        let LeftProcesses { count, programs } = left;
        let live = self.live.runs().get(id);
        let run = live.filter(|run| count > 0 && self.may_see_run(caller, run));
        if let Some(run) = run {
            let body = EventBody::ProcessesLeft { count, programs };
            self.note(self.origin_of_run(&run), body);
        }
        Ok(())
    }

    /// Kills a run and everything below it: cancels what runs at the targets.
    ///
    /// # Errors
    /// As [`App::end_run`].
    pub async fn kill_run(&self, caller: &Caller, id: &str) -> Result<EndedRuns, AppError> {
        self.finish_run(caller, id, RunEnd::Killed).await
    }

    async fn finish_run(
        &self,
        caller: &Caller,
        id: &str,
        reason: RunEnd,
    ) -> Result<EndedRuns, AppError> {
        let live = self.live.runs().get(id);
        match live {
            Some(run) if self.may_see_run(caller, &run) => {
                let ended = self.end_tree(run.id(), reason, &caller.label()).await;
                let Disabled { runs_ended, sessions_closed } = ended;
                Ok(EndedRuns { runs_ended, sessions_closed })
            }
            Some(_) => Err(no_run(id)),
            None => {
                self.show_run(caller, id).await?;
                Ok(EndedRuns { runs_ended: 0, sessions_closed: 0 })
            }
        }
    }
}
