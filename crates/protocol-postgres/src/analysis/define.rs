//! Definitions and administration. What they run while they run (defaults, index expressions,
//! checks, triggers of TRUNCATE, queries of CREATE TABLE AS) counts; what they only store does
//! not, until something calls it. Sessions with masked columns may use a short list of them.

use corral_model::{Effect, ObjectRef, ObjectRole, Verb};
use pg_query::NodeEnum;
use pg_query::protobuf::{
    AlterTableCmd, AlterTableStmt, AlterTableType, ColumnDef, ConstrType, Constraint, CreateStmt,
    CreateTableAsStmt, DropBehavior, DropStmt, IndexElem, IndexStmt, Node, ObjectType,
    PartitionBoundSpec, RangeVar, RenameStmt, TruncateStmt,
};

use super::StatementKind;
use super::catalogue::{Relation, TreeContext};
use super::named::{keeps_names, range_var};
use super::verbs;
use super::walker::{Access, Call, Walker, find_relation, offset, strings};

/// Verbs of one kind of object: made, changed, dropped.
struct ObjectVerbs {
    alter: Verb,
    drop: Verb,
}

impl<'a> Walker<'a> {
    pub(super) fn define(&mut self, node: &NodeEnum) -> StatementKind {
        self.found.change.add(self.change_by(node));
        self.use_event_triggers();
        self.guard_maintained(node);
        let call = std::mem::replace(&mut self.call, Call::Hidden);
        let is_listed = self.define_listed(node);
        let verb = if is_listed { None } else { closed_verb(node) };
        if let Some(verb) = verb {
            self.found.verb(verb);
            self.name_relations(node);
            self.define_closed(node);
        }
        self.call = call;
        self.keeps_names = keeps_names(node);
        if is_listed {
            self.refuse_classified("a definition");
            return StatementKind::NoRows;
        }
        if verb.is_none() {
            self.unknown("the statement is of a kind that is not on the list", None);
            return StatementKind::Unknown;
        }
        self.refuse_when_masked(
            "definitions of this kind are not analysed in a session with masked columns",
            None,
        );
        StatementKind::NoRows
    }

    /// Functions that run with every definition.
    pub(super) fn use_event_triggers(&mut self) {
        self.found.is_definition = true;
        if self.found.verbs.contains(&verbs::EVENT_TRIGGER) {
            self.unknown(
                "an earlier statement of the same text may have made an event trigger; send it \
                 alone",
                None,
            );
        }
        let Some(names) = self.names else { return };
        for function in &names.catalogue.event_triggers {
            self.reach_function(*function, None);
        }
    }

