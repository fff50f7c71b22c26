//! `approvals list`, `show`, `approve`, `deny`, `watch`.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use corral_api::{ApprovalDecision, ApprovalQuery, ApprovalView};
use corral_model::event::ApprovalState;
use corral_model::ids::ApprovalId;
use time::OffsetDateTime;

use crate::Context;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::text::{duration, short, timestamp, visible};
use crate::words;

/// Longest text of a statement in a list, in characters.
const STATEMENT_CHARS_MAX: usize = 80;

/// Decide statements that wait for a person
#[derive(Debug, Clone, Subcommand)]
#[command(after_help = "\
Examples:
  corral approvals list --state pending
  corral approvals show APPROVAL_ID
  corral approvals approve APPROVAL_ID --reason \"reviewed, additive\"
  corral approvals deny APPROVAL_ID --reason \"not on a Friday\"

An approval is bound to the exact text, its parameters, the run and the target, and used once.
Nobody approves what they asked for or sponsor.")]
pub enum ApprovalsCommand {
    /// List approvals, newest first
    List {
        /// Only those in this state
        #[arg(long, value_enum)]
        state: Option<StateArg>,
    },
    /// Show one approval with the whole statement
    Show { id: String },
    /// Let the statement run
    Approve(DecideArgs),
    /// Refuse the statement
    Deny(DecideArgs),
    /// Print approvals as they are asked for and decided
    Watch,
}

#[derive(Debug, Clone, Args)]
pub struct DecideArgs {
    pub id: String,
    /// Kept in the record; the client reads it when it is denied
    #[arg(long, value_name = "TEXT", value_parser = parse_reason)]
    pub reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StateArg {
    Pending,
    Approved,
    Denied,
    Expired,
    Withdrawn,
}

impl From<StateArg> for ApprovalState {
    fn from(state: StateArg) -> Self {
        match state {
            StateArg::Pending => Self::Pending,
            StateArg::Approved => Self::Approved,
            StateArg::Denied => Self::Denied,
            StateArg::Expired => Self::Expired,
            StateArg::Withdrawn => Self::Withdrawn,
        }
    }
}

fn parse_reason(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("a reason cannot be empty".to_owned());
    }
    Ok(text.to_owned())
}

pub(crate) async fn approvals(
    context: &Context<'_>,
    command: ApprovalsCommand,
) -> Result<(), Failure> {
    let client = context.client()?;
    match command {
        ApprovalsCommand::List { state } => {
            let query = ApprovalQuery { state: state.map(ApprovalState::from) };
            let approvals: Vec<ApprovalView> = client.ask(&["approvals"], &query).await?;
            output::show(context.format(), &approvals, |approvals| list_text(approvals))
        }
        ApprovalsCommand::Show { id } => {
            let approval: ApprovalView = client.get(&["approvals", &id]).await?;
            output::show(context.format(), &approval, approval_text)
        }
        ApprovalsCommand::Approve(args) => {
            let decision = ApprovalDecision { reason: args.reason };
            let path = ["approvals", &args.id, "approve"];
            let approval: ApprovalView = client.post(&path, &decision).await?;
            output::show(context.format(), &approval, decided_text)
        }
        ApprovalsCommand::Deny(args) => {
            let decision = ApprovalDecision { reason: args.reason };
            let path = ["approvals", &args.id, "deny"];
            let approval: ApprovalView = client.post(&path, &decision).await?;
            output::show(context.format(), &approval, decided_text)
        }
        ApprovalsCommand::Watch => watch(context, &client).await,
    }
}

/// How often `watch` looks.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Prints what waits, then each approval as it is asked for or decided. The event stream tells a
/// person only of their own runs, so the list is what an approver can follow.
async fn watch(context: &Context<'_>, client: &Client) -> Result<(), Failure> {
    let mut known: BTreeMap<ApprovalId, ApprovalState> = BTreeMap::new();
    let mut is_first = true;
    let mut interval = tokio::time::interval(WATCH_INTERVAL);
    loop {
        interval.tick().await;
        let query = ApprovalQuery::default();
        let newest_first: Vec<ApprovalView> = client.ask(&["approvals"], &query).await?;
        let fresh = changes(&mut known, newest_first, is_first);
        is_first = false;
        for approval in &fresh {
            match context.format() {
                Format::Table => output::print(&watch_line(approval))?,
                Format::Json => output::json_line(approval)?,
                Format::Yaml => {
                    output::print("---")?;
                    output::show(Format::Yaml, approval, |_| String::new())?;
                }
            }
        }
    }
}

/// What differs from `known`, oldest first; at first, only what still waits.
fn changes(
    known: &mut BTreeMap<ApprovalId, ApprovalState>,
    newest_first: Vec<ApprovalView>,
    is_first: bool,
) -> Vec<ApprovalView> {
    let before = std::mem::take(known);
    known.extend(newest_first.iter().map(|approval| (approval.id.clone(), approval.state)));
    newest_first
        .into_iter()
        .rev()
        .filter(|approval| {
            let is_changed = before.get(&approval.id) != Some(&approval.state);
            is_changed && (!is_first || approval.state == ApprovalState::Pending)
        })
        .collect()
}

fn watch_line(approval: &ApprovalView) -> String {
    let at = approval.decided_at.unwrap_or(approval.requested_at);
    let state = words::approval_state(approval.state);
    let statement = short(&approval.statement, STATEMENT_CHARS_MAX);
    let (id, who, target) = (&approval.id, who(approval), &approval.target);
    visible(&format!("{} {state:<9} {id} {who} @{target}: {statement}", timestamp(at)))
}

fn who(approval: &ApprovalView) -> String {
    approval.run_path.clone().unwrap_or_else(|| approval.principal.to_string())
}

