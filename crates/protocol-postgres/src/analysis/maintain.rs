//! VACUUM, ANALYZE, REINDEX and CLUSTER: the expressions of indexes and statistics run, of every
//! relation where none is named.

use pg_query::NodeEnum;
use pg_query::protobuf::{RangeVar, ReindexObjectType, ReindexStmt, VacuumStmt};

use super::catalogue::TreeContext;
use super::statement::is_on;
use super::walker::{Access, Walker};

impl Walker<'_> {
    /// VACUUM and ANALYZE.
    pub(super) fn vacuum(&mut self, found: &VacuumStmt) {
        for node in &found.rels {
            if let Some(NodeEnum::VacuumRelation(named)) = &node.node {
                self.maintain_named(named.relation.as_ref());
            }
        }
        let is_analyzing = !found.is_vacuumcmd || is_on(&found.options, "analyze");
        if found.rels.is_empty() && is_analyzing {
            self.maintain(None, &[TreeContext::Index, TreeContext::Statistics]);
        } else if found.rels.is_empty() && is_on(&found.options, "full") {
            self.maintain(None, &[TreeContext::Index]);
        }
    }

    /// Maintenance of one relation; without a name, of every one.
    pub(super) fn maintain_named(&mut self, named: Option<&RangeVar>) {
        match named {
            Some(named) => self.touch_optional(Some(named), Access::Define, false),
            None => self.maintain(None, &[TreeContext::Index]),
        }
    }

    /// Maintenance of many relations: what it evaluates of them. They are not listed.
    pub(super) fn maintain(&mut self, schema: Option<&str>, contexts: &[TreeContext]) {
        self.found.needs_names = true;
        for oid in self.every_relation(schema) {
            if let Some(relation) = self.relation_by_oid(oid) {
                self.reach_trees(relation, contexts, None);
                self.reach_ranges(relation);
            }
        }
    }

    pub(super) fn reindex(&mut self, found: &ReindexStmt) {
        match ReindexObjectType::try_from(found.kind) {
            Ok(ReindexObjectType::ReindexObjectSchema) => {
                self.note_schema(&found.name);
                self.maintain(Some(&found.name), &[TreeContext::Index]);
            }
            Ok(ReindexObjectType::ReindexObjectSystem) => {}
            _ => self.maintain_named(found.relation.as_ref()),
        }
    }
}
