//! SELECT: FROM, WITH, the SELECT list, and the rule that masked columns are projected and
//! nothing else.

use std::collections::HashMap;

use corral_model::{ObjectRef, ObjectRole};
use pg_query::NodeEnum;
use pg_query::protobuf::{
    AExprKind, ColumnRef, CommonTableExpr, Node, RangeVar, ResTarget, SelectStmt, SetOperation,
    WithClause,
};

use super::expression::literal;
use super::shape::{Entry, Level, OutColumn, Shape, beside};
use super::verbs;
use super::walker::{Walker, find_relation, is_before_servers, offset, strings};

impl Walker<'_> {
    /// A query of any kind: SELECT, VALUES, or a statement with RETURNING.
    pub(super) fn query(&mut self, node: &Node) -> Shape {
        self.deeper(|walker| match &node.node {
            Some(NodeEnum::SelectStmt(select)) => walker.select(select),
            Some(NodeEnum::InsertStmt(insert)) => walker.insert(insert),
            Some(NodeEnum::UpdateStmt(update)) => walker.update(update),
            Some(NodeEnum::DeleteStmt(delete)) => walker.delete(delete),
            Some(NodeEnum::MergeStmt(merge)) => walker.merge(merge),
            _ => {
                walker.unknown("a query is of a kind that is not on the list", None);
                Shape::open()
            }
        })
    }

    pub(super) fn select(&mut self, select: &SelectStmt) -> Shape {
        self.found.verb(verbs::SELECT);
        if let Some(into) = &select.into_clause {
            self.found.verb(verbs::CREATE_TABLE);
            self.found.change.add(self.change_by_into(into.rel.as_ref()));
            self.note_created(into.rel.as_ref(), "table");
            self.use_event_triggers();
        }
        self.tables.push(HashMap::new());
        self.with(select.with_clause.as_ref());
        let is_leaf = matches!(
            SetOperation::try_from(select.op),
            Ok(SetOperation::SetopNone | SetOperation::Undefined)
        );
        let shape = if is_leaf { self.plain_select(select) } else { self.set_operation(select) };
        self.tables.pop();
        if select.into_clause.is_some() {
            self.refuse_classified("SELECT INTO");
        }
        if shape.has_mask() && !shape.is_exact {
            self.found.obstacle(
                "masked columns stand beside columns that cannot be counted; name the columns \
                 that are wanted",
                None,
            );
        }
        shape
    }

    fn set_operation(&mut self, select: &SelectStmt) -> Shape {
        let mut sides = [&select.larg, &select.rarg].map(|side| match side {
            Some(side) => self.deeper(|walker| walker.select(side)),
            None => Shape::open(),
        });
        if sides.iter().any(Shape::has_mask) {
            self.found.obstacle(
                "a masked column may not go through UNION, INTERSECT or EXCEPT; select it alone",
                None,
            );
        }
        if !select.all {
            self.use_operator(&["="], None);
        }
        // ORDER BY of a set operation sees its output only.
        self.levels.push(Level::default());
        let [left, _] = &mut sides;
        let left = std::mem::take(left);
        self.sort(&select.sort_clause, &left);
        self.limits(select);
        self.levels.pop();
        if !select.locking_clause.is_empty() {
            self.found.verb(verbs::SELECT_FOR_UPDATE);
        }
        left
    }

    fn plain_select(&mut self, select: &SelectStmt) -> Shape {
        // What WHERE lets through does not hold in WHERE itself, nor in another query's list.
        let outer = self.pinned_setting.take();
        self.levels.push(Level::default());
        self.from(select);
        self.pinned_setting = self.pinned_setting_of(select);
        let shape = if select.values_lists.is_empty() {
            self.targets(&select.target_list)
        } else {
            self.values(&select.values_lists)
        };
        self.pinned_setting = None;
        self.optional(select.where_clause.as_deref());
        self.sort(&select.group_clause, &shape);
        self.optional(select.having_clause.as_deref());
        self.expressions(&select.window_clause);
        self.sort(&select.sort_clause, &shape);
        self.limits(select);
        if !select.distinct_clause.is_empty() {
            self.use_operator(&["="], None);
            // Plain DISTINCT is a list with one empty node.
            let on: Vec<Node> =
                select.distinct_clause.iter().filter(|node| node.node.is_some()).cloned().collect();
            self.sort(&on, &shape);
            if shape.has_mask() {
                self.found.obstacle("DISTINCT may not look at a masked column", None);
            }
        }
        self.locks(select);
        self.levels.pop();
        self.pinned_setting = outer;
        shape
    }

    /// What `name` is in the list of a query over `pg_settings`, where its WHERE says so: pg_dump
    /// changes a setting only where it exists. The view must be the server's, and the `=`.
    fn pinned_setting_of(&mut self, select: &SelectStmt) -> Option<String> {
        let (named, value) = pins_setting(select)?;
        let is_of_query = named.schemaname.is_empty()
            && self.tables.iter().any(|scope| scope.contains_key(&named.relname));
        let names = self.names()?;
        let relation = find_relation(names, named)?;
        let is_servers = relation.is_system && !is_of_query;
        (is_servers && !is_before_servers(names, "=")).then(|| value.to_owned())
    }

    fn limits(&mut self, select: &SelectStmt) {
        self.optional(select.limit_offset.as_deref());
        self.optional(select.limit_count.as_deref());
    }

    /// FROM; with FOR UPDATE and the like, what is read there is written to as well.
    fn from(&mut self, select: &SelectStmt) {
        let before = std::mem::take(&mut self.found.objects);
        for item in &select.from_clause {
            let shape = self.range_item(item);
            if let Some(level) = self.levels.last_mut() {
                level.star = beside(std::mem::take(&mut level.star), shape);
            }
        }
        if !select.locking_clause.is_empty() {
            let of = locked_alone(select);
            let is_locked = |object: &&ObjectRef| {
                let is_named = |named: &&RangeVar| named.relname == object.name;
                object.role == ObjectRole::Read
                    && of.as_ref().is_none_or(|of| of.iter().any(is_named))
            };
            let locked = self.found.objects.iter().filter(is_locked);
            let locked: Vec<ObjectRef> = locked
                .map(|object| ObjectRef { role: ObjectRole::Write, ..object.clone() })
                .collect();
            self.found.objects.extend(locked);
        }
        self.found.objects.extend(before);
    }

    fn locks(&mut self, select: &SelectStmt) {
        if select.locking_clause.is_empty() {
            return;
        }
        self.found.verb(verbs::SELECT_FOR_UPDATE);
        if self.classified_at.is_some() {
            self.found
                .obstacle("FOR UPDATE and FOR SHARE may not lock rows with masked columns", None);
        }
    }

    fn values(&mut self, lists: &[Node]) -> Shape {
        let mut width = 0;
        for list in lists {
            if let Some(NodeEnum::List(list)) = &list.node {
                width = list.items.len();
                self.expressions(&list.items);
            } else {
                self.unknown("a VALUES list is not understood", None);
            }
        }
        let column = |index: usize| OutColumn::named(&format!("column{}", index + 1));
        Shape::exact((0..width).map(column).collect())
    }

    // WITH

    pub(super) fn with(&mut self, clause: Option<&WithClause>) {
        let Some(clause) = clause else { return };
        let tables: Vec<&CommonTableExpr> = clause
            .ctes
            .iter()
            .filter_map(|node| match &node.node {
                Some(NodeEnum::CommonTableExpr(table)) => Some(table.as_ref()),
                _ => None,
            })
            .collect();
        if tables.len() != clause.ctes.len() {
            self.unknown("a WITH clause is not understood", offset(clause.location));
        }
        if clause.recursive {
            // Every name is in scope in every query of the clause; nothing masked goes in.
            for table in &tables {
                self.define_table(&table.ctename, Shape::open());
            }
        }
        for table in tables {
            let mut shape = match &table.ctequery {
                Some(query) => self.query(query),
                None => Shape::open(),
            };
            shape.rename(&strings(&table.aliascolnames));
            if let Some(cycle) = &table.cycle_clause {
                self.optional(cycle.cycle_mark_value.as_deref());
                self.optional(cycle.cycle_mark_default.as_deref());
                shape.is_exact = false;
            }
            if table.search_clause.is_some() {
                shape.is_exact = false;
            }
            let is_refused = clause.recursive || !shape.is_exact;
            if shape.has_mask() && is_refused {
                self.found.obstacle(
                    "a masked column may not go through WITH RECURSIVE",
                    offset(table.location),
                );
            }
            self.define_table(&table.ctename, shape);
        }
    }

    fn define_table(&mut self, name: &str, shape: Shape) {
        if let Some(scope) = self.tables.last_mut() {
            scope.insert(name.to_owned(), shape);
        }
    }

    // The SELECT list

    fn targets(&mut self, nodes: &[Node]) -> Shape {
        let mut shape = Shape::exact(Vec::new());
        for node in nodes {
            match &node.node {
                Some(NodeEnum::ResTarget(target)) => {
                    let columns = self.target(target);
                    shape = beside(shape, columns);
                }
                _ => {
                    self.unknown("a SELECT list has an item that is not on the list", None);
                    shape.is_exact = false;
                }
            }
        }
        shape
    }

    fn target(&mut self, target: &ResTarget) -> Shape {
        let alias = (!target.name.is_empty()).then(|| target.name.clone());
        let Some(value) = &target.val else {
            return Shape::open();
        };
        if let Some(NodeEnum::ColumnRef(column)) = &value.node {
            let fields = strings(&column.fields);
            let has_star =
                column.fields.iter().any(|node| matches!(node.node, Some(NodeEnum::AStar(_))));
            if has_star {
                return self.star(column, &fields);
            }
            let mask = self.projected(column, &fields);
            let name = alias.or_else(|| fields.last().map(|name| (*name).to_owned()));
            return Shape::exact(vec![OutColumn { name, mask }]);
        }
        self.expression(value);
        let has_star = matches!(&value.node, Some(NodeEnum::AIndirection(found))
            if found.indirection.iter().any(|node| matches!(node.node, Some(NodeEnum::AStar(_)))));
        if has_star {
            return Shape::open();
        }
        Shape::exact(vec![OutColumn { name: alias, mask: None }])
    }

    fn star(&mut self, column: &ColumnRef, fields: &[&str]) -> Shape {
        let position = offset(column.location);
        let Some(level) = self.levels.last() else {
            return Shape::open();
        };
        let Some(alias) = fields.last() else {
            return level.star.clone();
        };
        let schema = fields.len().checked_sub(2).and_then(|index| fields.get(index)).copied();
        let is_meant = |entry: &&Entry| {
            entry.alias == *alias && schema.is_none_or(|s| entry.schema.as_deref() == Some(s))
        };
        let mut here = level.entries.iter().filter(is_meant);
        let found = match (here.next(), here.next()) {
            (Some(entry), None) => Some(entry.shape.clone()),
            _ => None,
        };
        let is_masked_elsewhere = self
            .levels
            .iter()
            .rev()
            .skip(usize::from(found.is_some()))
            .flat_map(|level| &level.entries)
            .any(|entry| entry.alias == *alias && entry.shape.has_mask());
        if is_masked_elsewhere {
            self.found.obstacle(
                format!("\"{alias}.*\" may mean a relation with masked columns; use another alias"),
                position,
            );
        }
        found.unwrap_or_default()
    }

    /// A column that is projected as it is: its mask, if it has one.
    fn projected(
        &mut self,
        column: &ColumnRef,
        fields: &[&str],
    ) -> Option<corral_model::resource::ColumnName> {
        let position = offset(column.location);
        let Some(level) = self.levels.last() else {
            self.column(column);
            return None;
        };
        let (schema, alias, name) = match fields {
            [name] => (None, None, *name),
            [alias, name] => (None, Some(*alias), *name),
            [.., schema, alias, name] => (Some(*schema), Some(*alias), *name),
            [] => return None,
        };
        let matches = |entry: &Entry| {
            alias.is_none_or(|alias| entry.alias == alias)
                && schema.is_none_or(|schema| entry.schema.as_deref() == Some(schema))
        };
        let found: Vec<OutColumn> = level
            .entries
            .iter()
            .filter(|entry| matches(entry))
            .flat_map(|entry| entry.shape.columns.iter().filter(|column| column.is_named(name)))
            .cloned()
            .collect();
        match found.as_slice() {
            [one] if one.mask.is_some() => one.mask.clone(),
            // A lateral query may project a masked column of the query around it.
            [] => {
                let outer = self.outer_mask(alias, name);
                if outer.is_none() {
                    self.column(column);
                }
                outer
            }
            _ => {
                if found.iter().any(|column| column.mask.is_some()) {
                    self.found.obstacle(
                        format!("\"{name}\" is ambiguous and may be masked; say which one"),
                        position,
                    );
                } else {
                    self.column(column);
                }
                None
            }
        }
    }

    /// The mask of a name that only an outer query has, when exactly one column has it.
    fn outer_mask(
        &self,
        alias: Option<&str>,
        name: &str,
    ) -> Option<corral_model::resource::ColumnName> {
        let mut found = self
            .levels
            .iter()
            .rev()
            .skip(1)
            .flat_map(|level| &level.entries)
            .filter(|entry| alias.is_none_or(|alias| entry.alias == alias))
            .flat_map(|entry| entry.shape.columns.iter().filter(|column| column.is_named(name)));
        match (found.next(), found.next()) {
            (Some(one), None) => one.mask.clone(),
            _ => None,
        }
    }

    // GROUP BY, ORDER BY, DISTINCT ON

    /// Items that may be an output's number or name, or an expression over the input.
    pub(super) fn sort(&mut self, nodes: &[Node], output: &Shape) {
        for node in nodes {
            let item = match &node.node {
                Some(NodeEnum::SortBy(sort)) => {
                    if !sort.use_op.is_empty() {
                        self.use_operator(&strings(&sort.use_op), offset(sort.location));
                    }
                    match &sort.node {
                        Some(node) => node.as_ref(),
                        None => continue,
                    }
                }
                Some(NodeEnum::GroupingSet(set)) => {
                    self.deeper(|walker| walker.sort(&set.content, output));
                    continue;
                }
                Some(NodeEnum::RowExpr(row)) => {
                    self.deeper(|walker| walker.sort(&row.args, output));
                    continue;
                }
                Some(NodeEnum::List(list)) => {
                    self.deeper(|walker| walker.sort(&list.items, output));
                    continue;
                }
                _ => node,
            };
            self.sort_item(item, output);
        }
    }

    fn sort_item(&mut self, item: &Node, output: &Shape) {
        let refused = "ORDER BY, GROUP BY and DISTINCT ON may not look at a masked column";
        match &item.node {
            Some(NodeEnum::AConst(constant)) => {
                use pg_query::protobuf::a_const::Val;
                if let Some(Val::Ival(number)) = &constant.val {
                    let index = usize::try_from(number.ival).ok().and_then(|n| n.checked_sub(1));
                    let column = index.and_then(|index| output.columns.get(index));
                    if column.is_some_and(|column| column.mask.is_some()) {
                        self.found.obstacle(refused, offset(constant.location));
                    }
                }
            }
            Some(NodeEnum::ColumnRef(column)) => {
                let fields = strings(&column.fields);
                if let [name] = fields.as_slice() {
                    let is_masked =
                        |column: &OutColumn| column.is_named(name) && column.mask.is_some();
                    if output.columns.iter().any(is_masked) {
                        self.found.obstacle(refused, offset(column.location));
                    }
                }
                self.column(column);
            }
            _ => self.expression(item),
        }
    }
}

