//! `runs report`: who answers for what, what nobody uses, what was refused or reaped.

use clap::Subcommand;
use corral_api::{DormantReport, GrantReport, OrphanReport, RefusedReport, SponsorReport};
use corral_model::ids::TargetName;
use corral_model::process::LeftProcesses;

use crate::client::Client;
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::text::timestamp;
use crate::words;

/// Reports over runs
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum ReportCommand {
    /// Runs by the person who answers for them, with what they used
    Sponsors,
    /// Workloads without an active run
    Dormant,
    /// Targets and actions that runs were granted by name and never used
    Grants,
    /// Root runs that were refused
    Refused,
    /// Runs that ended because what they hung on was gone, or that left processes behind
    Orphans,
}

pub(crate) async fn report(
    client: &Client,
    format: Format,
    command: ReportCommand,
) -> Result<(), Failure> {
    match command {
        ReportCommand::Sponsors => {
            let reports: Vec<SponsorReport> = client.get(&["reports", "sponsors"]).await?;
            output::show(format, &reports, |reports| sponsors_text(reports))
        }
        ReportCommand::Dormant => {
            let reports: Vec<DormantReport> = client.get(&["reports", "dormant"]).await?;
            output::show(format, &reports, |reports| dormant_text(reports))
        }
        ReportCommand::Grants => {
            let reports: Vec<GrantReport> = client.get(&["reports", "grants"]).await?;
            output::show(format, &reports, |reports| grants_text(reports))
        }
        ReportCommand::Refused => {
            let reports: Vec<RefusedReport> = client.get(&["reports", "refused"]).await?;
            output::show(format, &reports, |reports| refused_text(reports))
        }
        ReportCommand::Orphans => {
            let reports: Vec<OrphanReport> = client.get(&["reports", "orphans"]).await?;
            output::show(format, &reports, |reports| orphans_text(reports))
        }
    }
}

fn or_dash(text: Option<String>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or_else(|| "-".to_owned())
}

fn sponsors_text(reports: &[SponsorReport]) -> String {
    let rows = reports.iter().map(|report| {
        vec![
            report.sponsor.to_string(),
            report.runs_active.to_string(),
            report.runs_ended.to_string(),
            report.sessions.to_string(),
            report.statements.to_string(),
            report.writes.to_string(),
            report.rows.to_string(),
            report.bytes.to_string(),
            timestamp(report.last_started_at),
        ]
    });
    let header = [
        "SPONSOR",
        "ACTIVE",
        "ENDED",
        "SESSIONS",
        "STATEMENTS",
        "WRITES",
        "ROWS",
        "BYTES",
        "LAST START",
    ];
    output::table(&header, rows)
}

fn dormant_text(reports: &[DormantReport]) -> String {
    let rows = reports.iter().map(|report| {
        vec![
            report.workload.to_string(),
            or_dash(report.sponsor.as_ref().map(ToString::to_string)),
            report.last_started_at.map_or_else(|| "never".to_owned(), timestamp),
        ]
    });
    output::table(&["WORKLOAD", "SPONSOR", "LAST START"], rows)
}

fn grants_text(reports: &[GrantReport]) -> String {
    let rows = reports.iter().map(|report| {
        let targets: Vec<&str> = report.unused_targets.iter().map(TargetName::as_str).collect();
        vec![
            report.run_id.to_string(),
            report.path.clone(),
            report.sponsor.to_string(),
            if report.is_active { "active" } else { "ended" }.to_owned(),
            or_dash(Some(targets.join(", "))),
            or_dash(Some(report.unused_actions.join(", "))),
        ]
    });
    output::table(&["ID", "RUN", "SPONSOR", "STATE", "UNUSED TARGETS", "UNUSED ACTIONS"], rows)
}

fn refused_text(reports: &[RefusedReport]) -> String {
    let rows = reports.iter().map(|report| {
        vec![
            timestamp(report.time),
            or_dash(report.principal.clone()),
            or_dash(report.sponsor.clone()),
            report.name.clone(),
            report.count.to_string(),
            report.reason.clone(),
        ]
    });
    output::table(&["TIME", "PRINCIPAL", "SPONSOR", "RUN", "TIMES", "REASON"], rows)
}

fn orphans_text(reports: &[OrphanReport]) -> String {
    let rows = reports.iter().map(|report| {
        vec![
            timestamp(report.ended_at),
            report.run_id.to_string(),
            report.path.clone(),
            report.sponsor.to_string(),
            words::run_end(report.reason).to_owned(),
            or_dash(report.claimed_left.as_ref().map(left_text)),
        ]
    });
    output::table(&["ENDED", "ID", "RUN", "SPONSOR", "WHY", "LEFT BEHIND (CLAIMED)"], rows)
}

fn left_text(left: &LeftProcesses) -> String {
    format!("{}: {}", left.count, left.programs.join(", "))
}
