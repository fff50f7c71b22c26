//! `runs start`, `list`, `tree`, `show`, `renew`, `end`, `kill`.

use clap::{Args, Subcommand};
use corral_api::{
    EndedView, JobView, RenewRunRequest, RunNode, RunQuery, RunStateView, RunView, StartRunRequest,
    StartRunResponse,
};
use corral_model::ids::{PrincipalName, RunId, TargetName};
use corral_model::resource::HumanDuration;
use corral_model::{Event, EventBody, Process, TraceParent};
use corral_record::render::{self, TimelineEntry};
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;

use crate::Context;
use crate::command::replay::{detail, events_of};
use crate::command::reports::{ReportCommand, report};
use crate::exchange::start;
use crate::failure::{Exit, Failure};
use crate::output::{self, Format};
use crate::text::{duration, timestamp, visible};
use crate::{tree, words};

/// Start, list and end runs
#[derive(Debug, Clone, Subcommand)]
#[command(after_help = "\
Examples:
  corral runs start --name planner --target orders-db --ttl 15m
  corral runs start --name audit --for nightly-report
  corral runs tree
  corral runs list --active -o json
  corral runs kill RUN_ID")]
pub enum RunsCommand {
    /// Start a run and print its token: as a person or workload, or below a run
    Start(StartArgs),
    /// List runs, newest first
    List(FilterArgs),
    /// Draw runs as trees
    Tree(FilterArgs),
    /// Show one run, and one timeline over its sessions and those of the runs below it
    Show(ShowArgs),
    /// Give a run a later end
    Renew {
        id: String,
        /// Counted from now; as long as limits allow when absent
        #[arg(long, value_name = "DURATION", value_parser = parse_ttl)]
        ttl: Option<HumanDuration>,
    },
    /// Say that a run is done: it and what is below it end
    End { id: String },
    /// Kill a run, what is below it, and what their sessions run
    Kill { id: String },
    /// Report on runs: sponsors, dormant, grants, refused, orphans
    #[command(subcommand)]
    Report(ReportCommand),
}

#[derive(Debug, Clone, Args)]
pub struct StartArgs {
    /// The run's name
    #[arg(long)]
    pub name: String,
    #[command(flatten)]
    pub what: WhatArgs,
    /// End it when it is not renewed (`runs renew`) within this time, again and again
    #[arg(long, value_name = "DURATION", value_parser = parse_ttl)]
    pub renew_within: Option<HumanDuration>,
}

#[derive(Debug, Clone, Args)]
pub struct ShowArgs {
    #[arg(value_name = "RUN_ID")]
    pub id: String,
    /// Show what was said in terminals and commands, not only how much
    #[arg(long)]
    pub full: bool,
}

/// `runs show -o json`.
#[derive(Serialize)]
struct ShownRun {
    #[serde(flatten)]
    run: RunView,
    /// What whoever started it says of its trace: nobody checked it.
    #[serde(skip_serializing_if = "Option::is_none")]
    claimed_traceparent: Option<TraceParent>,
    timeline: Vec<TimelineEntry>,
}

/// What a run may do, and for whom it is.
#[derive(Debug, Clone, Args)]
pub struct WhatArgs {
    /// A target that it may use; several times for several. All that its parent or principal may
    /// use when absent
    #[arg(long, value_name = "TARGET")]
    pub target: Vec<TargetName>,
    /// A policy action or group of actions that it is limited to, such as `read`; several times
    /// for several. All that its parent or principal may do when absent
    #[arg(long, value_name = "ACTION")]
    pub action: Vec<String>,
    /// When it ends at the latest: 15m, 1h 30m, 10s
    #[arg(long, value_name = "DURATION", value_parser = parse_ttl)]
    pub ttl: Option<HumanDuration>,
    /// What it is for; kept in the record
    #[arg(long, value_name = "TEXT")]
    pub purpose: Option<String>,
    /// The user or workload in whose name an administrator starts it
    #[arg(long = "for", value_name = "NAME")]
    pub for_principal: Option<PrincipalName>,
}

#[derive(Debug, Clone, Args)]
pub struct FilterArgs {
    /// Leave out runs that ended
    #[arg(long)]
    pub active: bool,
    /// Only those of this person or workload
    #[arg(long, value_name = "NAME")]
    pub principal: Option<String>,
    /// Only this run and what is below it
    #[arg(value_name = "RUN_ID")]
    pub root: Option<RunId>,
}

