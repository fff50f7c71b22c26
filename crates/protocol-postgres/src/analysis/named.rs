//! Which relations a definition names of which nothing is evaluated: a rule on a table holds for
//! them as for its ALTER TABLE.

use corral_model::ObjectRole;
use pg_query::NodeEnum;
use pg_query::protobuf::{GrantStmt, GrantTargetType, Node, ObjectType, RangeVar};

use super::catalogue::Relation;
use super::define::name_parts;
use super::walker::{Walker, find_relation, object, offset};

impl<'a> Walker<'a> {
    /// The relations that a statement without an analysis of its own names.
    pub(super) fn name_relations(&mut self, node: &NodeEnum) {
        match node {
            NodeEnum::CommentStmt(found) => {
                self.name_object(found.objtype, found.object.as_deref());
            }
            NodeEnum::SecLabelStmt(found) => {
                self.name_object(found.objtype, found.object.as_deref());
            }
            NodeEnum::AlterExtensionContentsStmt(found) => {
                self.name_object(found.objtype, found.object.as_deref());
            }
            NodeEnum::CreateTrigStmt(found) => {
                self.name_family(found.relation.as_ref());
                self.name_relation(found.constrrel.as_ref());
            }
            NodeEnum::RuleStmt(found) => {
                self.name_relation(found.relation.as_ref());
            }
            NodeEnum::CreatePolicyStmt(found) => {
                self.name_relation(found.table.as_ref());
            }
            NodeEnum::AlterPolicyStmt(found) => {
                self.name_relation(found.table.as_ref());
            }
            NodeEnum::AlterObjectDependsStmt(found) => {
                self.name_relation(found.relation.as_ref());
            }
            NodeEnum::CreateStatsStmt(found) => {
                for node in &found.relations {
                    self.name_node(node);
                }
            }
            NodeEnum::CreateForeignTableStmt(found) => {
                let parents = found.base_stmt.as_ref().map(|table| &table.inh_relations);
                for node in parents.into_iter().flatten() {
                    self.name_node(node);
                }
            }
            NodeEnum::CreatePublicationStmt(found) => {
                self.name_published(&found.pubobjects, found.for_all_tables);
            }
            NodeEnum::AlterPublicationStmt(found) => {
                self.name_published(&found.pubobjects, found.for_all_tables);
            }
            NodeEnum::GrantStmt(found) => self.name_granted(found),
            NodeEnum::ReassignOwnedStmt(_)
            | NodeEnum::DropOwnedStmt(_)
            | NodeEnum::AlterTableMoveAllStmt(_) => self.reach_every_relation(None),
            _ => {}
        }
    }

