//! What the target's autovacuum evaluates by itself, with the rights of a relation's owner: the
//! expressions of indexes and statistics, and what is between two values of a range. A definition
//! that stores such code, or changes what it runs, is no mere definition: it runs without a
//! statement.

use std::collections::BTreeSet;

use pg_query::NodeEnum;
use pg_query::protobuf::{
    CreateRangeStmt, CreateStatsStmt, Node, ObjectType, RangeVar, RenameStmt,
};

use super::catalogue::TreeContext;
use super::define::name_parts;
use super::walker::{
    Walker, find_relation, is_reviewed, is_system_schema, split_name, strings, user_functions,
};
use super::{Names, builtins};

/// What maintenance calls, as far as it can be told.
struct Maintained {
    /// Schema and name; what was not found is as it is written.
    functions: BTreeSet<String>,
    /// Whether it runs texts, whose names are looked up each time.
    has_bodies: bool,
}

impl Walker<'_> {
    /// Refuses to call a definition that changes what maintenance runs a mere definition.
    pub(super) fn guard_maintained(&mut self, node: &NodeEnum) {
        // Sessions with masked columns may use none of these.
        if self.is_masking() || !may_change_maintained(node) {
            return;
        }
        let Some(names) = self.names else { return };
        let maintained = self.maintained();
        let is_changed = match node {
            NodeEnum::CreateFunctionStmt(found) => {
                self.is_maintained(names, &maintained, &strings(&found.funcname))
            }
            NodeEnum::AlterFunctionStmt(found) => found.func.as_ref().is_some_and(|function| {
                self.is_maintained(names, &maintained, &strings(&function.objname))
            }),
            NodeEnum::RenameStmt(found) => self.renames_maintained(names, &maintained, found),
            NodeEnum::AlterObjectSchemaStmt(found) => {
                let parts = found.object.as_deref().map(name_parts).unwrap_or_default();
                let name = split_name(&parts).1;
                self.is_maintained(names, &maintained, &[&found.newschema, name])
            }
            // A text may use them.
            _ => maintained.has_bodies,
        };
        if is_changed {
            self.unknown(
                "autovacuum runs it for an index, a range or statistics, without a statement",
                None,
            );
        }
    }

    fn renames_maintained(
        &self,
        names: &Names,
        maintained: &Maintained,
        found: &RenameStmt,
    ) -> bool {
        if found.rename_type == ObjectType::ObjectSchema as i32 {
            let prefix = format!("{}.", found.newname);
            return maintained.functions.iter().any(|full| full.starts_with(&prefix));
        }
        let parts = found.object.as_deref().map(name_parts).unwrap_or_default();
        match split_name(&parts).0 {
            Some(schema) => self.is_maintained(names, maintained, &[schema, &found.newname]),
            None => self.is_maintained(names, maintained, &[&found.newname]),
        }
    }

    fn maintained(&mut self) -> Maintained {
        let needs_names = self.found.needs_names;
        let body_count = std::mem::take(&mut self.body_count);
        let mut has_bodies = false;
        let inner = self.aside(|walker| {
            for oid in walker.every_relation(None) {
                let Some(relation) = walker.relation_by_oid(oid) else { continue };
                let contexts = [TreeContext::Index, TreeContext::Statistics];
                for tree in relation.trees.iter().filter(|tree| contexts.contains(&tree.context)) {
                    walker.reach_code(tree, None);
                }
                walker.reach_ranges(relation);
                has_bodies |= std::mem::take(&mut walker.body_count) > 0;
            }
        });
        self.body_count = body_count;
        // The names that other statements of the text make are added below.
        self.found.needs_names = needs_names;
        let mut functions = inner.functions;
        functions.extend(self.found.functions.iter().cloned());
        Maintained { functions, has_bodies }
    }

    /// Whether maintenance calls a function of this name, whatever its arguments.
    fn is_maintained(&self, names: &Names, maintained: &Maintained, parts: &[&str]) -> bool {
        let (schema, name) = split_name(parts);
        let is_meant = |full: &String| match (schema, full.strip_suffix(name)) {
            (_, None) => false,
            (_, Some("")) => true,
            (Some(schema), Some(prefix)) => prefix.strip_suffix('.') == Some(schema),
            (None, Some(prefix)) => prefix.strip_suffix('.').is_some_and(|schema| {
                let is_in_path = || names.session.path.iter().any(|one| one == schema);
                // Nothing is made in the server's own schemas.
                !is_system_schema(schema) && (!self.are_names_certain || is_in_path())
            }),
        };
        maintained.functions.iter().any(is_meant)
    }

    /// CREATE STATISTICS: what it calls is run whenever the relation is analysed.
    pub(super) fn store_statistics(&mut self, found: &CreateStatsStmt) {
        let named = found.relations.first().and_then(|node| match &node.node {
            Some(NodeEnum::RangeVar(named)) => Some(named),
            _ => None,
        });
        let inner = self.store_over(named, &found.exprs);
        let has_expression = |node: &Node| matches!(&node.node, Some(NodeEnum::StatsElem(element)) if element.expr.is_some());
        let is_of_users = |names: &Names| {
            inner.functions.iter().any(|name| super::stored::is_of_users(names, name))
        };
        if found.exprs.iter().any(has_expression)
            && (inner.unknown.is_some() || self.names.is_some_and(is_of_users))
        {
            self.unknown("autovacuum runs the function of a user for statistics", None);
        }
    }

    /// LIKE with INCLUDING: the statistics of another relation may be made for the one here, too.
    pub(super) fn copy_statistics(&mut self, named: Option<&RangeVar>) {
        let relation = self.names.zip(named).and_then(|(names, named)| find_relation(names, named));
        if let Some(relation) = relation {
            self.reach_trees(relation, &[TreeContext::Statistics], None);
        }
    }

    /// CREATE TYPE AS RANGE: the difference of two values is asked for by ANALYZE.
    pub(super) fn store_range(&mut self, found: &CreateRangeStmt) {
        let Some(names) = self.names else { return };
        for node in &found.params {
            let Some(NodeEnum::DefElem(option)) = &node.node else { continue };
            if option.defname != "subtype_diff" {
                continue;
            }
            let parts = option.arg.as_deref().map(name_parts).unwrap_or_default();
            let (schema, name) = split_name(&parts);
            let users = user_functions(names, schema, name);
            let is_known = !users.is_empty()
                || (schema.is_none_or(is_system_schema) && builtins::effect_of(name).is_some());
            if !is_known || !users.into_iter().all(is_reviewed) {
                self.unknown("autovacuum runs the function of a user for a range", None);
            }
        }
    }
}

fn may_change_maintained(node: &NodeEnum) -> bool {
    let is_function = |kind: i32| {
        matches!(
            ObjectType::try_from(kind),
            Ok(ObjectType::ObjectFunction
                | ObjectType::ObjectProcedure
                | ObjectType::ObjectRoutine
                | ObjectType::ObjectAggregate)
        )
    };
    match node {
        NodeEnum::CreateFunctionStmt(_)
        | NodeEnum::AlterFunctionStmt(_)
        | NodeEnum::CreateCastStmt(_) => true,
        NodeEnum::RenameStmt(found) => {
            is_function(found.rename_type) || found.rename_type == ObjectType::ObjectSchema as i32
        }
        NodeEnum::AlterObjectSchemaStmt(found) => is_function(found.object_type),
        NodeEnum::DefineStmt(found) => found.kind == ObjectType::ObjectOperator as i32,
        _ => false,
    }
}
