//! What runs were granted: policy permits within a grant only. Every run of a chain must have
//! been granted an action, so a child can never do what an ancestor may not.

use crate::decision::{Denial, DenialKind};
use crate::policy::actions::{Actions, Kind};
use crate::policy::nearest::nearest;
use crate::policy::subject::RunNode;

/// The name of the rule in refusals and in the record.
const RULE: &str = "grant";

/// Why a grant cannot be made. Whoever asks for it is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    #[error("'{name}' is no action of policies{}", meant.map(|it| format!("; did you mean '{it}'?"))
        .unwrap_or_default())]
    Unknown { name: String, meant: Option<&'static str> },
    #[error("action '{name}' is not granted to run '{run}' above it")]
    Wider { name: String, run: String },
}

/// Checks the actions that a run below `above` asks for: each must exist, and be within the grant
/// of every ancestor.
///
/// # Errors
/// [`GrantError`]: the caller is to blame.
pub(crate) fn check(
    actions: &Actions,
    above: &[RunNode],
    asked: &[String],
) -> Result<(), GrantError> {
    for name in asked {
        if actions.kind(name).is_none() {
            let meant = nearest(name, actions.iter().map(|(known, _)| known));
            let name: String = name.chars().filter(|c| !c.is_control()).take(63).collect();
            return Err(GrantError::Unknown { name, meant });
        }
        if let Some(run) = above.iter().find(|run| !covers(actions, &run.actions, name)) {
            return Err(GrantError::Wider { name: name.clone(), run: run.name.clone() });
        }
    }
    Ok(())
}

/// The refusal for the first needed action that some run of the chain was not granted.
pub(crate) fn refusal(
    actions: &Actions,
    chain: &[RunNode],
    needed: impl Iterator<Item = &'static str> + Clone,
) -> Option<Denial> {
    let outside =
        |run: &RunNode| needed.clone().find(|action| !covers(actions, &run.actions, action));
    let (run, action) = chain.iter().find_map(|run| outside(run).map(|action| (run, action)))?;
    let text = format!(
        "run '{}' was granted {} only, and this needs `{action}`",
        run.name,
        list(&run.actions)
    );
    let mut denial = Denial::new(DenialKind::Forbidden, text);
    denial.rules = vec![RULE.to_owned()];
    Some(denial)
}

/// Whether a grant holds an action: by its name, or by its group's. What has no effect needs the
/// right to connect alone, which a grant does not take away.
fn covers(actions: &Actions, grant: &[String], action: &str) -> bool {
    if grant.is_empty() || matches!(actions.kind(action), Some(Kind::Connect | Kind::Verb(None))) {
        return true;
    }
    let group = actions.group_of(action);
    grant.iter().any(|name| name == action || Some(name.as_str()) == group)
}

fn list(grant: &[String]) -> String {
    grant.iter().map(|name| format!("`{name}`")).collect::<Vec<String>>().join(", ")
}