fn list_text(approvals: &[ApprovalView]) -> String {
    let now = OffsetDateTime::now_utc();
    let rows = approvals.iter().map(|approval| {
        let left = match approval.state {
            ApprovalState::Pending => duration(approval.expires_at - now),
            ApprovalState::Approved
            | ApprovalState::Denied
            | ApprovalState::Expired
            | ApprovalState::Withdrawn => "-".to_owned(),
        };
        vec![
            approval.id.to_string(),
            words::approval_state(approval.state).to_owned(),
            who(approval),
            approval.target.to_string(),
            left,
            short(&approval.statement, STATEMENT_CHARS_MAX),
        ]
    });
    output::table(&["ID", "STATE", "WHO", "TARGET", "LEFT", "STATEMENT"], rows)
}

/// What an approver must see: everything that the approval is bound to.
fn approval_text(approval: &ApprovalView) -> String {
    let lines = |lines: Vec<String>| (!lines.is_empty()).then(|| lines.join("\n"));
    let parameters = approval.parameters.iter().enumerate().map(|(index, parameter)| {
        let value = parameter.value.as_deref().unwrap_or("NULL");
        let kind = parameter.type_name.as_deref().unwrap_or("unknown type");
        format!("${} = {value} ({kind}, {})", index + 1, parameter.format)
    });
    let objects = approval
        .objects
        .iter()
        .map(|object| format!("{}.{} ({})", object.schema, object.name, object.kind));
    let terms = approval
        .terms
        .iter()
        .map(|term| format!("{}: {} of {}: {}", term.rule, term.quorum, term.group, term.reason));
    let answers = approval.answers.iter().map(|answer| {
        let word = if answer.approved { "approved" } else { "denied" };
        format!("{word} by {} at {}: {}", answer.by, timestamp(answer.at), answer.reason)
    });
    let effects: Vec<&str> = approval.effects.iter().map(corral_model::Effect::name).collect();
    let in_transaction =
        approval.in_transaction.then(|| "yes: locks may be held while it waits".to_owned());
    output::fields(&[
        ("id", Some(approval.id.to_string())),
        ("state", Some(words::approval_state(approval.state).to_owned())),
        ("who", Some(who(approval))),
        ("run id", approval.run_id.as_ref().map(ToString::to_string)),
        ("principal", Some(approval.principal.to_string())),
        ("sponsor", Some(approval.sponsor.to_string())),
        ("session", Some(approval.session_id.to_string())),
        ("target", Some(approval.target.to_string())),
        ("effects", (!effects.is_empty()).then(|| effects.join(", "))),
        ("objects", lines(objects.collect())),
        ("in transaction", in_transaction),
        ("needs", lines(terms.collect())),
        ("answers", lines(answers.collect())),
        ("requested", Some(timestamp(approval.requested_at))),
        ("expires", Some(timestamp(approval.expires_at))),
        ("decided", approval.decided_at.map(timestamp)),
        ("decision", Some(approval.decision.clone())),
        ("parameters", lines(parameters.collect())),
        ("statement", Some(approval.statement.clone())),
    ])
}

fn decided_text(approval: &ApprovalView) -> String {
    let state = words::approval_state(approval.state);
    match approval.state {
        ApprovalState::Pending => {
            format!("your answer is kept; {} still waits for others", approval.id)
        }
        ApprovalState::Approved
        | ApprovalState::Denied
        | ApprovalState::Expired
        | ApprovalState::Withdrawn => format!("{} is {state}", approval.id),
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn approval(id: &str, state: ApprovalState) -> ApprovalView {
        let at = datetime!(2026-01-01 12:00 UTC);
        ApprovalView {
            id: id.parse().expect("an id"),
            state,
            run_id: None,
            session_id: "s-1".parse().expect("an id"),
            target: "orders-db".parse().expect("a target"),
            statement: "alter table t\u{202e} add c int".to_owned(),
            requested_at: at,
            expires_at: at + time::Duration::minutes(15),
            run_path: Some("job/planner".to_owned()),
            principal: "nightly".parse().expect("a name"),
            sponsor: "ada".parse().expect("a name"),
            decision: "d-1".to_owned(),
            policy_version: corral_model::PolicyVersion(1),
            parameters: Vec::new(),
            verbs: Vec::new(),
            effects: corral_model::Effects::NONE,
            objects: Vec::new(),
            in_transaction: true,
            terms: Vec::new(),
            answers: Vec::new(),
            decided_at: None,
        }
    }

    #[test]
    fn a_watcher_sees_what_waits_then_every_change_once() {
        let mut known = BTreeMap::new();
        let mut look = |list: &[(&str, ApprovalState)], is_first: bool| -> Vec<String> {
            let list = list.iter().map(|(id, state)| approval(id, *state)).collect();
            let fresh = changes(&mut known, list, is_first);
            fresh.iter().map(|approval| approval.id.to_string()).collect()
        };
        let (pending, denied) = (ApprovalState::Pending, ApprovalState::Denied);
        assert_eq!(look(&[("a2", pending), ("a1", denied)], true), ["a2"]);
        assert!(look(&[("a2", pending), ("a1", denied)], false).is_empty());
        assert_eq!(look(&[("a3", pending), ("a2", denied), ("a1", denied)], false), ["a2", "a3"]);
    }

    #[test]
    fn an_approver_sees_the_whole_statement_and_nothing_hidden() {
        let text = approval_text(&approval("a1", ApprovalState::Pending));
        assert!(text.contains("alter table t\\u{202e} add c int"), "{text}");
        assert!(text.contains("locks may be held"), "{text}");
        assert!(!text.contains('\u{202e}'));
    }
}
