//! What a definition changes of what names mean. Where the database's catalogue stays as it is, the
//! target's sessions need not read it again: temporary objects are asked for apart from it, and it
//! does not hold rows, comments and most rights.

use pg_query::NodeEnum;
use pg_query::protobuf::{DropBehavior, DropStmt, ObjectType, RangeVar};

use super::define::name_parts;
use super::named::range_var;
use super::walker::{Walker, find_relation};
use super::{SessionChange, verbs};

const OBJECTS: SessionChange = SessionChange { names: true, catalogue: true, reading: false };
const OWN_OBJECTS: SessionChange = SessionChange { catalogue: false, ..OBJECTS };

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
        if is_own { OWN_OBJECTS } else { OBJECTS }
    }

    /// Of SELECT INTO.
    pub(super) fn change_by_into(&self, named: Option<&RangeVar>) -> SessionChange {
        let is_own = is_made_temporary(named) && self.has_no_event_triggers();
        if is_own { OWN_OBJECTS } else { OBJECTS }
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
