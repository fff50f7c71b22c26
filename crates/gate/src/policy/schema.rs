//! The Cedar schema: what policies can speak of. Entity ids are written down here and nowhere
//! else.

use std::fmt::Write as _;
use std::str::FromStr;

use cedar_policy::{EntityId, EntityTypeName, EntityUid, Schema};
use corral_model::ids::TargetName;
use corral_model::statement::AttributeKind;

use crate::policy::actions::{Actions, Kind, UNMASK};
use crate::policy::subject::ProtocolVerbs;

const ENTITIES: &str = r#"    /// A group of people or workloads.
    entity Group;
    entity User in [Group] { name: String };
    entity Workload in [Group] { name: String };
    /// A run is in its parent run, and a root run in its principal. Its id is the run's id.
    entity Run in [Run, User, Workload] { name: String, depth: Long };

    /// Its id is the target's name. The labels of a target are the tags of it and of all below it.
    entity Target { target: String, protocol: String } tags String;
    /// Id: TARGET/schema.
    entity Schema in [Target] { target: String, protocol: String, schema: String } tags String;
    /// A table, view, sequence or index. Id: TARGET/schema.name.
    entity Table in [Schema] {
        target: String, protocol: String, schema: String, name: String, kind: String
    } tags String;
    /// A namespace of a cluster. Id: TARGET/name.
    entity Namespace in [Target] { target: String, protocol: String, name: String } tags String;
    /// A file or directory, in every directory above it. Id: TARGET and the absolute path.
    entity Path in [Path, Target] { target: String, protocol: String, path: String } tags String;
    /// A command with typed parameters. Id: TARGET/name.
    entity Command in [Target] { target: String, protocol: String, name: String } tags String;
    /// A classified column. Id: TARGET/schema.table.column.
    entity Column in [Table] {
        target: String, protocol: String, schema: String, table: String, name: String
    } tags String;

    type Context = {
        /// Names of effects: "read", "write", "define", "administer", "shell", "unknown".
        effects: Set<String>,
        /// What the statement names or reaches: "schema.name".
        objects: Set<String>,
        /// Functions that it calls: "schema.name".
        functions: Set<String>,
        statement_count: Long,
        in_transaction: Bool,
        /// The time of the decision.
        time: datetime,
        /// 0 for a root run and for a session without a run.
        run_depth: Long,
        /// "process": a wrapper saw which process the session is of, and its run is that
        /// process's; "token": whoever has the token.
        attribution: String,
        /// Whether the client's connection is encrypted.
        tls: Bool,
        /// Absent on a Unix socket.
        source_ip?: ipaddr,
"#;

/// The schema in Cedar's own syntax, for documentation and other tools. Empty when the tables of
/// two protocols contradict each other.
#[must_use]
pub fn schema_text(protocols: &[ProtocolVerbs]) -> String {
    Actions::of(protocols).map(|actions| text(&actions, &|_| true)).unwrap_or_default()
}

fn text(actions: &Actions, is_wanted: &dyn Fn(&str) -> bool) -> String {
    let mut text = String::from("namespace Corral {\n");
    text.push_str(ENTITIES);
    for attribute in actions.attributes() {
        let kind = match attribute.kind {
            AttributeKind::Flag => "Bool",
            AttributeKind::Number => "Long",
            AttributeKind::Text => "String",
            AttributeKind::Set => "Set<String>",
        };
        // Writing to a String cannot fail.
        let _always_ok = writeln!(
            text,
            "        /// {}\n        {}?: {kind},",
            attribute.meaning, attribute.name
        );
    }
    text.push_str("    };\n\n");
    let mut sorted: Vec<(&str, Kind)> = actions
        .iter()
        .filter(|(name, kind)| !matches!(kind, Kind::Verb(_)) || is_wanted(name))
        .collect();
    sorted.sort_by_key(|(name, kind)| (*kind, *name));
    for (name, _) in sorted {
        let parent = actions.group_of(name).map_or(String::new(), |group| format!(" in [{group}]"));
        let resources = if name == UNMASK {
            "Column"
        } else {
            "Target, Schema, Table, Namespace, Path, Command"
        };
        // Writing to a String cannot fail.
        let _always_ok = writeln!(
            text,
            "    action {name}{parent} appliesTo \
             {{ principal: [User, Workload, Run], resource: [{resources}], context: Context }};"
        );
    }
    text.push_str("}\n");
    text
}

/// The schema with those verbs that `is_wanted` names. Verbs of one effect are alike to Cedar's
/// checks, whose cost grows with every one of them.
///
/// # Errors
/// Cedar's own words. The schema is ours: only tables of verbs can break it.
pub(crate) fn compile(
    actions: &Actions,
    is_wanted: &dyn Fn(&str) -> bool,
) -> Result<Schema, String> {
    Schema::from_cedarschema_str(&text(actions, is_wanted))
        .map(|(schema, _warnings)| schema)
        .map_err(|error| error.to_string())
}

/// The names of Cedar's entity types, parsed once.
#[derive(Debug, Clone)]
pub(crate) struct Types {
    pub(crate) group: EntityTypeName,
    pub(crate) user: EntityTypeName,
    pub(crate) workload: EntityTypeName,
    pub(crate) run: EntityTypeName,
    pub(crate) target: EntityTypeName,
    pub(crate) schema: EntityTypeName,
    pub(crate) table: EntityTypeName,
    pub(crate) namespace: EntityTypeName,
    pub(crate) path: EntityTypeName,
    pub(crate) command: EntityTypeName,
    pub(crate) column: EntityTypeName,
    pub(crate) action: EntityTypeName,
}

impl Types {
    /// # Errors
    /// Never, as long as the names below are names.
    pub(crate) fn new() -> Result<Self, String> {
        let parse = |name: &str| {
            EntityTypeName::from_str(&format!("Corral::{name}")).map_err(|error| error.to_string())
        };
        Ok(Self {
            group: parse("Group")?,
            user: parse("User")?,
            workload: parse("Workload")?,
            run: parse("Run")?,
            target: parse("Target")?,
            schema: parse("Schema")?,
            table: parse("Table")?,
            namespace: parse("Namespace")?,
            path: parse("Path")?,
            command: parse("Command")?,
            column: parse("Column")?,
            action: parse("Action")?,
        })
    }
}

pub(crate) fn uid(type_name: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(type_name.clone(), EntityId::new(id))
}

/// The id of something below a target: the names in SQL's own quoting, so that no two objects
/// share one.
pub(crate) fn below(target: &TargetName, parts: &[&str]) -> String {
    format!("{target}/{}", dotted(parts))
}

/// `schema.name`, quoted as SQL does where it is needed.
pub(crate) fn dotted(parts: &[&str]) -> String {
    let quoted: Vec<String> = parts.iter().map(|part| quote(part)).collect();
    quoted.join(".")
}

fn quote(name: &str) -> String {
    let is_plain = !name.is_empty()
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if is_plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// Whether entities of this type are targets, or what is below them.
pub(crate) fn is_resource(types: &Types, type_name: &EntityTypeName) -> bool {
    [
        &types.target,
        &types.schema,
        &types.table,
        &types.namespace,
        &types.path,
        &types.command,
        &types.column,
    ]
    .contains(&type_name)
}

/// The target that an entity of one of our resource types belongs to.
pub(crate) fn target_of<'a>(
    types: &Types,
    type_name: &EntityTypeName,
    id: &'a str,
) -> Option<&'a str> {
    if *type_name == types.target {
        return Some(id);
    }
    let is_below = is_resource(types, type_name);
    if is_below { id.split_once('/').map(|(target, _)| target) } else { None }
}