    /// Those that are looked into. False: not one of them.
    fn define_listed(&mut self, node: &NodeEnum) -> bool {
        match node {
            NodeEnum::CreateStmt(found) => self.create_table(found),
            NodeEnum::CreateTableAsStmt(found) => self.create_table_as(found),
            NodeEnum::AlterTableStmt(found) => self.alter_table(found),
            NodeEnum::DropStmt(found) => self.drop(found),
            NodeEnum::IndexStmt(found) => self.create_index(found),
            NodeEnum::RenameStmt(found) => self.rename(found),
            NodeEnum::TruncateStmt(found) => {
                self.found.verb(verbs::TRUNCATE);
                self.truncate(found);
            }
            NodeEnum::ViewStmt(found) => {
                self.found.verb(verbs::CREATE_VIEW);
                self.note_created(found.view.as_ref(), "view");
                if let Some(query) = &found.query {
                    let inner = self.stored(|walker| {
                        walker.query(query);
                    });
                    self.found.needs_names |= inner.needs_names;
                    self.found.objects.extend(inner.objects);
                }
            }
            NodeEnum::CreateSchemaStmt(found) => {
                self.found.verb(verbs::CREATE_SCHEMA);
                self.note_object("", &found.schemaname, "schema", ObjectRole::Define);
                for element in &found.schema_elts {
                    if let Some(element) = &element.node {
                        self.deeper(|walker| {
                            walker.define(element);
                        });
                    }
                }
                self.is_additive = found.schema_elts.is_empty();
            }
            NodeEnum::CreateSeqStmt(found) => {
                self.found.verb(verbs::CREATE_SEQUENCE);
                self.is_additive = true;
                self.note_created(found.sequence.as_ref(), "sequence");
            }
            NodeEnum::AlterSeqStmt(found) => {
                self.found.verb(verbs::ALTER_SEQUENCE);
                self.touch_optional(found.sequence.as_ref(), Access::Define, found.missing_ok);
            }
            NodeEnum::AlterObjectSchemaStmt(found) => {
                self.found.verb(object_verbs(found.object_type).alter);
                match &found.relation {
                    Some(named) => {
                        self.touch_optional(Some(named), Access::Define, found.missing_ok);
                    }
                    None => self.refuse_when_masked(
                        "SET SCHEMA of this kind is not analysed in a session with masked columns",
                        None,
                    ),
                }
            }
            NodeEnum::CompositeTypeStmt(found) => {
                self.found.verb(verbs::CREATE_TYPE);
                self.note_created(found.typevar.as_ref(), "type");
            }
            NodeEnum::CreateEnumStmt(_) | NodeEnum::AlterEnumStmt(_) => {
                let is_new = matches!(node, NodeEnum::CreateEnumStmt(_));
                self.found.verb(if is_new { verbs::CREATE_TYPE } else { verbs::ALTER_TYPE });
            }
            NodeEnum::CommentStmt(_) => {
                self.found.verb(verbs::COMMENT);
                self.name_relations(node);
                self.is_additive = true;
            }
            NodeEnum::VacuumStmt(found) => {
                self.found.verb(if found.is_vacuumcmd { verbs::VACUUM } else { verbs::ANALYZE });
                self.vacuum(found);
            }
            NodeEnum::ReindexStmt(found) => {
                self.found.verb(verbs::REINDEX);
                self.reindex(found);
            }
            NodeEnum::ClusterStmt(found) => {
                self.found.verb(verbs::CLUSTER);
                self.maintain_named(found.relation.as_ref());
            }
            NodeEnum::RefreshMatViewStmt(found) => {
                self.found.verb(verbs::REFRESH_VIEW);
                if let Some(relation) =
                    found.relation.as_ref().and_then(|named| self.relation(named))
                {
                    self.touch(relation, Access::Define, None);
                    self.reach_definition(relation);
                }
            }
            _ => return false,
        }
        true
    }

    fn truncate(&mut self, found: &TruncateStmt) {
        let is_cascading = found.behavior == DropBehavior::DropCascade as i32;
        for node in &found.relations {
            let Some(NodeEnum::RangeVar(named)) = &node.node else {
                self.unknown("a relation's name is not understood", None);
                continue;
            };
            let Some(relation) = self.relation(named) else { continue };
            self.touch_truncated(relation, named);
            if is_cascading {
                self.truncate_cascading(relation, named);
            }
        }
    }

    fn create_table(&mut self, found: &CreateStmt) {
        self.found.verb(verbs::CREATE_TABLE);
        let schema = self.note_created(found.relation.as_ref(), "table");
        let is_like = |node: &Node| matches!(node.node, Some(NodeEnum::TableLikeClause(_)));
        self.is_additive = found.inh_relations.is_empty()
            && found.partbound.is_none()
            && found.of_typename.is_none()
            && !found.table_elts.iter().any(is_like);
        if let (true, Some(named)) = (self.is_additive, &found.relation) {
            self.fresh.push((schema, named.relname.clone()));
        }
        for parent in &found.inh_relations {
            self.touch_named(parent, Access::Define);
            if let (Some(NodeEnum::RangeVar(named)), Some(_)) = (&parent.node, &found.partbound)
                && let Some(parent) = self.relation(named)
            {
                self.add_partition(parent, found.partbound.as_ref());
            }
        }
        self.partition_bound(found.partbound.as_ref());
        if let Some(specification) = &found.partspec {
            for node in &specification.part_params {
                if let Some(NodeEnum::PartitionElem(element)) = &node.node {
                    self.optional(element.expr.as_deref());
                }
            }
        }
        if let Some(named) = &found.of_typename {
            self.use_type(named);
        }
        for node in found.table_elts.iter().chain(&found.constraints).chain(&found.nnconstraints) {
            self.table_element(node);
        }
    }

    pub(super) fn table_element(&mut self, node: &Node) {
        match &node.node {
            Some(NodeEnum::ColumnDef(column)) => self.column_definition(column),
            Some(NodeEnum::Constraint(constraint)) => self.constraint(constraint),
            Some(NodeEnum::TableLikeClause(like)) => {
                self.touch_optional(like.relation.as_ref(), Access::Read, false);
                if like.options != 0 {
                    self.copy_statistics(like.relation.as_ref());
                }
            }
            _ => self.unknown("a table's element is of a kind that is not on the list", None),
        }
    }

