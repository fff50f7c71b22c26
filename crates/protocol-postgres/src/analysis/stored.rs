//! Expressions and queries that a definition only stores. Nothing in them runs but the input
//! functions of types: the target turns literals into values when it takes the definition in,
//! and an array, a row or a range of a domain has the domain's checks evaluated then.

use std::collections::HashSet;

use corral_model::Effect;
use pg_query::NodeEnum;
use pg_query::protobuf::{
    AConst, AlterDomainStmt, CreateFunctionStmt, DefineStmt, Node, RangeVar, TypeName, a_const::Val,
};

use super::Names;
use super::catalogue::{Catalogue, FIRST_USER_OID, Relation};
use super::findings::Findings;
use super::walker::{Walker, find_relation, strings};

impl<'a> Walker<'a> {
    /// What runs with those that have a verb only.
    pub(super) fn define_closed(&mut self, node: &NodeEnum) {
        match node {
            NodeEnum::CreateFunctionStmt(found) => self.store_function(found),
            NodeEnum::DefineStmt(found) => self.store_aggregate(found),
            NodeEnum::AlterDomainStmt(found) => self.alter_domain(found),
            NodeEnum::CreateDomainStmt(found) => {
                self.store_typed(found.type_name.as_ref(), &found.constraints);
            }
            NodeEnum::CreateTrigStmt(found) => {
                self.store_over(found.relation.as_ref(), found.when_clause.as_deref());
            }
            NodeEnum::RuleStmt(found) => {
                let condition = found.where_clause.as_deref();
                self.store_over(
                    found.relation.as_ref(),
                    condition.into_iter().chain(&found.actions),
                );
            }
            NodeEnum::CreatePolicyStmt(found) => {
                let conditions = [found.qual.as_deref(), found.with_check.as_deref()];
                self.store_over(found.table.as_ref(), conditions.into_iter().flatten());
            }
            NodeEnum::AlterPolicyStmt(found) => {
                let conditions = [found.qual.as_deref(), found.with_check.as_deref()];
                self.store_over(found.table.as_ref(), conditions.into_iter().flatten());
            }
            NodeEnum::CreateStatsStmt(found) => self.store_statistics(found),
            NodeEnum::CreateRangeStmt(found) => self.store_range(found),
            NodeEnum::CreatePublicationStmt(found) => self.store_filters(&found.pubobjects),
            NodeEnum::AlterPublicationStmt(found) => self.store_filters(&found.pubobjects),
            _ => {}
        }
    }

    /// ADD CONSTRAINT and VALIDATE run the domain's checks for the values that there are.
    fn alter_domain(&mut self, found: &AlterDomainStmt) {
        let definition = found.def.as_deref();
        match (found.subtype.as_str(), definition.and_then(|node| node.node.as_ref())) {
            // DROP CONSTRAINT, SET and DROP NOT NULL, DROP DEFAULT.
            ("X" | "O" | "N", _) | ("T", None) => {}
            ("T", Some(_)) => {
                let types = strings(&found.type_name);
                self.stored(|walker| {
                    walker.use_type_parts(&types, None);
                    walker.optional(definition);
                });
            }
            ("C", Some(NodeEnum::Constraint(constraint))) => {
                self.use_global_casts();
                self.use_type_parts(&strings(&found.type_name), None);
                self.constraint(constraint);
            }
            ("V", _) => {
                self.use_type_parts(&strings(&found.type_name), None);
            }
            _ => self.unknown("ALTER DOMAIN has a part that is not on the list", None),
        }
    }

    fn store_typed(&mut self, named: Option<&TypeName>, nodes: &[Node]) {
        self.stored(|walker| {
            if let Some(named) = named {
                walker.use_type(named);
            }
            for node in nodes {
                walker.table_element(node);
            }
        });
    }

