//! Expressions: what they call, and that no masked column is in them. Kinds of nodes that are not
//! listed are unknown.

use corral_model::Effect;
use pg_query::NodeEnum;
use pg_query::protobuf::{
    AExpr, AExprKind, AIndirection, ColumnRef, FuncCall, JsonAggConstructor, JsonBehavior,
    JsonFuncExpr, JsonOutput, JsonTable, JsonValueExpr, Node, SubLink, WindowDef,
};

use super::builtins;
use super::query::is_setting_name;
use super::settings::{self, SettingClass};
use super::shape::{Level, Shape};
use super::verbs;
use super::walker::{Walker, offset, split_name, strings, user_functions};

/// System columns of a relation; they hold no value of a user column.
const SYSTEM_COLUMNS: &[&str] = &["cmax", "cmin", "ctid", "tableoid", "xmax", "xmin"];

impl Walker<'_> {
    pub(super) fn optional(&mut self, node: Option<&Node>) {
        if let Some(node) = node {
            self.expression(node);
        }
    }

    pub(super) fn expressions(&mut self, nodes: &[Node]) {
        for node in nodes {
            self.expression(node);
        }
    }

    pub(super) fn expression(&mut self, node: &Node) {
        self.deeper(|walker| walker.expression_here(node));
    }

    fn expression_here(&mut self, node: &Node) {
        let Some(node) = &node.node else { return };
        match node {
            NodeEnum::AConst(found) => self.note_literal(found),
            NodeEnum::ParamRef(_)
            | NodeEnum::SqlvalueFunction(_)
            | NodeEnum::SetToDefault(_)
            | NodeEnum::AStar(_)
            | NodeEnum::MergeSupportFunc(_)
            | NodeEnum::String(_)
            | NodeEnum::Integer(_)
            | NodeEnum::Float(_)
            | NodeEnum::Boolean(_)
            | NodeEnum::BitString(_) => {}
            NodeEnum::ColumnRef(column) => self.column(column),
            NodeEnum::AExpr(found) => self.operation(found),
            NodeEnum::BoolExpr(found) => self.expressions(&found.args),
            NodeEnum::TypeCast(found) => {
                self.optional(found.arg.as_deref());
                if let Some(named) = &found.type_name {
                    self.use_type(named);
                }
            }
            NodeEnum::CollateClause(found) => self.optional(found.arg.as_deref()),
            NodeEnum::FuncCall(found) => self.function_call(found),
            NodeEnum::AIndirection(found) => self.indirection(found),
            NodeEnum::AIndices(found) => {
                self.optional(found.lidx.as_deref());
                self.optional(found.uidx.as_deref());
            }
            NodeEnum::AArrayExpr(found) => self.expressions(&found.elements),
            NodeEnum::SubLink(found) => self.sub_link(found),
            NodeEnum::CaseExpr(found) => {
                if found.arg.is_some() {
                    self.use_operator(&["="], offset(found.location));
                }
                self.optional(found.arg.as_deref());
                self.expressions(&found.args);
                self.optional(found.defresult.as_deref());
            }
            NodeEnum::CaseWhen(found) => {
                self.optional(found.expr.as_deref());
                self.optional(found.result.as_deref());
            }
            NodeEnum::CoalesceExpr(found) => self.expressions(&found.args),
            NodeEnum::MinMaxExpr(found) => {
                self.use_operator(&["<"], offset(found.location));
                self.expressions(&found.args);
            }
            NodeEnum::RowExpr(found) => self.expressions(&found.args),
            NodeEnum::NullTest(found) => self.optional(found.arg.as_deref()),
            NodeEnum::BooleanTest(found) => self.optional(found.arg.as_deref()),
            NodeEnum::NamedArgExpr(found) => self.optional(found.arg.as_deref()),
            NodeEnum::GroupingFunc(found) => self.expressions(&found.args),
            NodeEnum::GroupingSet(found) => self.expressions(&found.content),
            NodeEnum::List(found) => self.expressions(&found.items),
            NodeEnum::SortBy(found) => {
                self.use_operator(&strings(&found.use_op), offset(found.location));
                self.optional(found.node.as_deref());
            }
            NodeEnum::WindowDef(found) => self.window(found),
            NodeEnum::ResTarget(found) => {
                self.expressions(&found.indirection);
                self.optional(found.val.as_deref());
            }
            NodeEnum::MultiAssignRef(found) => self.optional(found.source.as_deref()),
            NodeEnum::CurrentOfExpr(_) => self.refuse_when_masked(
                "WHERE CURRENT OF is not analysed in a session with masked columns",
                None,
            ),
            NodeEnum::XmlExpr(found) => {
                self.expressions(&found.named_args);
                self.expressions(&found.args);
            }
            NodeEnum::XmlSerialize(found) => {
                self.optional(found.expr.as_deref());
                if let Some(named) = &found.type_name {
                    self.use_type(named);
                }
            }
            NodeEnum::JsonIsPredicate(found) => self.optional(found.expr.as_deref()),
            NodeEnum::JsonValueExpr(found) => self.json_value(Some(found)),
            NodeEnum::JsonFuncExpr(found) => self.json_function(found),
            NodeEnum::JsonArgument(found) => self.json_value(found.val.as_deref()),
            NodeEnum::JsonKeyValue(found) => {
                self.optional(found.key.as_deref());
                self.json_value(found.value.as_deref());
            }
            NodeEnum::JsonParseExpr(found) => {
                self.json_value(found.expr.as_deref());
                self.json_output(found.output.as_ref());
            }
            NodeEnum::JsonScalarExpr(found) => {
                self.optional(found.expr.as_deref());
                self.json_output(found.output.as_ref());
            }
            NodeEnum::JsonSerializeExpr(found) => {
                self.json_value(found.expr.as_deref());
                self.json_output(found.output.as_ref());
            }
            NodeEnum::JsonObjectConstructor(found) => {
                self.expressions(&found.exprs);
                self.json_output(found.output.as_ref());
            }
            NodeEnum::JsonArrayConstructor(found) => {
                self.expressions(&found.exprs);
                self.json_output(found.output.as_ref());
            }
            NodeEnum::JsonArrayQueryConstructor(found) => {
                if let Some(query) = &found.query {
                    self.inner_query(query, offset(found.location));
                }
                self.json_output(found.output.as_ref());
            }
            NodeEnum::JsonObjectAgg(found) => {
                if let Some(pair) = &found.arg {
                    self.optional(pair.key.as_deref());
                    self.json_value(pair.value.as_deref());
                }
                self.json_aggregate(found.constructor.as_deref());
            }
            NodeEnum::JsonArrayAgg(found) => {
                self.json_value(found.arg.as_deref());
                self.json_aggregate(found.constructor.as_deref());
            }
            _ => self.unknown("an expression is of a kind that is not on the list", None),
        }
    }

    /// A name in an expression: not a projection, so it must not be masked.
    pub(super) fn column(&mut self, column: &ColumnRef) {
        let position = offset(column.location);
        let fields = strings(&column.fields);
        let has_star =
            column.fields.iter().any(|node| matches!(node.node, Some(NodeEnum::AStar(_))));
        if has_star {
            let alias = fields.last().copied();
            let is_masked = self.levels.iter().flat_map(|level| &level.entries).any(|entry| {
                alias.is_none_or(|alias| entry.alias == alias) && entry.shape.has_mask()
            });
            if is_masked {
                self.refuse_whole_row(alias.unwrap_or("*"), position);
            }
            return;
        }
        match fields.as_slice() {
            [name] => self.bare_name(name, position),
            [alias, name] => self.dotted_name(None, alias, name, position),
            [.., schema, alias, name] => self.dotted_name(Some(schema), alias, name, position),
            [] => self.unknown("a column has no name", position),
        }
    }

    fn bare_name(&mut self, name: &str, position: Option<usize>) {
        let entries = || self.levels.iter().flat_map(|level: &Level| &level.entries);
        let is_masked = entries()
            .flat_map(|entry| &entry.shape.columns)
            .any(|column| column.is_named(name) && column.mask.is_some());
        let is_masked_row = entries().any(|entry| entry.alias == name && entry.shape.has_mask());
        if is_masked {
            self.refuse_use(name, position);
        } else if is_masked_row {
            self.refuse_whole_row(name, position);
        }
    }

    fn dotted_name(
        &mut self,
        schema: Option<&str>,
        alias: &str,
        name: &str,
        position: Option<usize>,
    ) {
        let mut is_masked = false;
        let mut is_masked_row = false;
        // Of what the name before the dot may mean: whether each has such a column.
        let mut is_column = true;
        let mut is_found = false;
        for entry in self.levels.iter().flat_map(|level| &level.entries) {
            if entry.alias != alias {
                continue;
            }
            let is_meant = schema.is_none() || entry.schema.as_deref() == schema;
            is_found |= is_meant;
            let mut columns = entry.shape.columns.iter().filter(|column| column.is_named(name));
            match columns.next() {
                Some(column) => is_masked |= column.mask.is_some(),
                None if entry.is_relation && SYSTEM_COLUMNS.contains(&name) => {}
                // `row.name` calls name(row) where the row has no such column.
                None => {
                    is_column &= !is_meant;
                    is_masked_row |= entry.shape.has_mask();
                }
            }
        }
        if is_masked {
            self.refuse_use(name, position);
        } else if is_masked_row {
            self.refuse_whole_row(alias, position);
        }
        if (!is_found || !is_column) && !self.levels.is_empty() {
            self.maybe_call_attribute(name, position);
        }
    }

    /// `row.name` where `name` is no column that is known: a function may be meant.
    fn maybe_call_attribute(&mut self, name: &str, position: Option<usize>) {
        let Some(names) = self.names() else { return };
        let is_user_made = !user_functions(names, None, name).is_empty();
        let is_plain = matches!(builtins::effect_of(name), None | Some(Effect::Read));
        if is_user_made || !is_plain {
            self.maybe_call(name, position);
        }
    }

    fn refuse_use(&mut self, name: &str, position: Option<usize>) {
        self.found.obstacle(
            format!(
                "\"{name}\" is masked: it may stand alone in a SELECT list and nowhere else; \
                 select it as it is, or leave it out"
            ),
            position,
        );
    }

    fn refuse_whole_row(&mut self, alias: &str, position: Option<usize>) {
        self.found.obstacle(
            format!("the whole row \"{alias}\" holds masked columns; name the columns"),
            position,
        );
    }

    fn operation(&mut self, found: &AExpr) {
        let position = offset(found.location);
        match AExprKind::try_from(found.kind) {
            Ok(
                AExprKind::AexprOp
                | AExprKind::AexprOpAny
                | AExprKind::AexprOpAll
                | AExprKind::AexprDistinct
                | AExprKind::AexprNotDistinct
                | AExprKind::AexprNullif
                | AExprKind::AexprIn
                | AExprKind::AexprLike
                | AExprKind::AexprIlike
                | AExprKind::AexprSimilar,
            ) => self.use_operator(&strings(&found.name), position),
            Ok(
                AExprKind::AexprBetween
                | AExprKind::AexprNotBetween
                | AExprKind::AexprBetweenSym
                | AExprKind::AexprNotBetweenSym,
            ) => {
                for name in ["<", "<=", ">", ">="] {
                    self.use_operator(&[name], position);
                }
            }
            Ok(AExprKind::Undefined) | Err(_) => {
                self.unknown("an operator is of a kind that is not on the list", position);
            }
        }
        self.optional(found.lexpr.as_deref());
        self.optional(found.rexpr.as_deref());
    }

    fn function_call(&mut self, call: &FuncCall) {
        let position = offset(call.location);
        let parts = strings(&call.funcname);
        let (schema, name) = split_name(&parts);
        let is_set_config = name == "set_config" && schema.is_none_or(|s| s == "pg_catalog");
        if is_set_config {
            self.set_config(call);
            let Some(names) = self.names() else { return };
            for function in user_functions(names, schema, name) {
                self.use_user_function(function, self.call, position);
            }
        } else {
            self.call(&parts, position);
        }
        self.expressions(&call.args);
        self.expressions(&call.agg_order);
        self.optional(call.agg_filter.as_deref());
        if let Some(window) = &call.over {
            self.window(window);
        }
    }

    /// set_config(name, value, is_local) is SET, where its name and value are literals.
    fn set_config(&mut self, call: &FuncCall) {
        let position = offset(call.location);
        self.found.functions.insert("pg_catalog.set_config".to_owned());
        self.found.change.names = true;
        let mut literals: Vec<Option<&str>> = call.args.iter().map(literal).collect();
        let pinned = self.pinned_setting.clone();
        if let (Some(first), Some(node)) = (literals.first_mut(), call.args.first())
            && is_setting_name(node)
        {
            *first = pinned.as_deref();
        }
        match literals.as_slice() {
            [Some(name), value, ..] => match settings::class_of(name, *value) {
                SettingClass::Harmless | SettingClass::SearchPath | SettingClass::Reading => {
                    self.found.effect(Effect::Read);
                    self.found.change.reading |= !settings::reads_plainly(name, *value);
                    if !settings::is_open_when_masked(name, *value) {
                        self.refuse_when_masked(
                            "this setting may not be changed in a session with masked columns",
                            position,
                        );
                    }
                }
                SettingClass::Administer => self.set_administer(position),
            },
            _ => self.set_administer(position),
        }
    }

    fn set_administer(&mut self, position: Option<usize>) {
        self.found.verb(verbs::SET_SETTING);
        self.found.change.reading = true;
        self.refuse_when_masked(
            "this setting may not be changed in a session with masked columns",
            position,
        );
    }

    pub(super) fn window(&mut self, window: &WindowDef) {
        self.expressions(&window.partition_clause);
        self.expressions(&window.order_clause);
        self.optional(window.start_offset.as_deref());
        self.optional(window.end_offset.as_deref());
    }

    fn indirection(&mut self, found: &AIndirection) {
        self.optional(found.arg.as_deref());
        for part in &found.indirection {
            match &part.node {
                // `(row).name` may call name(row).
                Some(NodeEnum::String(name)) => self.maybe_call_attribute(&name.sval, None),
                Some(_) => self.expression(part),
                None => {}
            }
        }
    }

    fn sub_link(&mut self, found: &SubLink) {
        self.optional(found.testexpr.as_deref());
        let names = strings(&found.oper_name);
        self.use_operator(if names.is_empty() { &["="] } else { &names }, offset(found.location));
        if let Some(query) = &found.subselect {
            self.inner_query(query, offset(found.location));
        }
    }

    /// A query inside an expression: its output is used, so none of it may be masked.
    pub(super) fn inner_query(&mut self, query: &Node, position: Option<usize>) -> Shape {
        let shape = self.query(query);
        if shape.has_mask() {
            self.found.obstacle(
                "a sub-select inside an expression may not select a masked column",
                position,
            );
        }
        shape
    }

    // SQL/JSON

    fn json_value(&mut self, found: Option<&JsonValueExpr>) {
        if let Some(found) = found {
            self.optional(found.raw_expr.as_deref());
            self.optional(found.formatted_expr.as_deref());
        }
    }

    fn json_output(&mut self, found: Option<&JsonOutput>) {
        if let Some(named) = found.and_then(|output| output.type_name.as_ref()) {
            self.use_type(named);
        }
    }

    fn json_behavior(&mut self, found: Option<&JsonBehavior>) {
        if let Some(found) = found {
            self.optional(found.expr.as_deref());
        }
    }

    fn json_function(&mut self, found: &JsonFuncExpr) {
        self.json_value(found.context_item.as_deref());
        self.optional(found.pathspec.as_deref());
        self.expressions(&found.passing);
        self.json_output(found.output.as_ref());
        self.json_behavior(found.on_empty.as_deref());
        self.json_behavior(found.on_error.as_deref());
    }

    fn json_aggregate(&mut self, found: Option<&JsonAggConstructor>) {
        let Some(found) = found else { return };
        self.json_output(found.output.as_ref());
        self.optional(found.agg_filter.as_deref());
        self.expressions(&found.agg_order);
        if let Some(window) = &found.over {
            self.window(window);
        }
    }

    pub(super) fn json_table(&mut self, found: &JsonTable) {
        self.json_value(found.context_item.as_deref());
        self.expressions(&found.passing);
        self.json_behavior(found.on_error.as_deref());
        // Its columns may name types and nest; releases before 17 do not have it.
        self.json_table_columns(&found.columns);
    }

    fn json_table_columns(&mut self, nodes: &[Node]) {
        for node in nodes {
            match &node.node {
                Some(NodeEnum::JsonTableColumn(column)) => {
                    if let Some(named) = &column.type_name {
                        self.use_type(named);
                    }
                    self.json_behavior(column.on_empty.as_deref());
                    self.json_behavior(column.on_error.as_deref());
                    self.deeper(|walker| walker.json_table_columns(&column.columns));
                }
                _ => self.unknown("JSON_TABLE has a column that is not understood", None),
            }
        }
    }
}

/// The text of a string literal; casts of a literal to text are seen through.
pub(super) fn literal(node: &Node) -> Option<&str> {
    use pg_query::protobuf::a_const::Val;
    match &node.node {
        Some(NodeEnum::AConst(constant)) => match &constant.val {
            Some(Val::Sval(text)) => Some(&text.sval),
            _ => None,
        },
        Some(NodeEnum::TypeCast(cast)) => {
            let named = cast.type_name.as_ref()?;
            let parts = strings(&named.names);
            let is_text = matches!(parts.as_slice(), ["text"] | ["pg_catalog", "text"]);
            if is_text { literal(cast.arg.as_ref()?) } else { None }
        }
        _ => None,
    }
}
