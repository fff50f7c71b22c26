//! One subject, target, statement and context as Cedar sees them: entities and a context record,
//! built once and asked many times.

use std::collections::{BTreeSet, HashSet};

use cedar_policy::{
    Context as CedarContext, Entities, Entity, EntityUid, Request, RestrictedExpression,
};
use corral_model::PrincipalKind;
use corral_model::statement::{Attribute, Facts};
use time::{OffsetDateTime, UtcOffset};

use crate::policy::actions::Actions;
use crate::policy::fields::Fields;
use crate::policy::requirement::{Requirement, Resource};
use crate::policy::schema::{self, Types, uid};
use crate::policy::subject::{Context, Subject, TargetFacts};

/// One link of the chain that a statement is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) uid: EntityUid,
    /// For people: `run executor-3 (r-17)`, `user ada@example.com`.
    pub(crate) label: String,
}

/// Everything that Cedar is given.
#[derive(Debug)]
pub(crate) struct Question<'a> {
    types: &'a Types,
    target: &'a TargetFacts,
    entities: Entities,
    context: CedarContext,
    /// The acting run first, the principal last.
    pub(crate) nodes: Vec<Node>,
}

/// What a question is made of.
pub(crate) struct Parts<'a> {
    pub(crate) subject: &'a Subject,
    pub(crate) target: &'a TargetFacts,
    pub(crate) facts: &'a Facts,
    pub(crate) context: &'a Context,
    pub(crate) requirements: &'a [Requirement<'a>],
    /// The fields of `context` that some policy reads.
    pub(crate) fields: Fields,
}

impl<'a> Question<'a> {
    /// # Errors
    /// Cedar's own words; the caller denies.
    pub(crate) fn new(
        types: &'a Types,
        actions: &Actions,
        parts: &Parts<'a>,
    ) -> Result<Self, String> {
        let mut entities: Vec<Entity> = Vec::new();
        let nodes = add_subject(types, parts.subject, &mut entities)?;
        let mut seen_actions: BTreeSet<&str> = BTreeSet::new();
        let mut seen_resources: HashSet<EntityUid> = HashSet::new();
        for requirement in parts.requirements {
            if seen_actions.insert(requirement.action) {
                let group = actions.group_of(requirement.action);
                let parents = group.map(|group| uid(&types.action, group)).into_iter().collect();
                let action = uid(&types.action, requirement.action);
                entities.push(Entity::new_no_attrs(action, parents));
            }
            add_resource(
                types,
                parts.target,
                requirement.resource,
                &mut seen_resources,
                &mut entities,
            )?;
        }
        let entities =
            Entities::from_entities(entities, None).map_err(|error| error.to_string())?;
        let context = context_record(parts)?;
        Ok(Self { types, target: parts.target, entities, context, nodes })
    }

    pub(crate) fn entities(&self) -> &Entities {
        &self.entities
    }

    /// # Errors
    /// Cedar's own words; the caller denies.
    pub(crate) fn request(
        &self,
        node: &Node,
        requirement: &Requirement<'_>,
    ) -> Result<Request, String> {
        let action = uid(&self.types.action, requirement.action);
        let resource = resource_uid(self.types, self.target, requirement.resource);
        Request::new(node.uid.clone(), action, resource, self.context.clone(), None)
            .map_err(|error| error.to_string())
    }
}

fn text(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}

fn attributes(pairs: &[(&str, &str)]) -> Vec<(String, RestrictedExpression)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), text(value))).collect()
}

fn add_subject(
    types: &Types,
    subject: &Subject,
    entities: &mut Vec<Entity>,
) -> Result<Vec<Node>, String> {
    let name = subject.principal.name.as_str();
    let (type_name, kind) = match subject.principal.kind {
        PrincipalKind::User => (&types.user, "user"),
        PrincipalKind::Workload => (&types.workload, "workload"),
    };
    let principal = uid(type_name, name);
    let groups = subject.groups.iter().map(|group| uid(&types.group, group.as_str())).collect();
    let entity =
        Entity::new(principal.clone(), attributes(&[("name", name)]).into_iter().collect(), groups)
            .map_err(|error| error.to_string())?;
    entities.push(entity);
    let mut nodes = vec![Node { uid: principal.clone(), label: format!("{kind} {name}") }];
    let mut parent = principal;
    for (depth, run) in subject.runs.iter().enumerate() {
        let run_uid = uid(&types.run, run.id.as_str());
        let mut attributes = attributes(&[("name", &run.name)]);
        let depth = i64::try_from(depth).unwrap_or(i64::MAX);
        attributes.push(("depth".to_owned(), RestrictedExpression::new_long(depth)));
        let parents = HashSet::from([parent]);
        let entity = Entity::new(run_uid.clone(), attributes.into_iter().collect(), parents)
            .map_err(|error| error.to_string())?;
        entities.push(entity);
        nodes.push(Node { uid: run_uid.clone(), label: format!("run {} ({})", run.name, run.id) });
        parent = run_uid;
    }
    nodes.reverse();
    Ok(nodes)
}

