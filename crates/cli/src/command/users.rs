//! `users disable`, `users enable`.

use clap::Subcommand;
use corral_api::{UserDisabled, UserEnabled};
use serde_json::Value;

use crate::Context;
use crate::failure::Failure;
use crate::output;

/// Offboard a person, or let one back in
#[derive(Debug, Clone, Subcommand)]
#[command(after_help = "\
Examples:
  corral users disable ada@example.com
  corral users enable ada@example.com")]
pub enum UsersCommand {
    /// End a user's tokens, runs, sponsored runs and live sessions, at once
    Disable { name: String },
    /// Let a user sign in again; what ended stays ended
    Enable { name: String },
}

pub(crate) async fn users(context: &Context<'_>, command: UsersCommand) -> Result<(), Failure> {
    let client = context.client()?;
    match command {
        UsersCommand::Disable { name } => {
            let path = ["users", &name, "disable"];
            let disabled: UserDisabled = client.post(&path, &Value::Null).await?;
            output::show(context.format(), &disabled, |done| {
                format!(
                    "disabled {}: {} runs ended, {} sessions closed",
                    done.name, done.runs_ended, done.sessions_closed
                )
            })
        }
        UsersCommand::Enable { name } => {
            let path = ["users", &name, "enable"];
            let enabled: UserEnabled = client.post(&path, &Value::Null).await?;
            output::show(context.format(), &enabled, |done| format!("enabled {}", done.name))
        }
    }
}
