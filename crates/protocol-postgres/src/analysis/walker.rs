//! The state of one walk over one text, and what every part of the walk uses: what names of
//! relations, functions, operators and types mean.

use std::collections::{HashMap, HashSet};

use corral_model::resource::ColumnName;
use corral_model::{Effect, ObjectRef, ObjectRole};
use pg_query::protobuf::{Node, ParseResult, RangeVar, TypeName};

use super::catalogue::{
    Backslash, Catalogue, FIRST_USER_OID, Function, Operator, Relation, Tree, TreeContext,
};
use super::findings::Findings;
use super::shape::{Level, Shape};
use super::{Names, builtins};

/// Levels of a tree that are walked; what is deeper is unknown. The parser's own tree of a text
/// of the largest size needs less than 64 MiB of stack for this many.
const DEPTH_MAX: usize = 4_000;

/// How a relation is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Access {
    Read,
    /// LOCK TABLE: nothing of it is evaluated.
    Lock,
    Write,
    Define,
}

/// How a function comes to be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    /// By its name in the text.
    Written,
    /// By an operator, a default, a view, a trigger: what only computes has no effect then.
    Hidden,
}

pub(super) struct Walker<'a> {
    pub(super) names: Option<&'a Names>,
    /// Empty: nothing is masked.
    pub(super) masked: &'a [ColumnName],
    pub(super) found: Findings,
    pub(super) levels: Vec<Level>,
    /// Common table expressions in scope, innermost last.
    pub(super) tables: Vec<HashMap<String, Shape>>,
    /// Where a relation with masked columns was named, if one was.
    pub(super) classified_at: Option<Option<usize>>,
    /// Schema and name of tables that the same text has created: nothing hangs on them.
    pub(super) fresh: Vec<(String, String)>,
    /// Whether a definition only adds what the walk has seen whole, so that what the names of the
    /// text mean later is known.
    pub(super) is_additive: bool,
    /// Whether a definition leaves the names of relations and types as they are.
    pub(super) keeps_names: bool,
    /// Whether all statements of the text so far left them so, or were additive.
    pub(super) are_names_certain: bool,
    /// The setting that a WHERE pins `pg_settings.name` to.
    pub(super) pinned_setting: Option<String>,
    /// Text of the SQL PREPARE that an EXECUTE runs.
    pub(super) prepared: Option<&'a str>,
    /// How calls in expressions count: in a definition they are no statement's own.
    pub(super) call: Call,
    /// Functions in SQL whose bodies are being walked, outermost first.
    pub(super) running: Vec<String>,
    /// Bodies that were walked for this text.
    pub(super) body_count: usize,
    depth: usize,
    pub(super) reached: HashSet<(u32, Access)>,
    seen_types: HashSet<u32>,
    seen_functions: HashSet<u32>,
    /// Functions that planning calls, and that were found to change nothing.
    pub(super) quiet_functions: HashSet<u32>,
}

/// What a walk has already reached.
pub(super) struct Memory {
    pub(super) reached: HashSet<(u32, Access)>,
    pub(super) seen_types: HashSet<u32>,
    seen_functions: HashSet<u32>,
}

impl<'a> Walker<'a> {
    pub(super) fn new(names: Option<&'a Names>, masked: &'a [ColumnName]) -> Self {
        Self {
            names,
            masked,
            found: Findings::default(),
            levels: Vec::new(),
            tables: Vec::new(),
            classified_at: None,
            fresh: Vec::new(),
            is_additive: false,
            keeps_names: false,
            are_names_certain: true,
            pinned_setting: None,
            prepared: None,
            call: Call::Written,
            running: Vec::new(),
            body_count: 0,
            depth: 0,
            reached: HashSet::new(),
            seen_types: HashSet::new(),
            seen_functions: HashSet::new(),
            quiet_functions: HashSet::new(),
        }
    }

