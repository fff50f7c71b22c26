//! What a definition changes of what names mean. Where the database's catalogue stays as it is, the
//! target's sessions need not read it again: temporary objects are asked for apart from it, and it
//! does not hold rows, comments and most rights.

use pg_query::NodeEnum;
use pg_query::protobuf::{
    AlterTableCmd, AlterTableStmt, AlterTableType, DropBehavior, DropStmt, Node, ObjectType,
    RangeVar,
};

use super::define::name_parts;
use super::named::range_var;
use super::walker::{Walker, find_relation};
use super::{SessionChange, verbs};

pub(super) const OBJECTS: SessionChange =
    SessionChange { names: true, catalogue: true, reading: false, is_wide: true };
/// No others than those that the facts list as defined or reached.
const NAMED_OBJECTS: SessionChange = SessionChange { is_wide: false, ..OBJECTS };
const OWN_OBJECTS: SessionChange = SessionChange { catalogue: false, ..NAMED_OBJECTS };

impl Walker<'_> {
    /// Of the definition itself. What functions do that run meanwhile is told apart from this.
    pub(super) fn change_by(&self, node: &NodeEnum) -> SessionChange {
        if !self.has_no_event_triggers() {
            return OBJECTS;
        }
        let is_own = match node {
            NodeEnum::TruncateStmt(_)
            | NodeEnum::CommentStmt(_)
            | NodeEnum::VacuumStmt(_)
            | NodeEnum::ClusterStmt(_)
            | NodeEnum::ReindexStmt(_)
            | NodeEnum::RefreshMatViewStmt(_) => return SessionChange::default(),
            // Who may use a schema has it in the path.
            NodeEnum::GrantStmt(found) if found.objtype != ObjectType::ObjectSchema as i32 => {
                return SessionChange::default();
            }
            NodeEnum::CreateStmt(found) => is_made_temporary(found.relation.as_ref()),
            NodeEnum::CreateSeqStmt(found) => is_made_temporary(found.sequence.as_ref()),
            NodeEnum::ViewStmt(found) => is_made_temporary(found.view.as_ref()),
            NodeEnum::CreateTableAsStmt(found) => {
                is_made_temporary(found.into.as_ref().and_then(|into| into.rel.as_ref()))
            }
            NodeEnum::IndexStmt(found) => self.is_temporary(found.relation.as_ref()),
            NodeEnum::DropStmt(found) => self.drops_temporary(found),
            _ => false,
        };
        if is_own {
            OWN_OBJECTS
        } else if self.changes_what_is_listed(node) {
            NAMED_OBJECTS
        } else {
            OBJECTS
        }
    }

    /// Of SELECT INTO.
    pub(super) fn change_by_into(&self, named: Option<&RangeVar>) -> SessionChange {
        match (self.has_no_event_triggers(), is_made_temporary(named)) {
            (true, true) => OWN_OBJECTS,
            (true, false) => NAMED_OBJECTS,
            (false, _) => OBJECTS,
        }
    }

    /// Whether every object that the definition makes, changes or drops is listed as defined, or as
    /// reached: children and partitions are. Where that is not plain to see, it is not.
    fn changes_what_is_listed(&self, node: &NodeEnum) -> bool {
        match node {
            NodeEnum::CreateStmt(found) => {
                let mut elements = found.table_elts.iter().chain(&found.constraints);
                !elements.any(has_key)
            }
            NodeEnum::ViewStmt(_)
            | NodeEnum::CreateTableAsStmt(_)
            | NodeEnum::IndexStmt(_)
            | NodeEnum::CreateSeqStmt(_)
            | NodeEnum::CreateTrigStmt(_)
            | NodeEnum::RuleStmt(_)
            | NodeEnum::CreatePolicyStmt(_)
            | NodeEnum::AlterPolicyStmt(_)
            | NodeEnum::CreateStatsStmt(_) => true,
            NodeEnum::CreateSchemaStmt(found) => found.schema_elts.is_empty(),
            NodeEnum::AlterSeqStmt(found) => self.is_known(found.sequence.as_ref()),
            NodeEnum::AlterTableStmt(found) => self.alters_what_is_listed(found),
            NodeEnum::DropStmt(found) => self.drops_what_is_listed(found),
            _ => false,
        }
    }

    /// A relation that is there, so that the facts list it: one that IF EXISTS looks for may be
    /// there by the time that the target looks.
    fn is_known(&self, named: Option<&RangeVar>) -> bool {
        let Some(names) = self.names else { return false };
        named.is_some_and(|named| find_relation(names, named).is_some())
    }

    fn alters_what_is_listed(&self, found: &AlterTableStmt) -> bool {
        let is_of_relation = matches!(
            ObjectType::try_from(found.objtype),
            Ok(ObjectType::ObjectTable
                | ObjectType::ObjectIndex
                | ObjectType::ObjectView
                | ObjectType::ObjectSequence)
        );
        let is_listed = |node: &Node| match &node.node {
            Some(NodeEnum::AlterTableCmd(command)) => {
                command.behavior != DropBehavior::DropCascade as i32
                    && !command.def.as_deref().is_some_and(has_key)
                    && !(drops_column(command) && self.has_sequences())
            }
            _ => false,
        };
        is_of_relation && self.is_known(found.relation.as_ref()) && found.cmds.iter().all(is_listed)
    }

    fn drops_what_is_listed(&self, found: &DropStmt) -> bool {
        let kind = ObjectType::try_from(found.remove_type).unwrap_or(ObjectType::Undefined);
        let is_listed = |node: &Node| {
            let parts = name_parts(node);
            let relation = match kind {
                ObjectType::ObjectTable | ObjectType::ObjectForeignTable
                    if self.has_sequences() =>
                {
                    return false;
                }
                ObjectType::ObjectTable
                | ObjectType::ObjectForeignTable
                | ObjectType::ObjectView
                | ObjectType::ObjectMatview
                | ObjectType::ObjectIndex
                | ObjectType::ObjectSequence => range_var(&parts),
                // The last part is the object's own name; before it stands its relation's.
                ObjectType::ObjectTrigger | ObjectType::ObjectRule | ObjectType::ObjectPolicy => {
                    parts.split_last().and_then(|(_, relation)| range_var(relation))
                }
                _ => return false,
            };
            self.is_known(relation.as_ref())
        };
        found.behavior != DropBehavior::DropCascade as i32 && found.objects.iter().all(is_listed)
    }

    /// Those that belong to a column are dropped with it, without CASCADE; whose they are, the
    /// catalogue does not tell.
    fn has_sequences(&self) -> bool {
        let mut relations = self.names.iter().flat_map(|names| names.catalogue.relations.values());
        relations.any(|relation| relation.kind == 'S' && !relation.is_system)
    }

    /// Those may run with any definition.
    fn has_no_event_triggers(&self) -> bool {
        !self.found.verbs.contains(&verbs::EVENT_TRIGGER)
            && self.names.is_some_and(|names| names.catalogue.event_triggers.is_empty())
    }

    /// A relation that there is.
    fn is_temporary(&self, named: Option<&RangeVar>) -> bool {
        let Some(names) = self.names else { return false };
        let found = named.and_then(|named| find_relation(names, named));
        found.is_some_and(|relation| relation.schema == "pg_temp")
    }

    /// Without CASCADE, which reaches others.
    fn drops_temporary(&self, found: &DropStmt) -> bool {
        let is_of_relations = matches!(
            ObjectType::try_from(found.remove_type),
            Ok(ObjectType::ObjectTable
                | ObjectType::ObjectView
                | ObjectType::ObjectIndex
                | ObjectType::ObjectSequence)
        );
        is_of_relations
            && found.behavior != DropBehavior::DropCascade as i32
            && found.objects.iter().all(|node| {
                let named = range_var(&name_parts(node));
                self.is_temporary(named.as_ref())
            })
    }
}

/// CREATE TEMPORARY.
fn is_made_temporary(named: Option<&RangeVar>) -> bool {
    named.is_some_and(|named| named.relpersistence == "t")
}

/// A foreign key, or a column that is one: it puts triggers on the table that it points to.
fn has_key(node: &Node) -> bool {
    match &node.node {
        Some(NodeEnum::Constraint(constraint)) => constraint.pktable.is_some(),
        Some(NodeEnum::ColumnDef(column)) => column.constraints.iter().any(has_key),
        _ => false,
    }
}

fn drops_column(command: &AlterTableCmd) -> bool {
    matches!(
        AlterTableType::try_from(command.subtype),
        Ok(AlterTableType::AtDropColumn | AlterTableType::AtDropIdentity)
    )
}