    /// Defaults and checks may be evaluated at once, for rows that exist.
    fn column_definition(&mut self, column: &ColumnDef) {
        if let Some(named) = &column.type_name {
            self.use_type(named);
            self.use_named_default(named);
        }
        self.optional(column.raw_default.as_deref());
        for node in &column.constraints {
            self.table_element(node);
        }
    }

    pub(super) fn constraint(&mut self, constraint: &Constraint) {
        self.optional(constraint.raw_expr.as_deref());
        self.optional(constraint.where_clause.as_deref());
        for node in &constraint.exclusions {
            if let Some(NodeEnum::List(pair)) = &node.node {
                for part in &pair.items {
                    match &part.node {
                        Some(NodeEnum::IndexElem(element)) => self.index_element(element),
                        Some(NodeEnum::List(names)) => {
                            self.use_operator(&strings(&names.items), None);
                        }
                        _ => self.unknown("an exclusion constraint is not understood", None),
                    }
                }
            }
        }
        self.touch_optional(constraint.pktable.as_ref(), Access::Read, false);
    }

    /// The rows of a default partition are asked whether they belong to the new one; bounds
    /// become values of the key's types.
    fn add_partition(&mut self, parent: &'a Relation, bound: Option<&PartitionBoundSpec>) {
        let mut pending = vec![parent];
        while let Some(relation) = pending.pop() {
            self.reach_trees(relation, &[TreeContext::Partition], None);
            pending.extend(self.parents(relation));
        }
        let is_literal = |node: &Node| match &node.node {
            Some(NodeEnum::AConst(_) | NodeEnum::ColumnRef(_)) => true,
            Some(NodeEnum::PartitionRangeDatum(datum)) => {
                datum.value.as_ref().is_none_or(|value| {
                    matches!(value.node, Some(NodeEnum::AConst(_) | NodeEnum::ColumnRef(_)))
                })
            }
            _ => false,
        };
        let Some(bound) = bound else { return };
        let mut values =
            bound.listdatums.iter().chain(&bound.lowerdatums).chain(&bound.upperdatums);
        if values.all(is_literal) {
            let types: Vec<u32> = parent.columns.iter().map(|column| column.type_oid).collect();
            self.reach_inputs(&types);
        } else {
            self.use_global_casts();
            self.use_columns(parent);
        }
    }

    fn partition_bound(&mut self, bound: Option<&PartitionBoundSpec>) {
        let Some(bound) = bound else { return };
        for node in bound.listdatums.iter().chain(&bound.lowerdatums).chain(&bound.upperdatums) {
            match &node.node {
                Some(NodeEnum::PartitionRangeDatum(datum)) => self.optional(datum.value.as_deref()),
                // MINVALUE and MAXVALUE look like columns.
                Some(NodeEnum::ColumnRef(_)) => {}
                _ => self.expression(node),
            }
        }
    }

    fn create_table_as(&mut self, found: &CreateTableAsStmt) {
        let is_view = found.objtype == ObjectType::ObjectMatview as i32;
        self.found.verb(if is_view { verbs::CREATE_VIEW } else { verbs::CREATE_TABLE });
        let kind = if is_view { "materialized_view" } else { "table" };
        self.note_created(found.into.as_ref().and_then(|into| into.rel.as_ref()), kind);
        self.use_global_casts();
        if let Some(query) = &found.query {
            self.statement(query);
        }
    }

    fn create_index(&mut self, found: &IndexStmt) {
        self.found.verb(verbs::CREATE_INDEX);
        self.is_additive = true;
        self.touch_optional(found.relation.as_ref(), Access::Define, false);
        let mut is_plain = found.where_clause.is_none();
        for node in &found.index_params {
            match &node.node {
                Some(NodeEnum::IndexElem(element)) => {
                    is_plain &= element.expr.is_none();
                    self.index_element(element);
                }
                _ => self.unknown("an index has a column that is not understood", None),
            }
        }
        self.optional(found.where_clause.as_deref());
        if !is_plain {
            self.convert_columns(found.relation.as_ref());
        }
    }

    fn index_element(&mut self, element: &IndexElem) {
        self.optional(element.expr.as_deref());
        let class = strings(&element.opclass);
        if let [.., schema, _] = class.as_slice()
            && !super::walker::is_system_schema(schema)
        {
            self.unknown("an operator class of the database calls what cannot be told", None);
        }
    }