    /// The parser's tree of a text of this session, or why there is none.
    pub(super) fn parse(&self, text: &str) -> Result<ParseResult, String> {
        let backslash = self.names.map_or(Backslash::Letter, |names| names.session.backslash());
        super::parse(text, backslash)
    }

    pub(super) fn is_masking(&self) -> bool {
        !self.masked.is_empty()
    }

    /// Anything may happen; in a session with masked columns that is refused.
    pub(super) fn unknown(&mut self, text: impl Into<String>, position: Option<usize>) {
        let text = text.into();
        if self.is_masking() {
            let refusal = format!("{text}; a session with masked columns cannot run it");
            self.found.obstacle(refusal, position);
        }
        self.found.unknown(text, position);
    }

    /// Refuses, if columns are masked.
    pub(super) fn refuse_when_masked(&mut self, text: &str, position: Option<usize>) {
        if self.is_masking() {
            self.found.obstacle(text, position);
        }
    }

    /// Walks deeper with `walk`, unless that is too deep.
    pub(super) fn deeper<T: Default>(&mut self, walk: impl FnOnce(&mut Self) -> T) -> T {
        if self.depth >= DEPTH_MAX {
            self.unknown("the statement is nested too deeply to be analysed", None);
            return T::default();
        }
        self.depth += 1;
        let result = walk(self);
        self.depth -= 1;
        result
    }

