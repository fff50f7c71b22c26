//! INSERT, UPDATE, DELETE, MERGE and COPY. A relation with masked columns may not be changed here,
//! and nothing masked may be written anywhere else.

use std::collections::HashMap;

use pg_query::NodeEnum;
use pg_query::protobuf::{
    CopyStmt, DeleteStmt, InferClause, InsertStmt, MergeStmt, Node, OnConflictAction, RangeVar,
    ReturningClause, UpdateStmt, WithClause,
};

use super::StatementKind;
use super::shape::{Level, OutColumn, Shape};
use super::verbs;
use super::walker::{Access, Walker, offset};

impl Walker<'_> {
    pub(super) fn insert(&mut self, insert: &InsertStmt) -> Shape {
        self.found.verb(verbs::INSERT);
        self.modify(insert.with_clause.as_ref(), |walker| {
            if let Some(query) = &insert.select_stmt {
                // The query sees WITH, and nothing of the target.
                walker.inner_source(query);
            }
            walker.target_relation(insert.relation.as_ref());
            walker.expressions(&insert.cols);
            if let Some(conflict) = &insert.on_conflict_clause {
                if conflict.action == OnConflictAction::OnconflictUpdate as i32 {
                    walker.found.verb(verbs::UPDATE);
                }
                walker.infer(conflict.infer.as_deref());
                walker.expressions(&conflict.target_list);
                walker.optional(conflict.where_clause.as_deref());
            }
            walker.returning(insert.returning_clause.as_ref(), insert.relation.as_ref())
        })
    }

    pub(super) fn update(&mut self, update: &UpdateStmt) -> Shape {
        self.found.verb(verbs::UPDATE);
        self.modify(update.with_clause.as_ref(), |walker| {
            walker.target_relation(update.relation.as_ref());
            walker.sources(&update.from_clause);
            walker.expressions(&update.target_list);
            walker.optional(update.where_clause.as_deref());
            walker.returning(update.returning_clause.as_ref(), update.relation.as_ref())
        })
    }

    pub(super) fn delete(&mut self, delete: &DeleteStmt) -> Shape {
        self.found.verb(verbs::DELETE);
        self.modify(delete.with_clause.as_ref(), |walker| {
            walker.target_relation(delete.relation.as_ref());
            walker.sources(&delete.using_clause);
            walker.optional(delete.where_clause.as_deref());
            walker.returning(delete.returning_clause.as_ref(), delete.relation.as_ref())
        })
    }

    pub(super) fn merge(&mut self, merge: &MergeStmt) -> Shape {
        self.found.verb(verbs::MERGE);
        self.modify(merge.with_clause.as_ref(), |walker| {
            walker.target_relation(merge.relation.as_ref());
            if let Some(source) = &merge.source_relation {
                walker.sources(std::slice::from_ref(source.as_ref()));
            }
            walker.optional(merge.join_condition.as_deref());
            for node in &merge.merge_when_clauses {
                match &node.node {
                    Some(NodeEnum::MergeWhenClause(when)) => {
                        walker.optional(when.condition.as_deref());
                        walker.expressions(&when.target_list);
                        walker.expressions(&when.values);
                    }
                    _ => walker.unknown("MERGE has a clause that is not on the list", None),
                }
            }
            walker.returning(merge.returning_clause.as_ref(), merge.relation.as_ref())
        })
    }

    fn modify(
        &mut self,
        with: Option<&WithClause>,
        body: impl FnOnce(&mut Self) -> Shape,
    ) -> Shape {
        self.tables.push(HashMap::new());
        self.with(with);
        self.levels.push(Level::default());
        let shape = body(self);
        self.levels.pop();
        self.tables.pop();
        shape
    }

    /// The relation that is changed; its columns can be named.
    fn target_relation(&mut self, named: Option<&RangeVar>) {
        let Some(named) = named else { return };
        let position = offset(named.location);
        let Some(relation) = self.relation(named) else { return };
        self.touch(relation, Access::Write, position);
        let names = relation.columns.iter().map(|column| OutColumn::named(&column.name));
        let shape = Shape::exact(names.collect());
        let star =
            self.enter(named.alias.as_ref(), &named.relname, Some(&relation.schema), shape, true);
        if let Some(level) = self.levels.last_mut() {
            level.star = star;
        }
    }

    /// Other relations in FROM or USING.
    fn sources(&mut self, nodes: &[Node]) {
        for node in nodes {
            self.found.verb(verbs::SELECT);
            self.range_item(node);
        }
    }

    /// A query whose rows are written.
    fn inner_source(&mut self, query: &Node) {
        let shape = if let Some(NodeEnum::SelectStmt(select)) = &query.node {
            if select.values_lists.is_empty() {
                self.query(query)
            } else {
                // VALUES reads nothing by itself.
                self.tables.push(HashMap::new());
                self.with(select.with_clause.as_ref());
                for list in &select.values_lists {
                    self.expression(list);
                }
                self.tables.pop();
                self.sort(&select.sort_clause, &Shape::open());
                self.optional(select.limit_count.as_deref());
                self.optional(select.limit_offset.as_deref());
                Shape::open()
            }
        } else {
            self.query(query)
        };
        if shape.has_mask() {
            self.found.obstacle("a masked column may not be written to another place", None);
        }
    }

    fn infer(&mut self, found: Option<&InferClause>) {
        let Some(found) = found else { return };
        for node in &found.index_elems {
            match &node.node {
                Some(NodeEnum::IndexElem(element)) => self.optional(element.expr.as_deref()),
                _ => self.unknown("ON CONFLICT has a target that is not understood", None),
            }
        }
        self.optional(found.where_clause.as_deref());
    }

    /// RETURNING reads the changed rows. Nothing masked comes out of it.
    fn returning(&mut self, found: Option<&ReturningClause>, target: Option<&RangeVar>) -> Shape {
        let Some(found) = found else {
            return Shape::exact(Vec::new());
        };
        self.found.verb(verbs::SELECT);
        if let Some(relation) = target.and_then(|named| self.relation(named)) {
            let role = corral_model::ObjectRole::Read;
            self.found.objects.insert(super::walker::object(relation, role));
        }
        let is_masked = self
            .levels
            .last()
            .is_some_and(|level| level.entries.iter().any(|e| e.shape.has_mask()));
        if is_masked {
            self.found.obstacle("RETURNING may not stand beside masked columns", None);
        }
        let mut columns = Vec::new();
        let mut is_exact = true;
        for node in &found.exprs {
            let Some(NodeEnum::ResTarget(target)) = &node.node else {
                self.unknown("RETURNING has an item that is not on the list", None);
                continue;
            };
            let name = (!target.name.is_empty()).then(|| target.name.clone());
            if let Some(value) = &target.val {
                self.expression(value);
                is_exact &= !has_star(value);
            }
            columns.push(OutColumn {
                name: name.or_else(|| last_field(target.val.as_deref())),
                mask: None,
            });
        }
        if is_exact { Shape::exact(columns) } else { Shape { columns, is_exact } }
    }

    pub(super) fn copy(&mut self, copy: &CopyStmt) -> StatementKind {
        let is_file = !copy.filename.is_empty();
        if copy.is_program {
            self.found.verb(verbs::COPY_PROGRAM);
            self.refuse_when_masked("COPY PROGRAM is not for sessions with masked columns", None);
        } else if is_file {
            self.found.verb(verbs::COPY_FILE);
            self.refuse_when_masked("COPY of files is not for sessions with masked columns", None);
        }
        if let Some(query) = &copy.query {
            self.found.verb(verbs::COPY_OUT);
            self.query(query);
        }
        if let Some(named) = &copy.relation {
            let access = if copy.is_from {
                self.found.verb(verbs::COPY_IN);
                Access::Write
            } else {
                self.found.verb(verbs::COPY_OUT);
                Access::Read
            };
            if let Some(relation) = self.relation(named) {
                self.touch(relation, access, offset(named.location));
            }
        }
        self.levels.push(Level::default());
        self.optional(copy.where_clause.as_deref());
        self.levels.pop();
        if self.classified_at.is_some() {
            self.found.obstacle(
                "COPY may not read or write a relation with masked columns; use SELECT",
                self.classified_at.flatten(),
            );
        }
        match (copy.is_program || is_file, copy.is_from) {
            (true, _) => StatementKind::NoRows,
            (false, true) => StatementKind::CopyIn,
            (false, false) => StatementKind::CopyOut,
        }
    }
}

fn has_star(node: &Node) -> bool {
    match &node.node {
        Some(NodeEnum::ColumnRef(column)) => {
            column.fields.iter().any(|field| matches!(field.node, Some(NodeEnum::AStar(_))))
        }
        Some(NodeEnum::AIndirection(found)) => {
            found.indirection.iter().any(|part| matches!(part.node, Some(NodeEnum::AStar(_))))
        }
        _ => false,
    }
}

fn last_field(node: Option<&Node>) -> Option<String> {
    match &node?.node {
        Some(NodeEnum::ColumnRef(column)) => {
            super::walker::strings(&column.fields).last().map(|name| (*name).to_owned())
        }
        _ => None,
    }
}
