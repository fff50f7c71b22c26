//! `sessions list`, `show`, `kill`, `watch`.

use clap::{Args, Subcommand};
use corral_api::{EndedView, SessionQuery, SessionView, StreamQuery};
use corral_model::ids::{RunId, TargetName};
use serde_json::Value;
use time::OffsetDateTime;

use crate::Context;
use crate::command::audit;
use crate::failure::Failure;
use crate::output;
use crate::text::{duration, timestamp};

/// List, watch and end live sessions
#[derive(Debug, Clone, Subcommand)]
#[command(after_help = "\
Examples:
  corral sessions list --target orders-db
  corral sessions kill SESSION_ID
  corral sessions watch")]
pub enum SessionsCommand {
    /// List live sessions, oldest first
    List(FilterArgs),
    /// Show one session
    Show { id: String },
    /// End a session and cancel what it runs
    Kill { id: String },
    /// Print sessions as they open and close
    Watch,
}

#[derive(Debug, Clone, Args)]
pub struct FilterArgs {
    /// Only those of this run and of what is below it
    #[arg(long, value_name = "RUN_ID")]
    pub run: Option<RunId>,
    #[arg(long, value_name = "TARGET")]
    pub target: Option<TargetName>,
    #[arg(long, value_name = "NAME")]
    pub principal: Option<String>,
}

pub(crate) async fn sessions(
    context: &Context<'_>,
    command: SessionsCommand,
) -> Result<(), Failure> {
    let client = context.client()?;
    match command {
        SessionsCommand::List(args) => {
            let query =
                SessionQuery { run: args.run, target: args.target, principal: args.principal };
            let sessions: Vec<SessionView> = client.ask(&["sessions"], &query).await?;
            output::show(context.format(), &sessions, |sessions| list_text(sessions))
        }
        SessionsCommand::Show { id } => {
            let session: SessionView = client.get(&["sessions", &id]).await?;
            output::show(context.format(), &session, session_text)
        }
        SessionsCommand::Kill { id } => {
            let ended: EndedView = client.post(&["sessions", &id, "kill"], &Value::Null).await?;
            output::show(context.format(), &ended, |ended| format!("killed {}", ended.id))
        }
        SessionsCommand::Watch => {
            let query =
                StreamQuery { event: Some("session.".to_owned()), ..StreamQuery::default() };
            audit::follow(context, &client, &query).await
        }
    }
}

fn list_text(sessions: &[SessionView]) -> String {
    let now = OffsetDateTime::now_utc();
    let rows = sessions.iter().map(|session| {
        vec![
            session.id.to_string(),
            session.run_path.clone().unwrap_or_else(|| session.principal.to_string()),
            session.target.to_string(),
            session.state.name().to_owned(),
            session.statements.to_string(),
            session.client_address.clone(),
            duration(now - session.started_at),
        ]
    });
    output::table(&["ID", "WHO", "TARGET", "STATE", "STATEMENTS", "FROM", "AGE"], rows)
}

fn session_text(session: &SessionView) -> String {
    let claims: Vec<String> =
        session.claims.iter().map(|(name, value)| format!("{name}={value}")).collect();
    output::fields(&[
        ("id", Some(session.id.to_string())),
        ("state", Some(session.state.name().to_owned())),
        ("run", session.run_path.clone()),
        ("run id", session.run_id.as_ref().map(ToString::to_string)),
        ("principal", Some(session.principal.to_string())),
        ("sponsor", Some(session.sponsor.to_string())),
        ("target", Some(session.target.to_string())),
        ("protocol", Some(session.protocol.clone())),
        ("from", Some(session.client_address.clone())),
        ("tls", Some(session.tls.to_string())),
        ("claims", (!claims.is_empty()).then(|| claims.join(", "))),
        ("started", Some(timestamp(session.started_at))),
        ("waits for", session.waiting_for.as_ref().map(ToString::to_string)),
        ("statements", Some(session.statements.to_string())),
        ("rows", Some(session.rows.to_string())),
        ("to client", Some(format!("{} bytes", session.bytes_to_client))),
        ("to target", Some(format!("{} bytes", session.bytes_to_target))),
    ])
}