    /// The names, or a note that they are needed.
    pub(super) fn names(&mut self) -> Option<&'a Names> {
        self.found.needs_names = true;
        self.names
    }

    /// The relation that a name means, or `unknown`.
    pub(super) fn relation(&mut self, named: &RangeVar) -> Option<&'a Relation> {
        let names = self.names()?;
        // Where a new table hides another of its name, that other one does more, not less.
        let found = find_relation(names, named);
        if found.is_none() && !self.is_fresh(named) {
            let position = offset(named.location);
            let name = if named.schemaname.is_empty() {
                named.relname.clone()
            } else {
                format!("{}.{}", named.schemaname, named.relname)
            };
            self.found.objects.insert(ObjectRef {
                schema: String::new(),
                name: name.clone(),
                kind: "unresolved".to_owned(),
                role: ObjectRole::Read,
            });
            self.unknown(format!("relation \"{name}\" is not in the target's catalogue"), position);
        }
        found
    }

    /// Whether the text has created a table of this name before.
    pub(super) fn is_fresh(&self, named: &RangeVar) -> bool {
        self.fresh.iter().any(|(schema, name)| {
            *name == named.relname && (named.schemaname.is_empty() || named.schemaname == *schema)
        })
    }

    pub(super) fn relation_by_oid(&self, oid: u32) -> Option<&'a Relation> {
        let names = self.names?;
        names.session.temporary.relations.get(&oid).or_else(|| names.catalogue.relations.get(&oid))
    }

    /// Partitions and children of a relation, also the session's temporary ones of a permanent
    /// relation.
    pub(super) fn children(&self, relation: &Relation) -> Vec<&'a Relation> {
        let Some(names) = self.names else { return Vec::new() };
        let all = [names.catalogue.as_ref(), &names.session.temporary];
        let of = |objects: &'a Catalogue| objects.children_of(relation.oid);
        all.into_iter().flat_map(of).filter_map(|oid| self.relation_by_oid(*oid)).collect()
    }

    /// What a relation is a partition or child of.
    pub(super) fn parents(&self, relation: &Relation) -> Vec<&'a Relation> {
        relation.parents.iter().filter_map(|oid| self.relation_by_oid(*oid)).collect()
    }

    pub(super) fn function_by_oid(&self, oid: u32) -> Option<&'a Function> {
        let names = self.names?;
        names.session.temporary.functions.get(&oid).or_else(|| names.catalogue.functions.get(&oid))
    }

    /// A stored expression, trigger or operator calls this function.
    pub(super) fn reach_function(&mut self, oid: u32, position: Option<usize>) {
        let Some(names) = self.names() else { return };
        if let Some(function) = self.function_by_oid(oid) {
            self.use_user_function(function, Call::Hidden, position);
        } else if let Some(name) = names.catalogue.builtins.get(&oid) {
            self.use_builtin(name, Call::Hidden, position);
        } else if oid >= FIRST_USER_OID {
            self.unknown("it calls a function that is not in the catalogue", position);
        }
    }

    /// A stored expression calls these functions and makes values of these types.
    pub(super) fn reach_code(&mut self, tree: &Tree, position: Option<usize>) {
        for function in &tree.functions {
            self.reach_function(*function, position);
        }
        for operator in &tree.operators {
            self.reach_operator(*operator, position);
        }
        for kind in &tree.types {
            self.deeper(|walker| walker.use_type_oid(*kind, position));
        }
    }

    /// An operator of a user, or what the planner may put in its place.
    fn reach_operator(&mut self, oid: u32, position: Option<usize>) {
        let Some(names) = self.names() else { return };
        let mut open = vec![oid];
        let mut seen = HashSet::from([oid]);
        while let Some(oid) = open.pop() {
            match operator(names, oid) {
                Some(known) => {
                    self.reach_function(known.function, position);
                    open.extend(known.partners.iter().filter(|oid| seen.insert(**oid)));
                }
                None if oid >= FIRST_USER_OID => {
                    self.unknown("it uses an operator that is not in the catalogue", position);
                }
                None => {}
            }
        }
    }

    /// Arguments that are left out are computed.
    fn use_defaults(&mut self, function: &Function, position: Option<usize>) {
        if let Some(defaults) = &function.defaults
            && self.seen_functions.insert(function.oid)
        {
            self.deeper(|walker| walker.reach_code(defaults, position));
        }
    }

    /// A call in a text may convert values to the arguments' types, and makes one of the result's.
    /// An operator's operands have their types from elsewhere.
    fn use_signature(&mut self, function: &Function, position: Option<usize>) {
        for kind in &function.types {
            self.use_type_oid(*kind, position);
        }
    }

    pub(super) fn use_user_function(
        &mut self,
        function: &Function,
        call: Call,
        position: Option<usize>,
    ) {
        let name = format!("{}.{}", function.schema, function.name);
        self.found.functions.insert(name.clone());
        self.found.objects.insert(ObjectRef {
            schema: function.schema.clone(),
            name: function.name.clone(),
            kind: "function".to_owned(),
            role: ObjectRole::Reached,
        });
        self.use_defaults(function, position);
        if is_reviewed(function) {
            if call == Call::Written {
                self.found.effect(Effect::Read);
            }
            return;
        }
        match &function.body {
            Some(body) if is_of_reviewed_extension(function) => {
                self.run_extension_body(&name, body, call, position);
            }
            // Sessions with masked columns call reviewed functions only.
            Some(body) if !self.is_masking() => self.run_body(&name, body, position),
            Some(_) | None => {
                self.unknown(format!("what function {name} reaches cannot be told"), position);
            }
        }
    }

    pub(super) fn use_builtin(&mut self, name: &str, call: Call, position: Option<usize>) {
        self.found.functions.insert(format!("pg_catalog.{name}"));
        match builtins::effect_of(name) {
            Some(Effect::Unknown) | None => {
                self.unknown(format!("what function {name} does cannot be told"), position);
            }
            Some(Effect::Read) if call == Call::Hidden => {}
            Some(
                effect @ (Effect::Read
                | Effect::Write
                | Effect::Define
                | Effect::Administer
                | Effect::Shell),
            ) => self.found.effect(effect),
        }
        if self.is_masking() && !builtins::is_open_when_masked(name) {
            let text =
                format!("function {name} may not be called in a session with masked columns");
            self.found.obstacle(text, position);
        }
    }

    /// A call by name: every function that the name may mean counts.
    pub(super) fn call(&mut self, parts: &[&str], position: Option<usize>) {
        let Some(names) = self.names() else { return };
        let (schema, name) = split_name(parts);
        let mut is_found = false;
        for function in user_functions(names, schema, name) {
            is_found = true;
            self.use_signature(function, position);
            self.use_user_function(function, self.call, position);
        }
        let is_builtin = schema.is_none_or(is_system_schema) && builtins::effect_of(name).is_some();
        if is_builtin {
            is_found = true;
            self.use_builtin(name, self.call, position);
        }
        if !is_found {
            // `typename(value)` is a cast.
            is_found = self.use_type_parts(parts, position);
        }
        if !is_found {
            let full = parts.join(".");
            self.found.functions.insert(full.clone());
            self.unknown(format!("function {full} is not known"), position);
        }
    }

    /// Like [`Self::call`], where the name may also be something else, such as a column.
    pub(super) fn maybe_call(&mut self, name: &str, position: Option<usize>) {
        let Some(names) = self.names() else { return };
        for function in user_functions(names, None, name) {
            self.use_signature(function, position);
            self.use_user_function(function, self.call, position);
        }
        if builtins::effect_of(name).is_some() {
            self.use_builtin(name, self.call, position);
        }
    }

    /// An operator by name: every user-made operator that the name may mean counts.
    pub(super) fn use_operator(&mut self, parts: &[&str], position: Option<usize>) {
        let Some(names) = self.names() else { return };
        let (schema, name) = split_name(parts);
        let schema = schema.map(|schema| names.session.schema(schema));
        let mut is_found = false;
        for (objects, is_temporary) in
            [(&names.session.temporary, true), (names.catalogue.as_ref(), false)]
        {
            for oid in objects.operators_named(name) {
                let Some(operator) = objects.operators.get(oid) else { continue };
                let is_visible = match schema {
                    Some(schema) => schema == operator.schema,
                    None => !is_temporary && names.session.path.contains(&operator.schema),
                };
                if is_visible {
                    is_found = true;
                    self.reach_operator(*oid, position);
                }
            }
        }
        if !is_found && !schema.is_none_or(is_system_schema) {
            let full = parts.join(".");
            self.unknown(format!("operator {full} is not in the target's catalogue"), position);
        }
    }

    pub(super) fn use_type(&mut self, named: &TypeName) {
        let position = offset(named.location);
        if named.pct_type {
            self.unknown("%TYPE is not analysed; name the type", position);
            return;
        }
        let parts = strings(&named.names);
        let is_found = self.use_type_parts(&parts, position);
        let (schema, name) = split_name(&parts);
        let is_fresh = |schema: &str| self.fresh.iter().any(|(s, n)| s == schema && n == name);
        if !is_found && schema.is_some_and(|schema| !is_system_schema(schema) && !is_fresh(schema))
        {
            let full = parts.join(".");
            self.unknown(format!("type {full} is not in the target's catalogue"), position);
        }
        for modifier in &named.typmods {
            self.expression(modifier);
        }
    }

    /// Whether a user-made type of that name is visible; its functions count then.
    pub(super) fn use_type_parts(&mut self, parts: &[&str], position: Option<usize>) -> bool {
        if split_name(parts).0 == Some("pg_catalog") {
            return false;
        }
        let Some(names) = self.names() else { return true };
        let found = visible_types(names, parts);
        for oid in &found {
            self.use_type_oid(*oid, position);
        }
        !found.is_empty()
    }

    pub(super) fn use_type_oid(&mut self, oid: u32, position: Option<usize>) {
        if oid < FIRST_USER_OID || !self.seen_types.insert(oid) {
            return;
        }
        let Some(names) = self.names() else { return };
        let owner = owner_of_type(names, oid);
        let Some(known) = owner.types.get(&oid) else {
            self.unknown("a column has a type that is not in the catalogue", position);
            return;
        };
        // An array of them is made without naming its type.
        let is_meant = |cast: u32| {
            let is_array =
                || owner.types.get(&cast).is_some_and(|t| t.kind == 'b' && t.inner == oid);
            cast == oid || (cast >= FIRST_USER_OID && is_array())
        };
        for cast in &names.catalogue.casts {
            if is_meant(cast.source) || is_meant(cast.target) {
                self.reach_function(cast.function, position);
            }
        }
        match known.kind {
            'e' => {}
            'c' => {
                let columns =
                    self.relation_by_oid(known.relation).map(|row| row.columns.as_slice());
                for column in columns.unwrap_or_default() {
                    self.deeper(|walker| walker.use_type_oid(column.type_oid, position));
                }
            }
            'd' => {
                let trees = owner.domain_trees.get(&oid).into_iter().flatten();
                for tree in trees.filter(|tree| tree.context == TreeContext::Domain) {
                    self.deeper(|walker| walker.reach_code(tree, position));
                }
                self.deeper(|walker| walker.use_type_oid(known.inner, position));
            }
            _ => {
                // PostgreSQL's own read and write what the inner type's do.
                for function in known.functions.iter().filter(|oid| **oid >= FIRST_USER_OID) {
                    self.reach_function(*function, position);
                }
                self.deeper(|walker| walker.use_type_oid(known.inner, position));
            }
        }
    }

    /// The default of a column's type, which fills the column where nothing else does.
    pub(super) fn use_type_default(&mut self, oid: u32, position: Option<usize>) {
        let Some(names) = self.names() else { return };
        let mut oid = oid;
        // A domain over a domain has its default, or one of its own.
        while oid >= FIRST_USER_OID {
            let owner = owner_of_type(names, oid);
            for tree in owner.domain_trees.get(&oid).into_iter().flatten() {
                if tree.context == TreeContext::DomainDefault {
                    self.reach_code(tree, position);
                }
            }
            match owner.types.get(&oid) {
                Some(known) if known.kind == 'd' => oid = known.inner,
                _ => return,
            }
        }
    }

    /// The same of a type that a definition of a column names.
    pub(super) fn use_named_default(&mut self, named: &TypeName) {
        let Some(names) = self.names() else { return };
        let (position, parts) = (offset(named.location), strings(&named.names));
        for oid in visible_types(names, &parts) {
            self.use_type_default(oid, position);
        }
    }

    /// Casts between PostgreSQL's own types that a user made may hide a call in any expression.
    pub(super) fn use_global_casts(&mut self) {
        let Some(names) = self.names() else { return };
        for cast in &names.catalogue.casts {
            if cast.source < FIRST_USER_OID && cast.target < FIRST_USER_OID {
                let is_reviewed =
                    names.catalogue.functions.get(&cast.function).is_some_and(is_reviewed);
                if !is_reviewed {
                    self.reach_function(cast.function, None);
                }
            }
        }
    }

    /// What was already reached, so that something can be walked apart.
    pub(super) fn take_memory(&mut self) -> Memory {
        Memory {
            reached: std::mem::take(&mut self.reached),
            seen_types: std::mem::take(&mut self.seen_types),
            seen_functions: std::mem::take(&mut self.seen_functions),
        }
    }

    pub(super) fn put_memory(&mut self, memory: Memory) {
        self.reached = memory.reached;
        self.seen_types = memory.seen_types;
        self.seen_functions = memory.seen_functions;
    }
}