    fn alter_table(&mut self, found: &AlterTableStmt) {
        self.found.verb(object_verbs(found.objtype).alter);
        self.touch_optional(found.relation.as_ref(), Access::Define, found.missing_ok);
        let is_new = found.relation.as_ref().is_some_and(|named| self.is_fresh(named));
        // A key of an older table may make a later statement reach that table's triggers.
        self.is_additive = found
            .cmds
            .iter()
            .all(|node| is_additive_command(node) && (is_new || !has_foreign_key(node)));
        for node in &found.cmds {
            match &node.node {
                Some(NodeEnum::AlterTableCmd(command)) => {
                    self.alter_table_command(command, found.relation.as_ref());
                }
                _ => self.unknown("ALTER has a part that is not on the list", None),
            }
        }
        if found.cmds.iter().any(converts) {
            self.convert_columns(found.relation.as_ref());
        }
        let is_cascading = |node: &Node| matches!(&node.node, Some(NodeEnum::AlterTableCmd(command)) if command.behavior == DropBehavior::DropCascade as i32);
        if found.cmds.iter().any(is_cascading) {
            self.alter_cascading(found);
        }
    }

    /// DROP COLUMN and DROP CONSTRAINT with CASCADE; tables that are of an altered row type.
    fn alter_cascading(&mut self, found: &AlterTableStmt) {
        let Some(names) = self.names() else { return };
        let relation = found.relation.as_ref().and_then(|named| find_relation(names, named));
        match relation {
            Some(relation) if relation.kind == 'c' => self.reach_every_relation(None),
            Some(relation) => self.reach_dependents(&[relation.oid]),
            None => {}
        }
    }

    /// Values of a relation's columns are converted, to another type or in an expression.
    fn convert_columns(&mut self, named: Option<&RangeVar>) {
        self.use_global_casts();
        let Some(names) = self.names() else { return };
        let Some(relation) = named.and_then(|named| find_relation(names, named)) else { return };
        self.use_columns(relation);
        for child in self.descendants(relation) {
            self.use_columns(child);
        }
    }

    fn alter_table_command(&mut self, command: &AlterTableCmd, named: Option<&RangeVar>) {
        match AlterTableType::try_from(command.subtype) {
            Ok(AlterTableType::AtChangeOwner) => self.found.verb(verbs::ALTER_OWNER),
            Ok(
                AlterTableType::AtEnableRowSecurity
                | AlterTableType::AtDisableRowSecurity
                | AlterTableType::AtForceRowSecurity
                | AlterTableType::AtNoForceRowSecurity,
            ) => self.found.verb(verbs::ALTER_POLICY),
            Ok(AlterTableType::Undefined) | Err(_) => {
                self.unknown("ALTER has a part that is not known", None);
            }
            Ok(_) => {}
        }
        let Some(definition) = &command.def else { return };
        match &definition.node {
            Some(NodeEnum::ColumnDef(column)) => self.column_definition(column),
            Some(NodeEnum::Constraint(constraint)) => self.constraint(constraint),
            Some(NodeEnum::RangeVar(named)) => {
                self.touch_optional(Some(named), Access::Define, false);
            }
            Some(NodeEnum::PartitionCmd(partition)) => {
                self.touch_optional(partition.name.as_ref(), Access::Define, false);
                self.partition_bound(partition.bound.as_ref());
                if let (Some(bound), Some(parent)) =
                    (&partition.bound, named.and_then(|named| self.relation(named)))
                {
                    self.add_partition(parent, Some(bound));
                }
            }
            Some(NodeEnum::TypeName(named)) => self.use_type(named),
            // Options, identities, statistics targets: nothing that runs.
            Some(
                NodeEnum::List(_)
                | NodeEnum::DefElem(_)
                | NodeEnum::ReplicaIdentityStmt(_)
                | NodeEnum::AtalterConstraint(_)
                | NodeEnum::RoleSpec(_),
            )
            | None => {}
            Some(_) => self.expression(definition),
        }
    }