    pub(super) fn store_over<'n>(
        &mut self,
        named: Option<&RangeVar>,
        nodes: impl IntoIterator<Item = &'n Node>,
    ) -> Findings {
        let names = self.names;
        let relation = names.zip(named).and_then(|(names, named)| find_relation(names, named));
        self.stored_over(relation, nodes)
    }

    fn store_filters(&mut self, nodes: &[Node]) {
        for node in nodes {
            if let Some(NodeEnum::PublicationObjSpec(item)) = &node.node
                && let Some(table) = &item.pubtable
            {
                self.store_over(table.relation.as_ref(), table.where_clause.as_deref());
            }
        }
    }

    /// Walks what is stored; what its literals may run counts, the rest is handed back.
    pub(super) fn stored(&mut self, walk: impl FnOnce(&mut Self)) -> Findings {
        let outside = std::mem::take(&mut self.found);
        let memory = self.take_memory();
        let body_count = self.body_count;
        let fresh = self.fresh.clone();
        let is_additive = self.is_additive;
        walk(self);
        self.is_additive = is_additive;
        self.fresh = fresh;
        let walked = self.take_memory();
        self.put_memory(memory);
        let mut inner = std::mem::replace(&mut self.found, outside);
        self.found.is_definition = true;
        if self.found.obstacle.is_none() {
            self.found.obstacle = inner.obstacle.take();
        }
        if inner.has_literal {
            self.reach_literals(&inner, walked.seen_types);
        }
        // Nothing of it runs before the names change.
        self.body_count = body_count;
        inner
    }

    /// The types that a stored text uses, if literals may be read as one of them.
    fn reach_literals(&mut self, inner: &Findings, seen: HashSet<u32>) {
        let Some(names) = self.names else { return };
        // The types of a user function's arguments are not known here, nor those of a relation
        // that is not found.
        let is_any =
            inner.unknown.is_some() || inner.functions.iter().any(|name| is_of_users(names, name));
        if !is_any && seen.is_empty() && self.are_names_certain {
            return;
        }
        self.found.needs_names |= !self.are_names_certain;
        let types: Vec<u32> = if is_any || !self.are_names_certain {
            let all = [names.catalogue.as_ref(), &names.session.temporary];
            let of = |objects: &'a Catalogue| objects.types.iter();
            all.into_iter()
                .flat_map(of)
                .filter(|(_, known)| known.kind != 'c')
                .map(|(oid, _)| *oid)
                .collect()
        } else {
            seen.into_iter().collect()
        };
        self.reach_inputs(&types);
    }

    /// Literals may be turned into values of these types.
    pub(super) fn reach_inputs(&mut self, types: &[u32]) {
        let mut types = types.to_vec();
        types.sort_unstable();
        let mut done = HashSet::new();
        let needs_names = self.found.needs_names;
        let inner = self.aside(|walker| {
            for oid in types {
                walker.reach_input(oid, &mut done);
            }
        });
        // An earlier statement of the text may have made a user's function anew.
        let is_of_user = inner.functions.iter().any(|name| !name.starts_with("pg_catalog."));
        self.found.needs_names = needs_names || is_of_user;
        if inner.effects.iter().all(|effect| effect == Effect::Read) {
            return;
        }
        self.found.effects.extend(inner.effects);
        self.found.called.extend(inner.called);
        self.found.functions.extend(inner.functions);
        self.found.objects.extend(inner.objects);
        self.found.change.add(inner.change);
        if let Some(reason) = inner.unknown {
            self.unknown(format!("reading a literal: {}", reason.text), None);
        }
    }

    fn reach_input(&mut self, oid: u32, done: &mut HashSet<u32>) {
        if oid < FIRST_USER_OID || !done.insert(oid) {
            return;
        }
        let Some(names) = self.names() else { return };
        let temporary = &names.session.temporary;
        let owner: &Catalogue =
            if temporary.types.contains_key(&oid) { temporary } else { &names.catalogue };
        let Some(known) = owner.types.get(&oid) else {
            self.unknown("a type is not in the catalogue", None);
            return;
        };
        let mut inner = vec![known.inner];
        match known.kind {
            'e' => {}
            'c' => {
                let row = self.relation_by_oid(known.relation);
                inner.extend(row.into_iter().flat_map(|row| &row.columns).map(|c| c.type_oid));
            }
            'd' => {
                for tree in owner.domain_trees.get(&oid).into_iter().flatten() {
                    for function in &tree.functions {
                        self.reach_function(*function, None);
                    }
                }
            }
            // The input function of a base type is a superuser's. PostgreSQL's own for arrays and
            // ranges reads what is inside.
            _ => {
                let is_plain = |oid: &u32| {
                    let is_container = known.inner != 0 && *oid < FIRST_USER_OID;
                    let found = owner.functions.get(oid);
                    *oid == 0 || is_container || found.is_some_and(|found| found.is_privileged)
                };
                for function in known.functions.iter().filter(|oid| !is_plain(oid)) {
                    self.reach_function(*function, None);
                }
            }
        }
        for oid in inner {
            self.deeper(|walker| walker.reach_input(oid, done));
        }
    }

    /// Literals beside the columns of a relation may be read as their types.
    pub(super) fn use_columns(&mut self, relation: &'a Relation) {
        for column in &relation.columns {
            self.use_type_oid(column.type_oid, None);
        }
    }

    pub(super) fn note_literal(&mut self, constant: &AConst) {
        self.found.has_literal |= matches!(constant.val, Some(Val::Sval(_)));
    }

    /// Expressions over a relation that are stored with it, or with something that hangs on it.
    pub(super) fn stored_over<'n>(
        &mut self,
        relation: Option<&'a Relation>,
        nodes: impl IntoIterator<Item = &'n Node>,
    ) -> Findings {
        self.stored(|walker| {
            if let Some(relation) = relation {
                walker.use_columns(relation);
            }
            for node in nodes {
                match &node.node {
                    Some(NodeEnum::StatsElem(element)) => walker.optional(element.expr.as_deref()),
                    // The actions of a rule.
                    Some(
                        NodeEnum::SelectStmt(_)
                        | NodeEnum::InsertStmt(_)
                        | NodeEnum::UpdateStmt(_)
                        | NodeEnum::DeleteStmt(_)
                        | NodeEnum::NotifyStmt(_),
                    ) => {
                        walker.statement(node);
                    }
                    Some(NodeEnum::Constraint(found)) => walker.constraint(found),
                    _ => walker.expression(node),
                }
            }
        })
    }

    /// A function's defaults, and the body of one in SQL, are parsed when it is made.
    pub(super) fn store_function(&mut self, found: &CreateFunctionStmt) {
        let body = sql_body(found);
        self.stored(|walker| {
            for node in &found.parameters {
                let Some(NodeEnum::FunctionParameter(parameter)) = &node.node else { continue };
                let is_read = body.is_some() || parameter.defexpr.is_some();
                if let (true, Some(named)) = (is_read, &parameter.arg_type) {
                    walker.use_type(named);
                }
                walker.optional(parameter.defexpr.as_deref());
            }
            if body.is_some()
                && let Some(named) = &found.return_type
            {
                walker.use_type(named);
            }
            match body {
                Some(SqlBody::Text(text)) => walker.stored_text(text),
                Some(SqlBody::Tree(node)) => walker.stored_tree(node),
                None => {}
            }
        });
    }

    fn stored_text(&mut self, text: &str) {
        match self.parse(text) {
            Ok(parsed) => {
                for node in parsed.stmts.iter().filter_map(|raw| raw.stmt.as_ref()) {
                    self.statement(node);
                }
            }
            // The target's own grammar may read it.
            Err(reason) => {
                self.found.has_literal = true;
                self.found.unknown(reason, None);
            }
        }
    }

    /// RETURN, or BEGIN ATOMIC: a list of lists.
    fn stored_tree(&mut self, node: &Node) {
        self.deeper(|walker| match &node.node {
            Some(NodeEnum::ReturnStmt(found)) => walker.optional(found.returnval.as_deref()),
            Some(NodeEnum::List(list)) => {
                for item in &list.items {
                    walker.stored_tree(item);
                }
            }
            _ => {
                walker.statement(node);
            }
        });
    }

    /// CREATE AGGREGATE turns its initial conditions into values of its state's type.
    pub(super) fn store_aggregate(&mut self, found: &DefineStmt) {
        let options = || {
            found.definition.iter().filter_map(|node| match &node.node {
                Some(NodeEnum::DefElem(option)) => Some(option.as_ref()),
                _ => None,
            })
        };
        if !options().any(|option| option.defname.contains("initcond")) {
            return;
        }
        for option in options() {
            match option.arg.as_ref().and_then(|node| node.node.as_ref()) {
                Some(NodeEnum::TypeName(named)) => self.use_type(named),
                Some(NodeEnum::String(name)) if option.defname.contains("stype") => {
                    self.use_type_parts(&[&name.sval], None);
                }
                _ => {}
            }
        }
    }
}