pub(super) fn find_relation<'a>(names: &'a Names, named: &RangeVar) -> Option<&'a Relation> {
    let (database, schema, name) = (&named.catalogname, &named.schemaname, &named.relname);
    if !database.is_empty() && database != names.session.database() {
        return None;
    }
    let in_schema = |schema: &str| {
        if schema == "pg_temp" {
            names.session.temporary.relation(schema, name)
        } else {
            names.catalogue.relation(schema, name)
        }
    };
    if schema.is_empty() {
        names.session.path.iter().find_map(|schema| in_schema(schema))
    } else {
        in_schema(schema)
    }
}

/// Whether a user-made operator of this name stands before the server's on the search path.
pub(super) fn is_before_servers(names: &Names, operator: &str) -> bool {
    let own = names.catalogue.operators_named(operator).iter();
    let own = own.filter_map(|oid| names.catalogue.operators.get(oid));
    let schemas: Vec<&str> = own.map(|operator| operator.schema.as_str()).collect();
    let mut before = names.session.path.iter().take_while(|schema| *schema != "pg_catalog");
    before.any(|schema| schemas.contains(&schema.as_str()))
}

/// User-made functions that a name may mean. The temporary schema is searched only by name.
pub(super) fn user_functions<'a>(
    names: &'a Names,
    schema: Option<&str>,
    name: &str,
) -> Vec<&'a Function> {
    let in_catalogue = names
        .catalogue
        .functions_named(name)
        .iter()
        .filter_map(|oid| names.catalogue.functions.get(oid));
    let temporary = &names.session.temporary;
    let schema = schema.map(|schema| names.session.schema(schema));
    let in_session =
        temporary.functions_named(name).iter().filter_map(|oid| temporary.functions.get(oid));
    match schema {
        Some("pg_temp") => in_session.collect(),
        Some(schema) => in_catalogue.filter(|function| function.schema == schema).collect(),
        None => {
            in_catalogue.filter(|function| names.session.path.contains(&function.schema)).collect()
        }
    }
}