    fn rename(&mut self, found: &RenameStmt) {
        let kind = if found.rename_type == ObjectType::ObjectColumn as i32 {
            found.relation_type
        } else {
            found.rename_type
        };
        self.found.verb(object_verbs(kind).alter);
        let is_schema = found.rename_type == ObjectType::ObjectSchema as i32;
        if is_schema {
            self.note_schema(&found.subname);
            // Rules that name its tables no longer meet them.
            self.reach_every_relation(Some(&found.subname));
        }
        match &found.relation {
            Some(named) => self.touch_optional(Some(named), Access::Define, found.missing_ok),
            None if is_schema && !self.schema_is_classified(&found.subname) => {}
            None => self.refuse_when_masked(
                "this name is part of what is classified, or is not analysed in a session with \
                 masked columns",
                None,
            ),
        }
    }

    fn drop(&mut self, found: &DropStmt) {
        let kind = ObjectType::try_from(found.remove_type).unwrap_or(ObjectType::Undefined);
        self.found.verb(object_verbs(found.remove_type).drop);
        if found.behavior == DropBehavior::DropCascade as i32 {
            self.drop_cascading(kind, found);
        }
        for node in &found.objects {
            let parts = name_parts(node);
            match kind {
                ObjectType::ObjectTable
                | ObjectType::ObjectView
                | ObjectType::ObjectMatview
                | ObjectType::ObjectSequence
                | ObjectType::ObjectIndex
                | ObjectType::ObjectForeignTable => self.drop_relation(&parts, found.missing_ok),
                ObjectType::ObjectSchema => {
                    let name = parts.last().copied().unwrap_or_default();
                    self.note_schema(name);
                    if self.schema_is_classified(name) {
                        self.refuse_when_masked(
                            "the schema holds a relation with masked columns",
                            None,
                        );
                    }
                }
                // The last part is the object's own name; before it stands its relation's.
                ObjectType::ObjectTrigger | ObjectType::ObjectRule | ObjectType::ObjectPolicy => {
                    if let [relation @ .., _] = parts.as_slice() {
                        self.drop_relation(relation, found.missing_ok);
                    }
                }
                ObjectType::ObjectType => {
                    let (schema, name) = super::walker::split_name(&parts);
                    self.note_object(schema.unwrap_or(""), name, "type", ObjectRole::Define);
                }
                _ => {
                    let (schema, name) = super::walker::split_name(&parts);
                    self.note_object(schema.unwrap_or(""), name, "object", ObjectRole::Define);
                    self.refuse_when_masked(
                        "DROP of this kind is not analysed in a session with masked columns",
                        None,
                    );
                }
            }
        }
    }

    fn drop_relation(&mut self, parts: &[&str], missing_ok: bool) {
        match range_var(parts) {
            Some(named) => self.touch_optional(Some(&named), Access::Define, missing_ok),
            None => self.unknown("a relation's name is not understood", None),
        }
    }

    /// A relation by name; one that may be missing is nothing when it is.
    pub(super) fn touch_optional(
        &mut self,
        named: Option<&RangeVar>,
        access: Access,
        missing_ok: bool,
    ) {
        let Some(named) = named else { return };
        if missing_ok {
            let Some(names) = self.names() else { return };
            if super::walker::find_relation(names, named).is_none() {
                return;
            }
        }
        let Some(relation) = self.relation(named) else { return };
        self.touch(relation, access, offset(named.location));
        if let Some(table) = relation.index_of.and_then(|oid| self.relation_by_oid(oid)) {
            self.touch(table, access, offset(named.location));
        }
        if access == Access::Define {
            self.define_family(relation, offset(named.location));
        }
    }

    /// Notes a new object; gives its schema.
    pub(super) fn note_created(&mut self, named: Option<&RangeVar>, kind: &str) -> String {
        let Some(named) = named else { return String::new() };
        let schema = if named.relpersistence == "t" {
            "pg_temp".to_owned()
        } else if named.schemaname.is_empty() {
            let path = self.names().map(|names| names.session.path.as_slice()).unwrap_or_default();
            let is_own = |schema: &&String| !matches!(schema.as_str(), "pg_temp" | "pg_catalog");
            path.iter().find(is_own).cloned().unwrap_or_default()
        } else {
            named.schemaname.clone()
        };
        self.note_object(&schema, &named.relname, kind, ObjectRole::Define);
        self.found.effect(Effect::Define);
        schema
    }

    pub(super) fn note_schema(&mut self, name: &str) {
        self.note_object("", name, "schema", ObjectRole::Define);
    }

    fn note_object(&mut self, schema: &str, name: &str, kind: &str, role: ObjectRole) {
        self.found.objects.insert(ObjectRef {
            schema: schema.to_owned(),
            name: name.to_owned(),
            kind: kind.to_owned(),
            role,
        });
    }
}

