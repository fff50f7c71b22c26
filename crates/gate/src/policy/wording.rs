//! What a client reads when policy refuses: which right is missing, in the client's own words,
//! and nothing of how the rules are written.

use corral_model::ObjectRole;
use corral_model::statement::Facts;

use crate::policy::actions::{Actions, CONNECT, Kind};
use crate::policy::requirement::{Requirement, Resource};
use crate::policy::schema;

/// Objects that a sentence names.
const OBJECTS_NAMED: usize = 3;

/// The sentence for a right that nothing gives.
pub(crate) fn not_permitted(actions: &Actions, first: &Requirement<'_>, facts: &Facts) -> String {
    match actions.kind(first.action) {
        Some(Kind::Connect) => "no policy permits connecting to this target".to_owned(),
        Some(Kind::Group(corral_model::Effect::Unknown)) => {
            "what this statement does cannot be told, and no policy permits `unknown`".to_owned()
        }
        Some(Kind::Group(effect)) => {
            let effect = effect.name();
            format!(
                "this statement has the effect `{effect}`, and no policy permits that{}",
                on(first, facts)
            )
        }
        Some(Kind::Verb(Some(corral_model::Effect::Unknown))) => {
            format!("what `{}` does cannot be told, and no policy permits `unknown`", first.action)
        }
        Some(Kind::Unmask | Kind::Verb(_)) | None => {
            format!("no policy permits `{}`{}", first.action, on(first, facts))
        }
    }
}

/// The sentence for what a rule without a `@reason` forbids.
pub(crate) fn forbidden(first: &Requirement<'_>, facts: &Facts) -> String {
    if first.action == CONNECT {
        return "connecting to this target is forbidden".to_owned();
    }
    format!("`{}`{} is forbidden", first.action, on(first, facts))
}

/// ` on public.a, public.b and 3 more`: what the statement itself names, never what is reached
/// through it.
fn on(first: &Requirement<'_>, facts: &Facts) -> String {
    let named = match first.resource {
        Resource::Target => {
            let own = facts.objects.iter().filter(|object| object.role != ObjectRole::Reached);
            own.map(|object| schema::dotted(&parts(&object.schema, &object.name))).collect()
        }
        Resource::Schema(schema) => vec![format!("schema {}", schema::dotted(&[schema]))],
        Resource::Table { schema, name, .. } => {
            let is_reached = !facts.objects.iter().any(|object| {
                object.role != ObjectRole::Reached && object.schema == schema && object.name == name
            });
            if is_reached {
                vec!["what it reaches".to_owned()]
            } else {
                vec![schema::dotted(&[schema, name])]
            }
        }
        Resource::Column { schema, table, name } => vec![schema::dotted(&[schema, table, name])],
        Resource::Namespace(name) => vec![format!("namespace {name}")],
        Resource::Path(path) => vec![path.to_owned()],
        Resource::Command(name) => vec![format!("command {name}")],
    };
    list(named)
}

fn parts<'a>(schema: &'a str, name: &'a str) -> Vec<&'a str> {
    if schema.is_empty() { vec![name] } else { vec![schema, name] }
}

fn list(mut names: Vec<String>) -> String {
    names.sort();
    names.dedup();
    if names.is_empty() {
        return String::new();
    }
    let more = names.len().saturating_sub(OBJECTS_NAMED);
    names.truncate(OBJECTS_NAMED);
    let named = names.join(", ");
    if more == 0 { format!(" on {named}") } else { format!(" on {named} and {more} more") }
}