/// Types of users that a name may mean.
fn visible_types(names: &Names, parts: &[&str]) -> Vec<u32> {
    let (schema, name) = split_name(parts);
    let schema = schema.map(|schema| names.session.schema(schema));
    let mut found = Vec::new();
    for objects in [&names.session.temporary, names.catalogue.as_ref()] {
        let is_visible = |oid: &&u32| {
            objects.types.get(oid).is_some_and(|known| match schema {
                Some(schema) => schema == known.schema,
                None => names.session.path.contains(&known.schema),
            })
        };
        found.extend(objects.types_named(name).iter().filter(is_visible));
    }
    found
}

fn owner_of_type(names: &Names, oid: u32) -> &Catalogue {
    if names.session.temporary.types.contains_key(&oid) {
        &names.session.temporary
    } else {
        &names.catalogue
    }
}

fn operator(names: &Names, oid: u32) -> Option<&Operator> {
    let temporary = &names.session.temporary;
    temporary.operators.get(&oid).or_else(|| names.catalogue.operators.get(&oid))
}

/// Whether a function came with an extension that was reviewed, no ordinary user changed it, and
/// it runs the same wherever it is called.
pub(super) fn is_reviewed(function: &Function) -> bool {
    function.is_privileged && is_of_reviewed_extension(function)
}