fn resource_uid(types: &Types, target: &TargetFacts, resource: Resource<'_>) -> EntityUid {
    let name = &target.name;
    match resource {
        Resource::Target => uid(&types.target, name.as_str()),
        Resource::Schema(schema) => uid(&types.schema, &schema::below(name, &[schema])),
        Resource::Table { schema, name: table, .. } => {
            uid(&types.table, &schema::below(name, &[schema, table]))
        }
        Resource::Column { schema, table, name: column } => {
            uid(&types.column, &schema::below(name, &[schema, table, column]))
        }
        Resource::Namespace(namespace) => uid(&types.namespace, &format!("{name}/{namespace}")),
        Resource::Path(path) => uid(&types.path, &format!("{name}{path}")),
        Resource::Command(command) => uid(&types.command, &format!("{name}/{command}")),
    }
}

/// Adds a resource and everything above it, each once.
fn add_resource(
    types: &Types,
    target: &TargetFacts,
    resource: Resource<'_>,
    seen: &mut HashSet<EntityUid>,
    entities: &mut Vec<Entity>,
) -> Result<(), String> {
    let own = resource_uid(types, target, resource);
    if !seen.insert(own.clone()) {
        return Ok(());
    }
    let mut attributes =
        attributes(&[("target", target.name.as_str()), ("protocol", &target.protocol)]);
    let mut add = |key: &str, value: &str| attributes.push((key.to_owned(), text(value)));
    let above: Option<Resource<'_>> = match resource {
        Resource::Target => None,
        Resource::Schema(schema) => {
            add("schema", schema);
            Some(Resource::Target)
        }
        Resource::Table { schema, name, kind } => {
            add("schema", schema);
            add("name", name);
            add("kind", kind);
            Some(Resource::Schema(schema))
        }
        Resource::Column { schema, table, name } => {
            add("schema", schema);
            add("table", table);
            add("name", name);
            Some(Resource::Table { schema, name: table, kind: "table" })
        }
        Resource::Namespace(namespace) => {
            add("name", namespace);
            Some(Resource::Target)
        }
        Resource::Path(path) => {
            add("path", path);
            Some(parent_of(path).map_or(Resource::Target, Resource::Path))
        }
        Resource::Command(command) => {
            add("name", command);
            Some(Resource::Target)
        }
    };
    let parents: Vec<EntityUid> =
        above.map(|above| resource_uid(types, target, above)).into_iter().collect();
    let tags: Vec<(String, RestrictedExpression)> =
        target.labels.iter().map(|(key, value)| (key.clone(), text(value))).collect();
    let entity =
        Entity::new_with_tags(own, attributes, parents, tags).map_err(|error| error.to_string())?;
    entities.push(entity);
    match above {
        Some(above) => add_resource(types, target, above, seen, entities),
        None => Ok(()),
    }
}

/// The directory that holds a path; None above the root.
fn parent_of(path: &str) -> Option<&str> {
    let (parent, name) = path.rsplit_once('/')?;
    match (parent, name) {
        ("", "") => None,
        ("", _) => Some("/"),
        (parent, _) => Some(parent),
    }
}

/// The fields that some policy reads; the others cannot be missed.
fn context_record(parts: &Parts<'_>) -> Result<CedarContext, String> {
    let (facts, context, fields) = (parts.facts, parts.context, parts.fields);
    let mut pairs: Vec<(String, RestrictedExpression)> = Vec::new();
    let mut add = |key: &str, value: RestrictedExpression| pairs.push((key.to_owned(), value));
    let long = |value: u32| RestrictedExpression::new_long(i64::from(value));
    if fields.facts {
        let objects =
            facts.objects.iter().map(|object| schema::dotted(&[&object.schema, &object.name]));
        add("effects", set(facts.effects.iter().map(|effect| effect.name().to_owned())));
        add("objects", set(objects));
        add("functions", set(facts.functions.iter().cloned()));
        add("statement_count", long(facts.statement_count));
        add("run_depth", long(parts.subject.run_depth()));
        add("attribution", text(parts.subject.attribution().name()));
        for (name, attribute) in &facts.attributes {
            add(name, value_of(attribute));
        }
    }
    if fields.in_transaction {
        add("in_transaction", RestrictedExpression::new_bool(context.in_transaction));
    }
    if fields.time {
        add("time", RestrictedExpression::new_datetime(datetime(context.time)));
    }
    if fields.tls {
        add("tls", RestrictedExpression::new_bool(context.tls));
    }
    if let Some(ip) = context.source_ip.filter(|_| fields.source_ip) {
        add("source_ip", RestrictedExpression::new_ip(ip.to_canonical().to_string()));
    }
    CedarContext::from_pairs(pairs).map_err(|error| error.to_string())
}

fn value_of(attribute: &Attribute) -> RestrictedExpression {
    match attribute {
        Attribute::Flag(flag) => RestrictedExpression::new_bool(*flag),
        Attribute::Number(number) => RestrictedExpression::new_long(*number),
        Attribute::Text(value) => text(value),
        Attribute::Set(names) => set(names.iter().cloned()),
    }
}

fn set(names: impl Iterator<Item = String>) -> RestrictedExpression {
    RestrictedExpression::new_set(names.map(RestrictedExpression::new_string))
}

/// As Cedar reads it: milliseconds always with three digits.
fn datetime(time: OffsetDateTime) -> String {
    let time = time.to_offset(UtcOffset::UTC);
    format!("{}T{}Z", date(time), clock(time))
}

fn date(time: OffsetDateTime) -> String {
    format!("{:04}-{:02}-{:02}", time.year(), u8::from(time.month()), time.day())
}

fn clock(time: OffsetDateTime) -> String {
    let (hour, minute, second) = time.to_hms();
    format!("{hour:02}:{minute:02}:{second:02}.{:03}", time.millisecond())
}