fn parse_ttl(text: &str) -> Result<HumanDuration, String> {
    match HumanDuration::parse(text) {
        Some(ttl) if ttl.0.as_secs() >= 1 => Ok(ttl),
        Some(_) => Err("a run lasts at least 1s".to_owned()),
        None => Err(format!("'{text}' is not a duration; write 15m, 1h or 10s")),
    }
}

/// The trace that this process runs in, where its environment says so in the standard's form.
fn own_trace() -> Option<TraceParent> {
    std::env::var("TRACEPARENT").ok().and_then(|text| TraceParent::parse(&text))
}

impl WhatArgs {
    /// The request for a run with this name.
    #[must_use]
    pub fn request(self, name: String) -> StartRunRequest {
        StartRunRequest {
            name,
            purpose: self.purpose,
            targets: self.target,
            actions: self.action,
            renew_within_s: None,
            ttl_s: self.ttl.map(|ttl| ttl.0.as_secs()),
            for_principal: self.for_principal,
            process: None,
            wrapper: None,
            traceparent: own_trace(),
        }
    }
}

impl FilterArgs {
    fn query(self) -> RunQuery {
        RunQuery { active: self.active, principal: self.principal, root: self.root }
    }
}

pub(crate) async fn runs(context: &Context<'_>, command: RunsCommand) -> Result<(), Failure> {
    let client = context.client()?;
    match command {
        RunsCommand::Start(args) => {
            let mut request = args.what.request(args.name);
            request.renew_within_s = args.renew_within.map(|within| within.0.as_secs());
            let started = start(&client, &request).await?;
            // The token is what a caller wants, so this is for scripts unless asked otherwise.
            output::show(context.format_for_scripts(), &started, started_text)
        }
        RunsCommand::List(args) => {
            let runs: Vec<RunView> = client.ask(&["runs"], &args.query()).await?;
            output::show(context.format(), &runs, |runs| list_text(runs))
        }
        RunsCommand::Tree(args) => {
            let roots: Vec<RunNode> = client.ask(&["runs", "tree"], &args.query()).await?;
            output::show(context.format(), &roots, |roots| {
                tree::draw(roots, OffsetDateTime::now_utc())
            })
        }
        RunsCommand::Show(args) => {
            let run: RunView = client.get(&["runs", &args.id]).await?;
            // A run that did nothing yet has no events of its own.
            let events = match events_of(&client, &args.id).await {
                Err(failure) if failure.exit == Exit::NotFound => Vec::new(),
                events => events?,
            };
            let claimed = claimed_trace(&events, &run.id);
            if context.format() != Format::Table {
                let timeline = render::timeline(&events);
                let shown = ShownRun { run, claimed_traceparent: claimed.cloned(), timeline };
                return output::show(context.format(), &shown, |_| String::new());
            }
            output::print(&run_text(&run, claimed))?;
            match events.is_empty() {
                true => Ok(()),
                false => output::print(&format!("\n{}", render::text(&events, detail(args.full)))),
            }
        }
        RunsCommand::Renew { id, ttl } => {
            let request = RenewRunRequest { ttl_s: ttl.map(|ttl| ttl.0.as_secs()) };
            let run: RunView = client.post(&["runs", &id, "renew"], &request).await?;
            output::show(context.format(), &run, |run| {
                format!("{} ends at {}", run.id, timestamp(run.expires_at))
            })
        }
        RunsCommand::End { id } => {
            let ended: EndedView = client.post(&["runs", &id, "end"], &Value::Null).await?;
            output::show(context.format(), &ended, |ended| ended_text("ended", ended))
        }
        RunsCommand::Kill { id } => {
            let ended: EndedView = client.post(&["runs", &id, "kill"], &Value::Null).await?;
            output::show(context.format(), &ended, |ended| ended_text("killed", ended))
        }
        RunsCommand::Report(command) => report(&client, context.format(), command).await,
    }
}

fn ended_text(word: &str, ended: &EndedView) -> String {
    format!(
        "{word} {}: {} runs ended, {} sessions closed",
        ended.id, ended.runs_ended, ended.sessions_closed
    )
}