fn is_of_reviewed_extension(function: &Function) -> bool {
    function.extension.as_deref().is_some_and(builtins::is_reviewed_extension)
}

pub(super) fn is_system_schema(schema: &str) -> bool {
    matches!(schema, "pg_catalog" | "information_schema")
}

/// Schema, if one is given, and name.
pub(super) fn split_name<'p>(parts: &[&'p str]) -> (Option<&'p str>, &'p str) {
    match parts {
        [.., schema, name] => (Some(schema), name),
        [name] => (None, name),
        [] => (None, ""),
    }
}

pub(super) fn object(relation: &Relation, role: ObjectRole) -> ObjectRef {
    let kind = match relation.kind {
        'v' => "view",
        'm' => "materialized_view",
        'S' => "sequence",
        'f' => "foreign_table",
        'i' | 'I' => "index",
        'c' => "type",
        _ => "table",
    };
    ObjectRef {
        schema: relation.schema.clone(),
        name: relation.name.clone(),
        kind: kind.to_owned(),
        role,
    }
}

/// The parser's position as a byte offset; negative means that it has none.
pub(super) fn offset(location: i32) -> Option<usize> {
    usize::try_from(location).ok()
}

/// The strings of a list of names; other nodes are left out.
pub(super) fn strings(nodes: &[Node]) -> Vec<&str> {
    nodes
        .iter()
        .filter_map(|node| match &node.node {
            Some(pg_query::NodeEnum::String(text)) => Some(text.sval.as_str()),
            _ => None,
        })
        .collect()
}