/// Parts of ALTER TABLE that bring nothing but expressions and types that are walked.
fn is_additive_command(node: &Node) -> bool {
    let Some(NodeEnum::AlterTableCmd(command)) = &node.node else { return false };
    matches!(
        AlterTableType::try_from(command.subtype),
        Ok(AlterTableType::AtAddColumn
            | AlterTableType::AtColumnDefault
            | AlterTableType::AtDropNotNull
            | AlterTableType::AtSetNotNull
            | AlterTableType::AtSetStatistics
            | AlterTableType::AtAddConstraint
            | AlterTableType::AtValidateConstraint
            | AlterTableType::AtDropConstraint)
    )
}

/// Parts of ALTER TABLE that may convert values of the columns that there are.
fn converts(node: &Node) -> bool {
    let Some(NodeEnum::AlterTableCmd(command)) = &node.node else { return true };
    let is_plain = |node: &Node| match &node.node {
        Some(NodeEnum::Constraint(constraint)) => matches!(
            ConstrType::try_from(constraint.contype),
            Ok(ConstrType::ConstrNull
                | ConstrType::ConstrNotnull
                | ConstrType::ConstrDefault
                | ConstrType::ConstrIdentity
                | ConstrType::ConstrPrimary
                | ConstrType::ConstrUnique
                | ConstrType::ConstrAttrDeferrable
                | ConstrType::ConstrAttrNotDeferrable
                | ConstrType::ConstrAttrDeferred
                | ConstrType::ConstrAttrImmediate)
        ),
        _ => false,
    };
    let definition = command.def.as_deref();
    match AlterTableType::try_from(command.subtype) {
        Ok(AlterTableType::AtAddColumn) => match definition.and_then(|node| node.node.as_ref()) {
            // A key of the column converts that column's values only.
            Some(NodeEnum::ColumnDef(column)) => {
                !column.constraints.iter().all(|node| is_plain(node) || is_key(node))
            }
            _ => true,
        },
        Ok(AlterTableType::AtAddConstraint) => !definition.is_some_and(is_plain),
        Ok(
            AlterTableType::Undefined
            | AlterTableType::AtAlterColumnType
            | AlterTableType::AtSetExpression
            | AlterTableType::AtValidateConstraint
            | AlterTableType::AtAlterConstraint
            | AlterTableType::AtAttachPartition
            | AlterTableType::AtAddInherit
            | AlterTableType::AtAddOf,
        )
        | Err(_) => true,
        Ok(_) => false,
    }
}

/// A foreign key.
fn is_key(node: &Node) -> bool {
    matches!(&node.node, Some(NodeEnum::Constraint(constraint)) if constraint.pktable.is_some())
}

fn has_foreign_key(node: &Node) -> bool {
    let Some(NodeEnum::AlterTableCmd(command)) = &node.node else { return false };
    match &command.def {
        Some(definition) => match &definition.node {
            Some(NodeEnum::ColumnDef(column)) => column.constraints.iter().any(is_key),
            _ => is_key(definition),
        },
        None => false,
    }
}

/// The parts of an object's name, however the grammar wraps them.
pub(super) fn name_parts(node: &Node) -> Vec<&str> {
    match &node.node {
        Some(NodeEnum::List(list)) => strings(&list.items),
        Some(NodeEnum::String(text)) => vec![text.sval.as_str()],
        Some(NodeEnum::TypeName(named)) => strings(&named.names),
        Some(NodeEnum::ObjectWithArgs(object)) => strings(&object.objname),
        _ => Vec::new(),
    }
}

