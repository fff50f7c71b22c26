//! FROM: what its items offer to names and to `*`, in the order in which the server lists them.

use pg_query::NodeEnum;
use pg_query::protobuf::{
    Alias, JoinExpr, JoinType, Node, RangeFunction, RangeSubselect, RangeTableFunc,
    RangeTableSample, RangeVar,
};

use super::mask::RelationMask;
use super::shape::{Entry, OutColumn, Shape, beside, merged};
use super::walker::{Access, Walker, offset, strings};

impl Walker<'_> {
    /// One item of FROM: its columns for `*`, and its names into the current level.
    pub(super) fn range_item(&mut self, node: &Node) -> Shape {
        self.deeper(|walker| match &node.node {
            Some(NodeEnum::RangeVar(named)) => walker.range_relation(named),
            Some(NodeEnum::RangeSubselect(query)) => walker.range_query(query),
            Some(NodeEnum::JoinExpr(join)) => walker.range_join(join),
            Some(NodeEnum::RangeFunction(function)) => walker.range_function(function),
            Some(NodeEnum::RangeTableSample(sample)) => walker.range_sample(sample),
            Some(NodeEnum::RangeTableFunc(table)) => walker.range_xml(table),
            Some(NodeEnum::JsonTable(table)) => {
                walker.json_table(table);
                walker.enter(table.alias.as_ref(), "json_table", None, Shape::open(), false)
            }
            _ => {
                walker.unknown("FROM has an item that is not on the list", None);
                Shape::open()
            }
        })
    }

    fn range_relation(&mut self, named: &RangeVar) -> Shape {
        if named.schemaname.is_empty() && named.catalogname.is_empty() {
            let table = self.tables.iter().rev().find_map(|scope| scope.get(&named.relname));
            if let Some(shape) = table.cloned() {
                return self.enter(named.alias.as_ref(), &named.relname, None, shape, false);
            }
        }
        let (shape, schema) = self.read_relation(named);
        self.enter(named.alias.as_ref(), &named.relname, schema.as_deref(), shape, true)
    }

    /// The columns of a relation that the statement reads, and its schema.
    pub(super) fn read_relation(&mut self, named: &RangeVar) -> (Shape, Option<String>) {
        let position = offset(named.location);
        let Some(relation) = self.relation(named) else {
            return (Shape::open(), None);
        };
        self.touch(relation, Access::Read, position);
        let masked = match self.mask_of(relation) {
            RelationMask::Columns(masked) => masked,
            RelationMask::Clear | RelationMask::Closed(_) => Vec::new(),
        };
        let column = |name: &String| OutColumn {
            name: Some(name.clone()),
            mask: masked.iter().find(|(known, _)| known == name).map(|(_, full)| full.clone()),
        };
        let columns = relation.columns.iter().map(|found| column(&found.name)).collect();
        (Shape::exact(columns), Some(relation.schema.clone()))
    }

    /// Puts a range entry into the current level.
    pub(super) fn enter(
        &mut self,
        alias: Option<&Alias>,
        name: &str,
        schema: Option<&str>,
        mut shape: Shape,
        is_relation: bool,
    ) -> Shape {
        let shown = alias.map_or(name, |alias| alias.aliasname.as_str());
        if let Some(alias) = alias {
            shape.rename(&strings(&alias.colnames));
        }
        let entry = Entry {
            alias: shown.to_owned(),
            schema: if alias.is_none() { schema.map(str::to_owned) } else { None },
            shape: shape.clone(),
            is_relation,
        };
        if let Some(level) = self.levels.last_mut() {
            level.entries.push(entry);
        }
        shape
    }

    fn range_query(&mut self, item: &RangeSubselect) -> Shape {
        let shape = match &item.subquery {
            Some(query) => self.query(query),
            None => Shape::open(),
        };
        self.enter(item.alias.as_ref(), "", None, shape, false)
    }

    fn range_join(&mut self, join: &JoinExpr) -> Shape {
        let first = self.levels.last().map_or(0, |level| level.entries.len());
        let mut side = |side: &Option<Box<Node>>| match side {
            Some(node) => self.range_item(node),
            None => Shape::open(),
        };
        let (left, right) = (side(&join.larg), side(&join.rarg));
        let has_mask = left.has_mask() || right.has_mask();
        let names: Vec<String> = if join.is_natural {
            self.use_operator(&["="], None);
            let is_certain = left.is_exact
                && right.is_exact
                && left.columns.iter().chain(&right.columns).all(|column| column.name.is_some());
            if has_mask && !is_certain {
                self.found.obstacle("NATURAL JOIN may compare a masked column; write ON", None);
            }
            let is_right = |name: &str| right.columns.iter().any(|column| column.is_named(name));
            left.columns
                .iter()
                .filter_map(|column| column.name.clone())
                .filter(|n| is_right(n))
                .collect()
        } else {
            strings(&join.using_clause).into_iter().map(str::to_owned).collect()
        };
        if !names.is_empty() {
            self.use_operator(&["="], None);
        }
        let compares_mask =
            left.columns.iter().chain(&right.columns).any(|column| {
                column.mask.is_some() && names.iter().any(|name| column.is_named(name))
            });
        if compares_mask {
            self.found.obstacle("a join may not compare a masked column", None);
        }
        self.optional(join.quals.as_deref());
        let mut shape =
            if names.is_empty() { beside(left, right) } else { merged(left, right, &names) };
        if has_mask && join.join_using_alias.is_some() {
            self.found.obstacle("JOIN … USING … AS is not analysed beside masked columns", None);
        }
        if !is_known_join(join) {
            self.unknown("a join is of a kind that is not on the list", None);
        }
        if let Some(alias) = &join.alias {
            if !alias.colnames.is_empty() && shape.has_mask() && !shape.is_exact {
                self.found.obstacle(
                    "a join of masked columns beside columns that cannot be counted may not \
                     rename its columns",
                    None,
                );
            }
            // An alias hides the names inside.
            shape.rename(&strings(&alias.colnames));
            if let Some(level) = self.levels.last_mut() {
                level.entries.truncate(first);
            }
            let renamed = shape.clone();
            return self.enter(Some(alias), "", None, renamed, false);
        }
        shape
    }

    fn range_function(&mut self, item: &RangeFunction) -> Shape {
        let mut shape = Shape::open();
        for function in &item.functions {
            // Each is a pair of a call and a list of column definitions.
            match &function.node {
                Some(NodeEnum::List(pair)) => {
                    for part in &pair.items {
                        match &part.node {
                            Some(NodeEnum::List(definitions)) => {
                                self.column_definitions(&definitions.items);
                            }
                            Some(_) => self.expression(part),
                            None => {}
                        }
                    }
                }
                _ => self.unknown("a function in FROM is not understood", None),
            }
        }
        let defined = self.column_definitions(&item.coldeflist);
        if !defined.is_empty() && !item.is_rowsfrom {
            let mut columns: Vec<OutColumn> =
                defined.iter().map(|name| OutColumn::named(name)).collect();
            if item.ordinality {
                columns.push(OutColumn::named("ordinality"));
            }
            shape = Shape::exact(columns);
        }
        let name = first_function_name(item);
        self.enter(item.alias.as_ref(), &name, None, shape, false)
    }

    /// `AS (a int, b text)`: the names; the types count as used.
    fn column_definitions(&mut self, nodes: &[Node]) -> Vec<String> {
        let mut names = Vec::new();
        for node in nodes {
            match &node.node {
                Some(NodeEnum::ColumnDef(column)) => {
                    if let Some(named) = &column.type_name {
                        self.use_type(named);
                    }
                    names.push(column.colname.clone());
                }
                Some(_) => self.unknown("a column definition is not understood", None),
                None => {}
            }
        }
        names
    }

    fn range_sample(&mut self, sample: &RangeTableSample) -> Shape {
        let shape = match &sample.relation {
            Some(relation) => self.range_item(relation),
            None => Shape::open(),
        };
        if shape.has_mask() {
            self.found.obstacle(
                "TABLESAMPLE may not read a relation with masked columns",
                offset(sample.location),
            );
        }
        self.call(&strings(&sample.method), offset(sample.location));
        self.expressions(&sample.args);
        self.optional(sample.repeatable.as_deref());
        shape
    }

    fn range_xml(&mut self, table: &RangeTableFunc) -> Shape {
        self.optional(table.docexpr.as_deref());
        self.optional(table.rowexpr.as_deref());
        for node in &table.namespaces {
            match &node.node {
                Some(NodeEnum::ResTarget(target)) => self.optional(target.val.as_deref()),
                _ => self.unknown("XMLTABLE has a namespace that is not understood", None),
            }
        }
        for node in &table.columns {
            match &node.node {
                Some(NodeEnum::RangeTableFuncCol(column)) => {
                    if let Some(named) = &column.type_name {
                        self.use_type(named);
                    }
                    self.optional(column.colexpr.as_deref());
                    self.optional(column.coldefexpr.as_deref());
                }
                _ => self.unknown("XMLTABLE has a column that is not understood", None),
            }
        }
        self.enter(table.alias.as_ref(), "xmltable", None, Shape::open(), false)
    }
}

fn is_known_join(join: &JoinExpr) -> bool {
    matches!(
        JoinType::try_from(join.jointype),
        Ok(JoinType::JoinInner | JoinType::JoinLeft | JoinType::JoinRight | JoinType::JoinFull)
    )
}

fn first_function_name(item: &RangeFunction) -> String {
    let first = item.functions.first().and_then(|node| match &node.node {
        Some(NodeEnum::List(pair)) => pair.items.first(),
        _ => None,
    });
    match first.map(|node| &node.node) {
        Some(Some(NodeEnum::FuncCall(call))) => {
            strings(&call.funcname).last().map_or_else(String::new, |name| (*name).to_owned())
        }
        _ => String::new(),
    }
}