fn started_text(started: &StartRunResponse) -> String {
    let targets: Vec<&str> = started.targets.iter().map(TargetName::as_str).collect();
    output::fields(&[
        ("run", Some(started.run_id.to_string())),
        ("token", Some(started.token.secret().reveal().to_owned())),
        ("expires", Some(timestamp(started.expires_at))),
        ("path", Some(started.path.clone())),
        ("principal", Some(started.principal.to_string())),
        ("sponsor", Some(started.sponsor.to_string())),
        ("targets", (!targets.is_empty()).then(|| targets.join(", "))),
        ("actions", (!started.actions.is_empty()).then(|| started.actions.join(", "))),
    ])
}

/// The job as its issuer signed it: `github https://…: repository=shop/reports, …`.
fn job_text(job: &JobView) -> String {
    let claims: Vec<String> =
        job.claims.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("{} {} (verified): {}", job.platform.name(), job.issuer, claims.join(", "))
}

fn state_text(run: &RunView) -> String {
    match run.end_reason {
        Some(reason) => words::run_end(reason).to_owned(),
        None => words::run_state(run.state).to_owned(),
    }
}

fn list_text(runs: &[RunView]) -> String {
    let now = OffsetDateTime::now_utc();
    let rows = runs.iter().map(|run| {
        let left = match run.state {
            RunStateView::Active => duration(run.expires_at - now),
            RunStateView::Ended => "-".to_owned(),
        };
        vec![
            run.id.to_string(),
            run.path.clone(),
            run.principal.to_string(),
            run.sponsor.to_string(),
            state_text(run),
            run.sessions.to_string(),
            duration(now - run.started_at),
            left,
        ]
    });
    let header = ["ID", "RUN", "PRINCIPAL", "SPONSOR", "STATE", "SESSIONS", "AGE", "LEFT"];
    output::table(&header, rows)
}

/// What the wrapper saw, said to be that.
fn process_text(process: &Process) -> String {
    let words: Vec<&str> =
        [&process.program].into_iter().chain(&process.arguments).map(String::as_str).collect();
    let (pid, parent) = (process.pid, process.parent_pid);
    format!("{pid}, child of {parent}: {} (observed by the wrapper)", visible(&words.join(" ")))
}

/// `12, 88 left`.
fn with_left(used: u64, left: Option<u64>) -> String {
    left.map_or_else(|| used.to_string(), |left| format!("{used}, {left} left"))
}

/// What whoever started the run said of its trace.
fn claimed_trace<'e>(events: &'e [Event], run: &RunId) -> Option<&'e TraceParent> {
    events.iter().find_map(|event| match &event.body {
        EventBody::RunStarted { traceparent, .. } if event.origin.run.as_ref() == Some(run) => {
            traceparent.as_ref()
        }
        _ => None,
    })
}

fn run_text(run: &RunView, claimed: Option<&TraceParent>) -> String {
    let targets: Vec<&str> = run.targets.iter().map(TargetName::as_str).collect();
    let targets = if targets.is_empty() {
        "all that its parent may use".to_owned()
    } else {
        targets.join(", ")
    };
    output::fields(&[
        ("id", Some(run.id.to_string())),
        ("run", Some(run.path.clone())),
        ("state", Some(state_text(run))),
        ("purpose", run.purpose.clone()),
        ("principal", Some(run.principal.to_string())),
        ("sponsor", Some(run.sponsor.to_string())),
        ("started by", run.started_by.as_ref().map(ToString::to_string)),
        ("process", run.process.as_ref().map(process_text)),
        ("ends with", run.attached.then(|| "its wrapper".to_owned())),
        ("job", run.job.as_ref().map(job_text)),
        ("traceparent", claimed.map(|trace| format!("{trace} (claimed)"))),
        ("parent", run.parent.as_ref().map(ToString::to_string)),
        ("targets", Some(targets)),
        ("actions", (!run.actions.is_empty()).then(|| run.actions.join(", "))),
        ("renewed within", run.renew_within_s.map(|within| format!("{within}s"))),
        ("started", Some(timestamp(run.started_at))),
        ("expires", Some(timestamp(run.expires_at))),
        ("ended", run.ended_at.map(timestamp)),
        ("sessions", Some(run.sessions.to_string())),
        ("statements", Some(with_left(run.statements, run.left.statements))),
        ("writes", Some(with_left(run.writes, run.left.writes))),
        ("rows", Some(with_left(run.rows, run.left.rows))),
        ("bytes", Some(with_left(run.bytes, run.left.bytes))),
        ("wall time left", run.left.wall_time_s.map(|left| format!("{left}s"))),
    ])
}
