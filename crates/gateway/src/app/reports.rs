//! Reports over runs, from what the store lists and the record holds. Each caller's report covers
//! the runs that this caller may see.

use std::collections::{BTreeMap, HashMap};

use corral_gate::policy::Engine;
use corral_model::event::{Event, EventBody};
use corral_model::ids::{PrincipalName, TargetName};
use corral_model::process::LeftProcesses;
use corral_model::{Principal, RunEnd, RunId, RunState, Used, limits};
use time::OffsetDateTime;

use super::audit::EventFilter;
use super::runs::{RunFilter, RunView};
use super::{App, AppError, Caller};

/// What one person answers for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SponsorReport {
    pub sponsor: PrincipalName,
    pub runs_active: u64,
    pub runs_ended: u64,
    pub sessions: u64,
    /// Of the roots, which are charged for what is below them.
    pub used: Used,
    pub last_started_at: OffsetDateTime,
}

/// A workload without an active run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DormantReport {
    pub workload: PrincipalName,
    pub sponsor: Option<PrincipalName>,
    pub last_started_at: Option<OffsetDateTime>,
}

/// What a run was granted by name and never used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantReport {
    pub run: RunId,
    pub path: String,
    pub sponsor: PrincipalName,
    pub is_active: bool,
    pub unused_targets: Vec<TargetName>,
    pub unused_actions: Vec<String>,
}

/// A root run that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedReport {
    pub time: OffsetDateTime,
    pub principal: Option<String>,
    pub sponsor: Option<String>,
    pub name: String,
    pub count: u64,
    pub reason: String,
}

/// A run that ended because what it hung on was gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrphanReport {
    pub run: RunId,
    pub path: String,
    pub sponsor: PrincipalName,
    pub reason: RunEnd,
    pub left: Option<LeftProcesses>,
    pub ended_at: OffsetDateTime,
}

impl App {
    /// Runs by the person who answers for them; who has most active ones first.
    ///
    /// # Errors
    /// [`AppError::Unavailable`].
    pub async fn report_sponsors(&self, caller: &Caller) -> Result<Vec<SponsorReport>, AppError> {
        let mut by_sponsor: BTreeMap<PrincipalName, SponsorReport> = BTreeMap::new();
        for view in self.all_runs(caller).await? {
            let sponsor = view.run.sponsor.clone();
            let report = by_sponsor.entry(sponsor.clone()).or_insert(SponsorReport {
                sponsor,
                runs_active: 0,
                runs_ended: 0,
                sessions: 0,
                used: Used::default(),
                last_started_at: view.run.started_at,
            });
            report.runs_active += u64::from(view.run.state.is_active());
            report.runs_ended += u64::from(!view.run.state.is_active());
            report.sessions += view.sessions_open;
            report.last_started_at = report.last_started_at.max(view.run.started_at);
            if view.run.parent.is_none() {
                add(&mut report.used, view.done.used);
            }
        }
        let mut reports: Vec<SponsorReport> = by_sponsor.into_values().collect();
        reports.sort_by_key(|report| std::cmp::Reverse(report.runs_active));
        Ok(reports)
    }

    /// Workloads without an active run: who was never seen first, then the longest away.
    ///
    /// # Errors
    /// [`AppError::Denied`] for everybody but the administrator; [`AppError::Unavailable`].
    pub async fn report_dormant(&self, caller: &Caller) -> Result<Vec<DormantReport>, AppError> {
        only_admin(caller)?;
        let runs = self.all_runs(caller).await?;
        let config = self.config();
        let mut reports: Vec<DormantReport> = Vec::new();
        for name in config.workloads.keys() {
            let workload = Principal::workload(name.clone());
            let own = || runs.iter().filter(|view| view.run.principal == workload);
            if own().any(|view| view.run.state.is_active()) {
                continue;
            }
            reports.push(DormantReport {
                workload: name.clone(),
                sponsor: config.standing(&workload).ok().map(|standing| standing.sponsor),
                last_started_at: own().map(|view| view.run.started_at).max(),
            });
        }
        reports.sort_by(|a, b| {
            (a.last_started_at, &a.workload).cmp(&(b.last_started_at, &b.workload))
        });
        Ok(reports)
    }

    /// What runs were granted by name and never used, newest run first.
    ///
    /// # Errors
    /// [`AppError::Unavailable`].
    pub async fn report_grants(&self, caller: &Caller) -> Result<Vec<GrantReport>, AppError> {
        let runs = self.all_runs(caller).await?;
        let config = self.config();
        Ok(runs.into_iter().filter_map(|view| unused(&config.engine, view)).collect())
    }

    /// Root runs that were refused, newest first.
    ///
    /// # Errors
    /// [`AppError::Denied`] for everybody but the administrator; [`AppError::Unavailable`].
    pub async fn report_refused(&self, caller: &Caller) -> Result<Vec<RefusedReport>, AppError> {
        only_admin(caller)?;
        let mut reports: Vec<RefusedReport> = Vec::new();
        for event in ["run.refused", "refusals.counted"] {
            let filter = EventFilter {
                event: Some(event.to_owned()),
                limit: Some(limits::EVENTS_PAGE_LEN_MAX),
                ..EventFilter::default()
            };
            let events = self.search_events(caller, filter).await?;
            reports.extend(events.into_iter().filter_map(refused_root));
        }
        reports.sort_by_key(|report| std::cmp::Reverse(report.time));
        Ok(reports)
    }

