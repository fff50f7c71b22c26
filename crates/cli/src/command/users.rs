//! `users list`, `users disable`, `users enable`.

use clap::Subcommand;
use corral_api::{UserDisabled, UserEnabled};
use corral_model::OffboardCause;
use corral_model::resource::{Resource, UserSpec};
use serde_json::Value;

use crate::Context;
use crate::failure::Failure;
use crate::output;

/// Offboard a person, or let one back in
#[derive(Debug, Clone, Subcommand)]
#[command(after_help = "\
Examples:
  corral users disable ada@example.com
  corral users enable ada@example.com
  corral users list")]
pub enum UsersCommand {
    /// List people, where they come from, and whether they may act
    #[command(visible_alias = "ls")]
    List,
    /// End a user's tokens, runs, sponsored runs and live sessions, at once
    Disable { name: String },
    /// Let a user sign in again; what ended stays ended
    Enable { name: String },
}

pub(crate) async fn users(context: &Context<'_>, command: UsersCommand) -> Result<(), Failure> {
    let client = context.client()?;
    match command {
        UsersCommand::List => {
            let users: Vec<Resource> = client.get(&["resources", "user"]).await?;
            output::show(context.format(), &users, |users| table(users))
        }
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

fn table(resources: &[Resource]) -> String {
    let users = resources.iter().filter_map(Resource::as_user);
    let rows = users.map(|user| {
        let groups: Vec<&str> = user.groups.iter().map(|group| group.as_str()).collect();
        vec![
            user.name.to_string(),
            state(user),
            user.signs_in_by().map(ToString::to_string).unwrap_or_default(),
            groups.join(", "),
        ]
    });
    output::table(&["NAME", "STATE", "PROVIDER", "GROUPS"], rows)
}

/// Whether the person may act, and what took that away.
fn state(user: &UserSpec) -> String {
    if user.disabled {
        let cause = user.disabled_cause.map_or("manifest", OffboardCause::name);
        return format!("disabled ({cause})");
    }
    match user.suspended {
        Some(cause) => format!("suspended ({cause})"),
        None => "active".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use corral_model::ids::PrincipalName;

    use super::*;

    #[test]
    fn a_state_names_its_cause() {
        let ada = UserSpec::new(PrincipalName::new("ada").expect("a name"));
        assert_eq!(state(&ada), "active");
        let suspended = UserSpec { suspended: Some(OffboardCause::Logout), ..ada.clone() };
        assert_eq!(state(&suspended), "suspended (logout)");
        let by_scim = Some(OffboardCause::Scim);
        let disabled = UserSpec { disabled: true, disabled_cause: by_scim, ..suspended };
        assert_eq!(state(&disabled), "disabled (scim)");
        assert_eq!(state(&UserSpec { disabled: true, ..ada }), "disabled (manifest)");
    }
}