    /// Notes a relation as defined. None: it is not there, or the statement is unknown.
    pub(super) fn name_relation(&mut self, named: Option<&RangeVar>) -> Option<&'a Relation> {
        let named = named?;
        self.found.is_definition = true;
        let names = self.names?;
        let position = offset(named.location);
        if !self.are_names_certain {
            self.unknown(
                "an earlier statement of the same text may change what its names mean; send it \
                 alone",
                position,
            );
            return None;
        }
        let Some(relation) = find_relation(names, named) else {
            if !self.is_made_before(named) {
                let text =
                    format!("relation \"{}\" is not in the target's catalogue", named.relname);
                self.unknown(text, position);
            }
            return None;
        };
        self.found.objects.insert(object(relation, ObjectRole::Define));
        if let Some(table) = relation.index_of.and_then(|oid| self.relation_by_oid(oid)) {
            self.found.objects.insert(object(table, ObjectRole::Define));
        }
        Some(relation)
    }

    /// Like [`Self::name_relation`], where partitions and children take part.
    fn name_family(&mut self, named: Option<&RangeVar>) {
        if let Some(relation) = self.name_relation(named) {
            self.note_family(relation);
        }
    }

    fn name_node(&mut self, node: &Node) {
        match &node.node {
            Some(NodeEnum::RangeVar(named)) => self.name_family(Some(named)),
            // CREATE STATISTICS: PostgreSQL takes nothing but names there.
            _ => self.unknown("a relation's name is not understood", None),
        }
    }

    /// Whether the text has made, and so listed, an object of this name.
    fn is_made_before(&self, named: &RangeVar) -> bool {
        self.is_fresh(named)
            || self.found.objects.iter().any(|object| {
                object.role == ObjectRole::Define
                    && object.name == named.relname
                    && (named.schemaname.is_empty() || object.schema == named.schemaname)
            })
    }

    fn name_object(&mut self, kind: i32, node: Option<&Node>) {
        let Some(node) = node else { return };
        let parts = name_parts(node);
        let relation = match ObjectType::try_from(kind).unwrap_or(ObjectType::Undefined) {
            ObjectType::ObjectTable
            | ObjectType::ObjectView
            | ObjectType::ObjectMatview
            | ObjectType::ObjectSequence
            | ObjectType::ObjectIndex
            | ObjectType::ObjectForeignTable => parts.as_slice(),
            // The last part is the object's own name; before it stands its relation's.
            ObjectType::ObjectColumn
            | ObjectType::ObjectTabconstraint
            | ObjectType::ObjectTrigger
            | ObjectType::ObjectRule
            | ObjectType::ObjectPolicy => parts.split_last().map_or(&[][..], |(_, before)| before),
            ObjectType::ObjectSchema => {
                self.note_schema(parts.last().copied().unwrap_or_default());
                return;
            }
            _ => return,
        };
        match range_var(relation) {
            Some(named) => {
                self.name_relation(Some(&named));
            }
            None => self.unknown("a relation's name is not understood", None),
        }
    }

    fn name_published(&mut self, nodes: &[Node], is_all: bool) {
        if is_all {
            self.reach_every_relation(None);
        }
        for node in nodes {
            let Some(NodeEnum::PublicationObjSpec(item)) = &node.node else { continue };
            match &item.pubtable {
                Some(table) => self.name_family(table.relation.as_ref()),
                None if item.name.is_empty() => self.reach_every_relation(None),
                None => self.name_schema_members(&item.name),
            }
        }
    }

    fn name_granted(&mut self, grant: &GrantStmt) {
        let kind = ObjectType::try_from(grant.objtype).unwrap_or(ObjectType::Undefined);
        let is_of_schema = grant.targtype == GrantTargetType::AclTargetAllInSchema as i32;
        for node in &grant.objects {
            match (&node.node, kind) {
                (Some(NodeEnum::RangeVar(named)), _) => {
                    self.name_relation(Some(named));
                }
                (
                    Some(NodeEnum::String(name)),
                    ObjectType::ObjectTable | ObjectType::ObjectSequence,
                ) if is_of_schema => {
                    self.name_schema_members(&name.sval);
                }
                (Some(NodeEnum::String(name)), ObjectType::ObjectSchema) => {
                    self.note_schema(&name.sval);
                }
                _ => {}
            }
        }
    }

    fn name_schema_members(&mut self, schema: &str) {
        self.note_schema(schema);
        self.reach_every_relation(Some(schema));
    }
}

/// A relation's name by its parts.
pub(super) fn range_var(parts: &[&str]) -> Option<RangeVar> {
    let (database, schema, name) = match parts {
        [name] => ("", "", name),
        [schema, name] => ("", *schema, name),
        [database, schema, name] => (*database, *schema, name),
        _ => return None,
    };
    Some(RangeVar {
        catalogname: database.to_owned(),
        schemaname: schema.to_owned(),
        relname: (*name).to_owned(),
        inh: true,
        location: -1,
        ..RangeVar::default()
    })
}

/// Whether what names of relations and types mean is the same after this definition. A function
/// may be another one.
pub(super) fn keeps_names(node: &NodeEnum) -> bool {
    match node {
        NodeEnum::CommentStmt(_)
        | NodeEnum::SecLabelStmt(_)
        | NodeEnum::CreateFunctionStmt(_)
        | NodeEnum::AlterFunctionStmt(_)
        | NodeEnum::CreateTrigStmt(_)
        | NodeEnum::RuleStmt(_)
        | NodeEnum::CreatePolicyStmt(_)
        | NodeEnum::AlterPolicyStmt(_)
        | NodeEnum::CreateStatsStmt(_)
        | NodeEnum::CreatePublicationStmt(_)
        | NodeEnum::AlterPublicationStmt(_) => true,
        // Who may use a schema decides whether it counts in the search path.
        NodeEnum::GrantStmt(found) => found.objtype != ObjectType::ObjectSchema as i32,
        _ => false,
    }
}
