//! What CI systems say of the ends of jobs: whose word it is, and which runs end by it.

use corral_identity::webhook::{Delivery, WebhookError, ended_jobs};
use corral_model::event::{EventBody, Origin};
use corral_model::ids::PrincipalName;
use corral_model::resource::{Job, WorkloadSecret};
use corral_model::{RunEnd, RunId};
use time::OffsetDateTime;

use super::live::runs::LiveRun;
use super::{App, AppError, Problem};

impl App {
    /// Takes a delivery of a workload's webhook: ends every run of the workload, and what is
    /// below it, whose job has ended by it. Only jobs of the webhook's own issuer are meant. A
    /// delivery about a job without a live run, or about something else, changes nothing, and
    /// so does the same one again.
    ///
    /// # Errors
    /// [`AppError::Unauthenticated`] when it is not signed with the workload's secret, recorded
    /// as `principal.refused`; the same for an unknown workload, which is not recorded.
    /// [`AppError::Invalid`] when the event does not say which job it means.
    /// [`AppError::Unavailable`] when the secret cannot be read.
    pub async fn take_job_ends(
        &self,
        workload: &str,
        delivery: &Delivery<'_>,
    ) -> Result<(), AppError> {
        let config = self.config();
        let spec = PrincipalName::new(workload).ok().and_then(|name| config.workloads.get(&name));
        let found = spec.and_then(|spec| Some((&spec.name, spec.webhook_issuer()?)));
        let (name, issuer) = found.ok_or_else(refused)?;
        let secret = self.store.workload_secret(name, WorkloadSecret::Webhook).await?;
        let checked = secret.ok_or(WebhookError::NoSecret);
        let checked = checked.and_then(|secret| delivery.check(&secret, OffsetDateTime::now_utc()));
        if let Err(why) = checked {
            let principal = Some(name.to_string());
            let (name, reason) =
                (name.to_string(), format!("the end of a job is not taken: {why}"));
            let origin = Origin { principal, ..Origin::default() };
            self.note(origin, EventBody::PrincipalRefused { name, reason });
            return Err(refused());
        }
        let invalid =
            |why: WebhookError| AppError::Invalid(vec![Problem::new(None, why.to_string())]);
        let ended = ended_jobs(delivery.body).map_err(invalid)?;
        let has_ended = |run: &LiveRun| {
            let job = job_of(run, name, issuer);
            job.is_some_and(|job| ended.iter().any(|claims| job.has(claims)))
        };
        let roots: Vec<RunId> = self.live.runs().roots_where(has_ended);
        self.end_jobs(&roots, &format!("webhook {name}")).await;
        Ok(())
    }

    /// Ends the runs of jobs that have ended, and what is below them.
    pub(super) async fn end_jobs(&self, roots: &[RunId], by: &str) {
        self.end_trees(roots, RunEnd::JobEnded, by).await;
    }
}

/// The job that a run of this workload comes from, where it is this issuer's.
pub(super) fn job_of<'r>(
    run: &'r LiveRun,
    workload: &PrincipalName,
    issuer: &str,
) -> Option<&'r Job> {
    run.job().filter(|job| job.issuer == issuer && run.principal().name == *workload)
}

/// One answer to all who are not known, so that nobody learns which workloads there are.
fn refused() -> AppError {
    let text = "this is not a delivery of the workload's webhook: it must be signed with the \
                secret of Workload.webhook";
    AppError::Unauthenticated(text.to_owned())
}