fn object_verbs(kind: i32) -> ObjectVerbs {
    let of = |alter: Verb, drop: Verb| ObjectVerbs { alter, drop };
    match ObjectType::try_from(kind).unwrap_or(ObjectType::Undefined) {
        ObjectType::ObjectTable | ObjectType::ObjectColumn | ObjectType::ObjectTabconstraint => {
            of(verbs::ALTER_TABLE, verbs::DROP_TABLE)
        }
        ObjectType::ObjectIndex => of(verbs::ALTER_INDEX, verbs::DROP_INDEX),
        ObjectType::ObjectView | ObjectType::ObjectMatview => {
            of(verbs::ALTER_VIEW, verbs::DROP_VIEW)
        }
        ObjectType::ObjectSequence => of(verbs::ALTER_SEQUENCE, verbs::DROP_SEQUENCE),
        ObjectType::ObjectSchema => of(verbs::ALTER_SCHEMA, verbs::DROP_SCHEMA),
        ObjectType::ObjectType
        | ObjectType::ObjectDomain
        | ObjectType::ObjectDomconstraint
        | ObjectType::ObjectAttribute => of(verbs::ALTER_TYPE, verbs::DROP_TYPE),
        ObjectType::ObjectFunction
        | ObjectType::ObjectProcedure
        | ObjectType::ObjectRoutine
        | ObjectType::ObjectAggregate => of(verbs::ALTER_FUNCTION, verbs::DROP_FUNCTION),
        ObjectType::ObjectTrigger => of(verbs::ALTER_TRIGGER, verbs::DROP_TRIGGER),
        ObjectType::ObjectRule => of(verbs::ALTER_OBJECT, verbs::DROP_RULE),
        ObjectType::ObjectPolicy => of(verbs::ALTER_POLICY, verbs::DROP_POLICY),
        ObjectType::ObjectRole => of(verbs::ALTER_ROLE, verbs::DROP_ROLE),
        ObjectType::ObjectDatabase => of(verbs::ALTER_DATABASE, verbs::DROP_DATABASE),
        ObjectType::ObjectTablespace => of(verbs::ALTER_TABLESPACE, verbs::DROP_TABLESPACE),
        ObjectType::ObjectExtension => of(verbs::ALTER_EXTENSION, verbs::DROP_EXTENSION),
        ObjectType::ObjectFdw
        | ObjectType::ObjectForeignServer
        | ObjectType::ObjectForeignTable
        | ObjectType::ObjectUserMapping => of(verbs::FOREIGN_DATA, verbs::FOREIGN_DATA),
        ObjectType::ObjectPublication
        | ObjectType::ObjectPublicationNamespace
        | ObjectType::ObjectPublicationRel
        | ObjectType::ObjectSubscription => of(verbs::REPLICATION, verbs::REPLICATION),
        ObjectType::ObjectEventTrigger => of(verbs::EVENT_TRIGGER, verbs::EVENT_TRIGGER),
        ObjectType::ObjectLanguage | ObjectType::ObjectAccessMethod => {
            of(verbs::LANGUAGE, verbs::LANGUAGE)
        }
        ObjectType::ObjectDefacl | ObjectType::ObjectParameterAcl => {
            of(verbs::GRANT, verbs::REVOKE)
        }
        ObjectType::Undefined
        | ObjectType::ObjectAmop
        | ObjectType::ObjectAmproc
        | ObjectType::ObjectCast
        | ObjectType::ObjectCollation
        | ObjectType::ObjectConversion
        | ObjectType::ObjectDefault
        | ObjectType::ObjectLargeobject
        | ObjectType::ObjectOpclass
        | ObjectType::ObjectOperator
        | ObjectType::ObjectOpfamily
        | ObjectType::ObjectStatisticExt
        | ObjectType::ObjectTransform
        | ObjectType::ObjectTsconfiguration
        | ObjectType::ObjectTsdictionary
        | ObjectType::ObjectTsparser
        | ObjectType::ObjectTstemplate => of(verbs::ALTER_OBJECT, verbs::DROP_OBJECT),
    }
}

