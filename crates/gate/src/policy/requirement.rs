//! What a statement needs: pairs of an action and a resource, from its facts alone.
//!
//! A verb is asked for each object that it uses; without objects, for the target. An effect that
//! none of the verbs has (a called function's) is asked as the effect's own action. Effects that
//! reach beyond what a statement names (`administer`, `shell`, `unknown`) must be permitted on the
//! target as a whole, whatever they name.

use std::collections::BTreeSet;

use corral_model::statement::{Facts, ObjectRef};
use corral_model::{Effect, Effects, ObjectRole};

use crate::policy::actions::{Actions, CONNECT};

/// Kinds of objects that are a `Table` in policies. Others are judged by their schema.
const TABLE_KINDS: [&str; 12] = [
    "table",
    "view",
    "materialized_view",
    "materialized view",
    "foreign_table",
    "foreign table",
    "partitioned_table",
    "partitioned table",
    "sequence",
    "index",
    "relation",
    "toast",
];

/// What a requirement is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Resource<'a> {
    Target,
    Schema(&'a str),
    Table {
        schema: &'a str,
        name: &'a str,
        kind: &'a str,
    },
    Column {
        schema: &'a str,
        table: &'a str,
        name: &'a str,
    },
    Namespace(&'a str),
    /// Absolute, without `.` and `..`.
    Path(&'a str),
    Command(&'a str),
}

/// What it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Need {
    /// A permit, and no forbid.
    Permit,
    /// No forbid; the permit is asked of the target.
    NoForbid,
}

/// One question to the policies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Requirement<'a> {
    pub(crate) action: &'static str,
    pub(crate) resource: Resource<'a>,
    pub(crate) need: Need,
}

/// What a statement needs, without duplicates, in a fixed order. `is_per_object` says of an
/// action whether any rule can tell a table from its target; where none can, the target is asked
/// once for all of them.
pub(crate) fn of<'a>(
    facts: &'a Facts,
    actions: &Actions,
    is_per_object: &dyn Fn(&str) -> bool,
) -> Vec<Requirement<'a>> {
    let mut needed: BTreeSet<Requirement<'a>> = BTreeSet::new();
    let mut covered = Effects::NONE;
    for verb in &facts.verbs {
        let (action, effect) = match actions.verb(verb.name) {
            Some(known) if known.effect == verb.effect => (known.name, known.effect),
            // A verb that the schema does not know may do anything.
            Some(_) | None => (Effect::Unknown.name(), Some(Effect::Unknown)),
        };
        match effect {
            Some(effect) => {
                covered.insert(effect);
                add(&mut needed, action, effect, facts, is_per_object);
            }
            None => {
                needed.insert(on_target(CONNECT, Need::Permit));
                needed.insert(on_target(action, Need::NoForbid));
            }
        }
    }
    for effect in facts.effects.iter().filter(|effect| !covered.contains(*effect)) {
        add(&mut needed, effect.name(), effect, facts, is_per_object);
    }
    if needed.is_empty() {
        needed.insert(on_target(CONNECT, Need::Permit));
    }
    needed.into_iter().collect()
}

pub(crate) fn on_target(action: &'static str, need: Need) -> Requirement<'static> {
    Requirement { action, resource: Resource::Target, need }
}

fn add<'a>(
    needed: &mut BTreeSet<Requirement<'a>>,
    action: &'static str,
    effect: Effect,
    facts: &'a Facts,
    is_per_object: &dyn Fn(&str) -> bool,
) {
    let reaches_beyond = match effect {
        Effect::Read | Effect::Write | Effect::Define => false,
        Effect::Administer | Effect::Shell | Effect::Unknown => true,
    };
    let used: Vec<Resource<'a>> = if is_per_object(action) {
        let of_effect = facts.objects.iter().filter(|object| is_used(object, effect));
        of_effect.map(resource_of).collect()
    } else {
        Vec::new()
    };
    if used.is_empty() || reaches_beyond {
        needed.insert(on_target(action, Need::Permit));
    }
    let need = if reaches_beyond { Need::NoForbid } else { Need::Permit };
    for resource in used {
        needed.insert(Requirement { action, resource, need });
    }
}

/// Whether an effect acts on an object. What is reached through another object may be reached for
/// any effect of the statement; the bias is to ask too much.
fn is_used(object: &ObjectRef, effect: Effect) -> bool {
    let is_table = TABLE_KINDS.contains(&object.kind.as_str());
    match (object.role, effect) {
        (_, Effect::Administer | Effect::Shell | Effect::Unknown) => true,
        (ObjectRole::Read, Effect::Read)
        | (ObjectRole::Write, Effect::Write)
        | (ObjectRole::Define, Effect::Define) => true,
        // A function that is called or reached counts by its effects.
        (ObjectRole::Reached, Effect::Read | Effect::Write | Effect::Define) => is_table,
        (
            ObjectRole::Read | ObjectRole::Write | ObjectRole::Define,
            Effect::Read | Effect::Write | Effect::Define,
        ) => false,
    }
}

pub(crate) fn resource_of(object: &ObjectRef) -> Resource<'_> {
    match object.kind.as_str() {
        "schema" => return Resource::Schema(&object.name),
        "namespace" => return Resource::Namespace(&object.name),
        // A protocol's object in a namespace, or one of the whole cluster.
        "object" if object.schema.is_empty() => return Resource::Target,
        "object" => return Resource::Namespace(&object.schema),
        "path" if object.name.starts_with('/') => return Resource::Path(&object.name),
        "path" => return Resource::Target,
        "command" => return Resource::Command(&object.name),
        _ => {}
    }
    if object.schema.is_empty() {
        return Resource::Target;
    }
    if TABLE_KINDS.contains(&object.kind.as_str()) {
        return Resource::Table { schema: &object.schema, name: &object.name, kind: &object.kind };
    }
    Resource::Schema(&object.schema)
}