    /// Runs that ended because what they hung on was gone, or whose command left processes
    /// behind, newest first.
    ///
    /// # Errors
    /// [`AppError::Unavailable`].
    pub async fn report_orphans(&self, caller: &Caller) -> Result<Vec<OrphanReport>, AppError> {
        let mut left = self.left_processes(caller).await?;
        let orphan = |view: RunView| match view.run.state {
            RunState::Ended { reason, at } => {
                let left = left.remove(&view.run.id);
                (is_orphaned(reason) || left.is_some()).then_some(OrphanReport {
                    run: view.run.id,
                    path: view.path,
                    sponsor: view.run.sponsor,
                    reason,
                    left,
                    ended_at: at,
                })
            }
            RunState::Active => None,
        };
        let mut reports: Vec<OrphanReport> =
            self.all_runs(caller).await?.into_iter().filter_map(orphan).collect();
        reports.sort_by_key(|report| std::cmp::Reverse(report.ended_at));
        Ok(reports)
    }

    /// What wrappers said that commands left behind, by run: of those that the caller may see.
    async fn left_processes(
        &self,
        caller: &Caller,
    ) -> Result<HashMap<RunId, LeftProcesses>, AppError> {
        let filter = EventFilter {
            event: Some("processes.left".to_owned()),
            limit: Some(limits::EVENTS_PAGE_LEN_MAX),
            ..EventFilter::default()
        };
        #[expect(clippy::wildcard_enum_match_arm, reason = "the filter asks for nothing else")]
        let read = |event: Event| match event.body {
            EventBody::ProcessesLeft { count, programs } => {
                Some((event.origin.run?, LeftProcesses { count, programs }))
            }
            _ => None,
        };
        Ok(self.search_events(caller, filter).await?.into_iter().filter_map(read).collect())
    }

    async fn all_runs(&self, caller: &Caller) -> Result<Vec<RunView>, AppError> {
        let filter = RunFilter { with_ended: true, ..RunFilter::default() };
        self.list_runs(caller, filter).await
    }
}

fn only_admin(caller: &Caller) -> Result<(), AppError> {
    match caller {
        Caller::Admin => Ok(()),
        Caller::Principal { .. } | Caller::Run { .. } => {
            Err(AppError::Denied("only the administrator sees this report".to_owned()))
        }
    }
}

/// A root run that was refused, or a count of them.
fn refused_root(event: Event) -> Option<RefusedReport> {
    if event.origin.run.is_some() {
        return None;
    }
    #[expect(clippy::wildcard_enum_match_arm, reason = "nothing else refuses runs")]
    let (name, count, reason) = match event.body {
        EventBody::RunRefused { name, reason, .. } => (name, 1, reason),
        EventBody::RefusalsCounted { refused, count, reasons, name, .. }
            if refused == "run.refused" =>
        {
            (name.unwrap_or_default(), count, reasons.join("; "))
        }
        _ => return None,
    };
    let (principal, sponsor) = (event.origin.principal, event.origin.sponsor);
    Some(RefusedReport { time: event.time, principal, sponsor, name, count, reason })
}

fn is_orphaned(reason: RunEnd) -> bool {
    match reason {
        RunEnd::ParentEnded | RunEnd::RenewMissed | RunEnd::WrapperLost => true,
        RunEnd::Done
        | RunEnd::Killed
        | RunEnd::Expired
        | RunEnd::JobEnded
        | RunEnd::SponsorDisabled
        | RunEnd::BudgetSpent => false,
    }
}

fn unused(engine: &Engine, view: RunView) -> Option<GrantReport> {
    let run = view.run;
    let is_active = run.state.is_active();
    let unused_targets: Vec<TargetName> =
        run.targets.into_iter().filter(|target| !view.done.targets.contains(target)).collect();
    let used: HashMap<&str, Option<&str>> = view
        .done
        .actions
        .iter()
        .map(|verb| (verb.as_str(), engine.group_of_action(verb)))
        .collect();
    // What has no effect, such as `connect`, is not counted as used.
    let is_used = |name: &String| {
        used.iter().any(|(verb, group)| verb == name || *group == Some(name.as_str()))
    };
    let unused_actions: Vec<String> =
        run.actions.into_iter().filter(|name| name != "connect" && !is_used(name)).collect();
    let has_any = !unused_targets.is_empty() || !unused_actions.is_empty();
    has_any.then_some(GrantReport {
        run: run.id,
        path: view.path,
        sponsor: run.sponsor,
        is_active,
        unused_targets,
        unused_actions,
    })
}

fn add(total: &mut Used, more: Used) {
    total.statements = total.statements.saturating_add(more.statements);
    total.writes = total.writes.saturating_add(more.writes);
    total.rows = total.rows.saturating_add(more.rows);
    total.bytes = total.bytes.saturating_add(more.bytes);
}