/// The relations that `FOR UPDATE OF …` names. None: whatever FROM reads may be locked.
fn locked_alone(select: &SelectStmt) -> Option<Vec<&RangeVar>> {
    let mut relations = Vec::new();
    let mut items: Vec<&Node> = select.from_clause.iter().collect();
    while let Some(item) = items.pop() {
        match &item.node {
            Some(NodeEnum::RangeVar(named)) => relations.push(named),
            Some(NodeEnum::JoinExpr(join)) if join.alias.is_none() => {
                items.extend([&join.larg, &join.rarg].into_iter().flatten().map(Box::as_ref));
            }
            _ => {}
        }
    }
    let mut locked = Vec::new();
    for clause in &select.locking_clause {
        let Some(NodeEnum::LockingClause(clause)) = &clause.node else { return None };
        if clause.locked_rels.is_empty() {
            return None;
        }
        for named in &clause.locked_rels {
            let Some(NodeEnum::RangeVar(named)) = &named.node else { return None };
            let is_meant = |relation: &&&RangeVar| {
                let shown = relation.alias.as_ref().map_or(&relation.relname, |a| &a.aliasname);
                *shown == named.relname
            };
            locked.push(*relations.iter().find(is_meant)?);
        }
    }
    Some(locked)
}

/// `FROM pg_settings WHERE name = 'literal'`: the relation and the literal.
fn pins_setting(select: &SelectStmt) -> Option<(&RangeVar, &str)> {
    let [from] = select.from_clause.as_slice() else { return None };
    let Some(NodeEnum::RangeVar(named)) = &from.node else { return None };
    let Some(NodeEnum::AExpr(equality)) = &select.where_clause.as_ref()?.node else { return None };
    let is_equality =
        equality.kind == AExprKind::AexprOp as i32 && strings(&equality.name) == ["="];
    let is_name = equality.lexpr.as_deref().is_some_and(is_setting_name);
    let value = equality.rexpr.as_deref().and_then(literal)?;
    (named.relname == "pg_settings" && named.alias.is_none() && is_equality && is_name)
        .then_some((named, value))
}

/// The bare column `name`.
pub(super) fn is_setting_name(node: &Node) -> bool {
    match &node.node {
        Some(NodeEnum::ColumnRef(column)) => strings(&column.fields) == ["name"],
        _ => false,
    }
}
