//! What CI systems say of the ends of jobs: whose word it is, and which runs end by it.

use std::net::IpAddr;

use corral_identity::webhook::{Delivery, WebhookError, ended_jobs};
use corral_model::event::{EventBody, Origin};
use corral_model::ids::PrincipalName;
use corral_model::resource::{Job, WorkloadSecret};
use corral_model::{RunEnd, RunId, limits};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::bad_deliveries::Weight;
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
    /// [`AppError::LimitReached`] instead, when the address goes on with such deliveries.
    /// [`AppError::Invalid`] when the event does not say which job it means.
    /// [`AppError::Unavailable`] when the secret cannot be read.
    pub async fn take_job_ends(
        &self,
        workload: &str,
        delivery: &Delivery<'_>,
        from: Option<IpAddr>,
    ) -> Result<(), AppError> {
        let config = self.config();
        let spec = PrincipalName::new(workload).ok().and_then(|name| config.workloads.get(&name));
        let found = spec.and_then(|spec| Some((&spec.name, spec.webhook_issuer()?)));
        let Some((name, issuer)) = found else {
            return Err(self.refuse_delivery(workload, None, from));
        };
        let secret = self.store.workload_secret(name, WorkloadSecret::Webhook).await?;
        let checked = secret.ok_or(WebhookError::NoSecret);
        let checked = checked.and_then(|secret| delivery.check(&secret, OffsetDateTime::now_utc()));
        if let Err(why) = checked {
            return Err(self.refuse_delivery(workload, Some(&why), from));
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

    /// Counts a delivery that is not taken, and records it unless it belongs to a burst. `why` is
    /// None for an unknown workload, of which nothing is recorded.
    fn refuse_delivery(
        &self,
        workload: &str,
        why: Option<&WebhookError>,
        from: Option<IpAddr>,
    ) -> AppError {
        let weight = self.count_bad_push("webhook", workload, from);
        if let Some(why) = why {
            let reason = format!("the end of a job is not taken: {why}");
            self.note_bad_push(weight, workload, Some(workload.to_owned()), reason, from);
        }
        match weight {
            Weight::Single => refused(),
            Weight::Burst | Weight::Silent => too_many(),
        }
    }

    /// Counts a push that is not taken.
    pub(super) fn count_bad_push(&self, kind: &str, name: &str, from: Option<IpAddr>) -> Weight {
        self.bad_deliveries.count(&format!("{kind} {name}"), from, Instant::now())
    }

    /// Records it as `principal.refused`, unless it belongs to a burst.
    pub(super) fn note_bad_push(
        &self,
        weight: Weight,
        name: &str,
        principal: Option<String>,
        reason: String,
        from: Option<IpAddr>,
    ) {
        let reason = match weight {
            Weight::Silent => return,
            Weight::Single => reason,
            Weight::Burst => {
                let address = from.map_or("a Unix socket".to_owned(), |ip| ip.to_string());
                format!(
                    "{reason}; {address} sends too many of them: no more are recorded until it \
                     was quiet for {} seconds",
                    limits::BAD_PUSHES_QUIET.as_secs()
                )
            }
        };
        let origin = Origin { principal, ..Origin::default() };
        self.note(origin, EventBody::PrincipalRefused { name: name.to_owned(), reason });
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

/// As [`refused`], to whoever does not stop.
fn too_many() -> AppError {
    let text = "too many deliveries that are not signed with the secret of Workload.webhook; \
                stop for a minute";
    AppError::LimitReached(text.to_owned())
}

/// One answer to all who are not known, so that nobody learns which workloads there are.
fn refused() -> AppError {
    let text = "this is not a delivery of the workload's webhook: it must be signed with the \
                secret of Workload.webhook";
    AppError::Unauthenticated(text.to_owned())
}