enum SqlBody<'n> {
    Text(&'n str),
    Tree(&'n Node),
}

/// The body of a function in SQL.
fn sql_body(found: &CreateFunctionStmt) -> Option<SqlBody<'_>> {
    if let Some(tree) = &found.sql_body {
        return Some(SqlBody::Tree(tree));
    }
    let option = |name: &str| {
        found.options.iter().find_map(|node| match &node.node {
            Some(NodeEnum::DefElem(option)) if option.defname == name => option.arg.as_deref(),
            _ => None,
        })
    };
    let Some(NodeEnum::String(language)) = &option("language")?.node else { return None };
    if !language.sval.eq_ignore_ascii_case("sql") {
        return None;
    }
    match &option("as")?.node {
        Some(NodeEnum::List(parts)) => strings(&parts.items).first().copied().map(SqlBody::Text),
        Some(NodeEnum::String(text)) => Some(SqlBody::Text(&text.sval)),
        _ => None,
    }
}

/// Whether a function of this schema and name may take values of any user's types. Those of
/// extensions take their own, and PostgreSQL's.
pub(super) fn is_of_users(names: &Names, full: &str) -> bool {
    let Some((schema, name)) = full.split_once('.') else { return true };
    if schema == "pg_catalog" {
        return false;
    }
    let mut known = names
        .catalogue
        .functions_named(name)
        .iter()
        .filter_map(|oid| names.catalogue.functions.get(oid))
        .filter(|function| function.schema == schema)
        .peekable();
    known.peek().is_none()
        || known.any(|function| {
            function.extension.is_none() || !(function.is_privileged || function.is_sql)
        })
}