/// Those that only have a verb; sessions with masked columns may not use them.
fn closed_verb(node: &NodeEnum) -> Option<Verb> {
    let verb = match node {
        NodeEnum::CreateFunctionStmt(_) => verbs::CREATE_FUNCTION,
        NodeEnum::AlterFunctionStmt(_) => verbs::ALTER_FUNCTION,
        NodeEnum::CreateTrigStmt(_) => verbs::CREATE_TRIGGER,
        NodeEnum::RuleStmt(_) => verbs::CREATE_RULE,
        NodeEnum::CreateDomainStmt(_) | NodeEnum::CreateRangeStmt(_) => verbs::CREATE_TYPE,
        NodeEnum::AlterDomainStmt(_) | NodeEnum::AlterTypeStmt(_) => verbs::ALTER_TYPE,
        NodeEnum::DefineStmt(_)
        | NodeEnum::CreateCastStmt(_)
        | NodeEnum::CreateConversionStmt(_)
        | NodeEnum::CreateOpClassStmt(_)
        | NodeEnum::CreateOpFamilyStmt(_)
        | NodeEnum::CreateStatsStmt(_)
        | NodeEnum::CreateTransformStmt(_) => verbs::CREATE_OBJECT,
        NodeEnum::AlterCollationStmt(_)
        | NodeEnum::AlterObjectDependsStmt(_)
        | NodeEnum::AlterOpFamilyStmt(_)
        | NodeEnum::AlterOperatorStmt(_)
        | NodeEnum::AlterStatsStmt(_)
        | NodeEnum::AlterTsdictionaryStmt(_)
        | NodeEnum::AlterTsconfigurationStmt(_) => verbs::ALTER_OBJECT,
        NodeEnum::AlterOwnerStmt(_) | NodeEnum::ReassignOwnedStmt(_) => verbs::ALTER_OWNER,
        NodeEnum::GrantStmt(found) if !found.is_grant => verbs::REVOKE,
        NodeEnum::GrantRoleStmt(found) if !found.is_grant => verbs::REVOKE,
        NodeEnum::GrantStmt(_)
        | NodeEnum::GrantRoleStmt(_)
        | NodeEnum::AlterDefaultPrivilegesStmt(_) => verbs::GRANT,
        NodeEnum::CreatePolicyStmt(_) => verbs::CREATE_POLICY,
        NodeEnum::AlterPolicyStmt(_) => verbs::ALTER_POLICY,
        NodeEnum::CreateRoleStmt(_) => verbs::CREATE_ROLE,
        NodeEnum::AlterRoleStmt(_) | NodeEnum::AlterRoleSetStmt(_) => verbs::ALTER_ROLE,
        NodeEnum::DropRoleStmt(_) | NodeEnum::DropOwnedStmt(_) => verbs::DROP_ROLE,
        NodeEnum::AlterSystemStmt(_) => verbs::ALTER_SYSTEM,
        NodeEnum::CreatedbStmt(_) => verbs::CREATE_DATABASE,
        NodeEnum::AlterDatabaseStmt(_)
        | NodeEnum::AlterDatabaseRefreshCollStmt(_)
        | NodeEnum::AlterDatabaseSetStmt(_) => verbs::ALTER_DATABASE,
        NodeEnum::DropdbStmt(_) => verbs::DROP_DATABASE,
        NodeEnum::CreateTableSpaceStmt(_) => verbs::CREATE_TABLESPACE,
        NodeEnum::AlterTableSpaceOptionsStmt(_) | NodeEnum::AlterTableMoveAllStmt(_) => {
            verbs::ALTER_TABLESPACE
        }
        NodeEnum::DropTableSpaceStmt(_) => verbs::DROP_TABLESPACE,
        NodeEnum::CreateExtensionStmt(_) => verbs::CREATE_EXTENSION,
        NodeEnum::AlterExtensionStmt(_) | NodeEnum::AlterExtensionContentsStmt(_) => {
            verbs::ALTER_EXTENSION
        }
        NodeEnum::CreateFdwStmt(_)
        | NodeEnum::AlterFdwStmt(_)
        | NodeEnum::CreateForeignServerStmt(_)
        | NodeEnum::AlterForeignServerStmt(_)
        | NodeEnum::CreateForeignTableStmt(_)
        | NodeEnum::CreateUserMappingStmt(_)
        | NodeEnum::AlterUserMappingStmt(_)
        | NodeEnum::DropUserMappingStmt(_)
        | NodeEnum::ImportForeignSchemaStmt(_) => verbs::FOREIGN_DATA,
        NodeEnum::CreatePublicationStmt(_)
        | NodeEnum::AlterPublicationStmt(_)
        | NodeEnum::CreateSubscriptionStmt(_)
        | NodeEnum::AlterSubscriptionStmt(_)
        | NodeEnum::DropSubscriptionStmt(_) => verbs::REPLICATION,
        NodeEnum::CreateEventTrigStmt(_) | NodeEnum::AlterEventTrigStmt(_) => verbs::EVENT_TRIGGER,
        NodeEnum::CreatePlangStmt(_) | NodeEnum::CreateAmStmt(_) => verbs::LANGUAGE,
        NodeEnum::SecLabelStmt(_) => verbs::SECURITY_LABEL,
        NodeEnum::LoadStmt(_) => verbs::LOAD,
        NodeEnum::CheckPointStmt(_) => verbs::CHECKPOINT,
        _ => return None,
    };
    Some(verb)
}
