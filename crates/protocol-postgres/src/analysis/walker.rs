//! The state of one walk over one text, and what every part of the walk uses: names of relations,
//! functions, operators and types, and what each of them reaches.

use std::collections::{HashMap, HashSet};

use corral_model::resource::ColumnName;
use corral_model::{Effect, ObjectRef, ObjectRole};
use pg_query::protobuf::{Node, RangeVar, TypeName};

use super::catalogue::{Catalogue, FIRST_USER_OID, Function, Relation, Tree, TreeContext};
use super::findings::Findings;
use super::shape::{Level, Shape};
use super::{Names, builtins, system};

/// Levels of a tree that are walked; what is deeper is unknown. The parser's own tree of a text
/// of the largest size needs less than 64 MiB of stack for this many.
const DEPTH_MAX: usize = 4_000;

/// How a relation is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Access {
    Read,
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

/// Which columns of a relation are masked, when it is read by its own name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RelationMask {
    Clear,
    /// Name of the column in the relation, and the classified column.
    Columns(Vec<(String, ColumnName)>),
    /// It may not be touched at all, for this reason.
    Closed(String),
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
    /// Text of the SQL PREPARE that an EXECUTE runs.
    pub(super) prepared: Option<&'a str>,
    /// How calls in expressions count: in a definition they are no statement's own.
    pub(super) call: Call,
    depth: usize,
    reached: HashSet<(u32, Access)>,
    seen_types: HashSet<u32>,
}

/// What a walk has already reached.
pub(super) struct Memory {
    reached: HashSet<(u32, Access)>,
    seen_types: HashSet<u32>,
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
            prepared: None,
            call: Call::Written,
            depth: 0,
            reached: HashSet::new(),
            seen_types: HashSet::new(),
        }
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
        let found = find_relation(names, named);
        if found.is_none() {
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

    /// Notes that the statement names a relation, and all that it reaches by that.
    pub(super) fn touch(
        &mut self,
        relation: &'a Relation,
        access: Access,
        position: Option<usize>,
    ) {
        let role = match access {
            Access::Read => ObjectRole::Read,
            Access::Write => ObjectRole::Write,
            Access::Define => ObjectRole::Define,
        };
        self.found.objects.insert(object(relation, role));
        if relation.is_system {
            self.touch_system(relation, access, position);
            return;
        }
        if self.is_masking() {
            match self.mask_of(relation) {
                RelationMask::Clear => {}
                RelationMask::Columns(_) => {
                    self.classified_at.get_or_insert(position);
                    if access != Access::Read {
                        let text = format!(
                            "\"{}\" has masked columns; only plain SELECT lists may use it",
                            relation.name
                        );
                        self.found.obstacle(text, position);
                    }
                }
                RelationMask::Closed(reason) => {
                    self.classified_at.get_or_insert(position);
                    self.found.obstacle(reason, position);
                }
            }
        }
        self.reach(relation, access, position);
    }

    fn touch_system(&mut self, relation: &Relation, access: Access, position: Option<usize>) {
        match access {
            Access::Read => self.found.effect(system::read_effect(&relation.name)),
            Access::Write | Access::Define => {
                self.found.effect(Effect::Administer);
                self.refuse_when_masked("PostgreSQL's own catalogue may not be changed", position);
            }
        }
        if self.is_masking() && !system::is_open_when_masked(&relation.name) {
            let text = format!(
                "\"{}\" may hold values of masked columns or other statements' text",
                relation.name
            );
            self.found.obstacle(text, position);
        }
    }

    /// What using a relation reaches: views, families, triggers, rules, keys, policies, types.
    fn reach(&mut self, relation: &'a Relation, access: Access, position: Option<usize>) {
        if !self.reached.insert((relation.oid, access)) {
            return;
        }
        self.deeper(|walker| match access {
            Access::Read => walker.reach_by_reading(relation, position),
            Access::Write => {
                walker.reach_by_reading(relation, position);
                walker.reach_by_writing(relation, position);
            }
            // A rewrite of a table evaluates its checks, indexes and generated columns.
            Access::Define => {
                walker.reach_trees(relation, &[TreeContext::Check, TreeContext::Index], position);
                walker.reach_generated(relation, position);
            }
        });
    }

    fn reach_by_reading(&mut self, relation: &'a Relation, position: Option<usize>) {
        match relation.kind {
            'f' => self.unknown(
                format!("\"{}\" is a foreign table; what it reaches cannot be told", relation.name),
                position,
            ),
            'v' => self.reach_trees(relation, &[TreeContext::View], position),
            'm' => {
                // Its rows were computed before: what they were computed from matters to
                // masking (see `mask_of`), and the functions do not run again.
                for tree in &relation.trees {
                    for oid in tree.relations.iter().filter(|oid| **oid != relation.oid) {
                        self.note_reached(*oid);
                    }
                }
            }
            'r' | 'p' | 'S' | 'i' | 'I' | 'c' | 't' => {}
            other => self.unknown(
                format!(
                    "\"{}\" is a relation of kind '{other}', which is not known",
                    relation.name
                ),
                position,
            ),
        }
        if relation.has_row_security {
            self.reach_trees(relation, &[TreeContext::Policy], position);
        }
        // A virtual generated column is computed when it is read.
        self.reach_generated(relation, position);
        for column in &relation.columns {
            self.use_type_oid(column.type_oid, position);
        }
        for child in &relation.children {
            if let Some(child) = self.relation_by_oid(*child) {
                self.found.objects.insert(object(child, ObjectRole::Reached));
                self.reach(child, Access::Read, position);
            }
        }
    }

    fn reach_generated(&mut self, relation: &Relation, position: Option<usize>) {
        let is_generated =
            |tree: &&Tree| tree.context == TreeContext::Default && !tree.reads.is_empty();
        for tree in relation.trees.iter().filter(is_generated) {
            for function in &tree.functions {
                self.reach_function(*function, position);
            }
        }
    }

    fn reach_by_writing(&mut self, relation: &'a Relation, position: Option<usize>) {
        self.reach_trees(
            relation,
            &[
                TreeContext::Default,
                TreeContext::Check,
                TreeContext::Index,
                TreeContext::Partition,
                TreeContext::TriggerWhen,
            ],
            position,
        );
        for trigger in &relation.triggers {
            self.reach_function(trigger.function, position);
        }
        let is_ruled = relation.trees.iter().any(|tree| tree.context == TreeContext::Rule);
        if relation.kind == 'v' || is_ruled {
            for tree in relation
                .trees
                .iter()
                .filter(|tree| matches!(tree.context, TreeContext::View | TreeContext::Rule))
            {
                for function in &tree.functions {
                    self.reach_function(*function, position);
                }
                for oid in tree.relations.iter().filter(|oid| **oid != relation.oid) {
                    self.reach_relation(*oid, Access::Write, position);
                }
            }
        }
        for relative in relation.children.iter().chain(&relation.parents) {
            if let Some(relative) = self.relation_by_oid(*relative) {
                self.found.objects.insert(object(relative, ObjectRole::Reached));
                self.reach(relative, Access::Write, position);
            }
        }
        for key in relation.referenced_by.iter().filter(|key| key.is_cascading) {
            self.reach_relation(key.from, Access::Write, position);
        }
        for key in &relation.foreign_keys {
            self.reach_referenced(key.to, &key.to_columns, position);
        }
        for key in relation.referenced_by.iter().filter(|key| !key.is_cascading) {
            self.reach_referenced(key.from, &key.from_columns, position);
        }
    }

    /// A foreign key compares these columns of another relation.
    fn reach_referenced(&mut self, oid: u32, columns: &[i16], position: Option<usize>) {
        let Some(relation) = self.relation_by_oid(oid) else { return };
        self.found.objects.insert(object(relation, ObjectRole::Reached));
        if !self.is_masking() {
            return;
        }
        let is_told = match self.mask_of(relation) {
            RelationMask::Clear => false,
            RelationMask::Closed(_) => true,
            RelationMask::Columns(masked) => relation
                .columns
                .iter()
                .filter(|column| columns.contains(&column.number))
                .any(|column| masked.iter().any(|(name, _)| *name == column.name)),
        };
        if is_told {
            let text = format!(
                "a foreign key would tell whether a masked value of \"{}\" exists",
                relation.name
            );
            self.found.obstacle(text, position);
        }
    }

    fn reach_trees(
        &mut self,
        relation: &'a Relation,
        contexts: &[TreeContext],
        position: Option<usize>,
    ) {
        for tree in relation.trees.iter().filter(|tree| contexts.contains(&tree.context)) {
            for function in &tree.functions {
                self.reach_function(*function, position);
            }
            for oid in tree.relations.iter().filter(|oid| **oid != relation.oid) {
                self.reach_relation(*oid, Access::Read, position);
            }
        }
    }

    /// Something reaches a relation that the statement does not name.
    fn reach_relation(&mut self, oid: u32, access: Access, position: Option<usize>) {
        let Some(relation) = self.relation_by_oid(oid) else {
            if oid >= FIRST_USER_OID {
                self.unknown("a relation that it reaches is not in the catalogue", position);
            }
            return;
        };
        self.found.objects.insert(object(relation, ObjectRole::Reached));
        if relation.is_system {
            self.touch_system(relation, access, position);
            return;
        }
        match access {
            Access::Read => self.found.effect(Effect::Read),
            Access::Write | Access::Define => self.found.effect(Effect::Write),
        }
        if self.is_masking() && self.mask_of(relation) != RelationMask::Clear {
            self.classified_at.get_or_insert(position);
            let text = format!("it reaches \"{}\", which has masked columns", relation.name);
            self.found.obstacle(text, position);
        }
        self.reach(relation, access, position);
    }

    fn note_reached(&mut self, oid: u32) {
        if let Some(relation) = self.relation_by_oid(oid) {
            self.found.objects.insert(object(relation, ObjectRole::Reached));
        }
    }

    pub(super) fn relation_by_oid(&self, oid: u32) -> Option<&'a Relation> {
        let names = self.names?;
        names.session.temporary.relations.get(&oid).or_else(|| names.catalogue.relations.get(&oid))
    }

    /// A stored expression, trigger or operator calls this function.
    pub(super) fn reach_function(&mut self, oid: u32, position: Option<usize>) {
        let Some(names) = self.names() else { return };
        let user = names
            .session
            .temporary
            .functions
            .get(&oid)
            .or_else(|| names.catalogue.functions.get(&oid));
        if let Some(function) = user {
            self.use_user_function(function, Call::Hidden, position);
        } else if let Some(name) = names.catalogue.builtins.get(&oid) {
            self.use_builtin(name, Call::Hidden, position);
        } else if oid >= FIRST_USER_OID {
            self.unknown("it calls a function that is not in the catalogue", position);
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
        let is_reviewed = function.is_privileged
            && function.extension.as_deref().is_some_and(builtins::is_reviewed_extension);
        if is_reviewed {
            if call == Call::Written {
                self.found.effect(Effect::Read);
            }
        } else {
            self.unknown(format!("what function {name} reaches cannot be told"), position);
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
            self.unknown(format!("function {full} is not known"), position);
        }
    }

    /// Like [`Self::call`], where the name may also be something else, such as a column.
    pub(super) fn maybe_call(&mut self, name: &str, position: Option<usize>) {
        let Some(names) = self.names() else { return };
        for function in user_functions(names, None, name) {
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
        for (objects, is_temporary) in
            [(&names.session.temporary, true), (names.catalogue.as_ref(), false)]
        {
            for operator in objects.operators_named(name) {
                let is_visible = match schema {
                    Some(schema) => schema == operator.schema,
                    None => !is_temporary && names.session.path.contains(&operator.schema),
                };
                if is_visible {
                    self.reach_function(operator.function, position);
                }
            }
        }
    }

    pub(super) fn use_type(&mut self, named: &TypeName) {
        let position = offset(named.location);
        if named.pct_type {
            self.unknown("%TYPE is not analysed; name the type", position);
            return;
        }
        let parts = strings(&named.names);
        self.use_type_parts(&parts, position);
        for modifier in &named.typmods {
            self.expression(modifier);
        }
    }

    /// Whether a user-made type of that name is visible; its functions count then.
    pub(super) fn use_type_parts(&mut self, parts: &[&str], position: Option<usize>) -> bool {
        let (schema, name) = split_name(parts);
        if schema == Some("pg_catalog") {
            return false;
        }
        let Some(names) = self.names() else { return true };
        let mut is_found = false;
        for objects in [&names.session.temporary, names.catalogue.as_ref()] {
            for oid in objects.types_named(name) {
                let Some(known) = objects.types.get(oid) else { continue };
                let is_visible = match schema {
                    Some(schema) => schema == known.schema,
                    None => names.session.path.contains(&known.schema),
                };
                if is_visible {
                    is_found = true;
                    self.use_type_oid(*oid, position);
                }
            }
        }
        is_found
    }

    pub(super) fn use_type_oid(&mut self, oid: u32, position: Option<usize>) {
        if oid < FIRST_USER_OID || !self.seen_types.insert(oid) {
            return;
        }
        let Some(names) = self.names() else { return };
        let owner: &Catalogue = if names.session.temporary.types.contains_key(&oid) {
            &names.session.temporary
        } else {
            &names.catalogue
        };
        let Some(known) = owner.types.get(&oid) else {
            self.unknown("a column has a type that is not in the catalogue", position);
            return;
        };
        for cast in &names.catalogue.casts {
            if cast.source == oid || cast.target == oid {
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
                for tree in owner.domain_trees.get(&oid).into_iter().flatten() {
                    for function in &tree.functions {
                        self.reach_function(*function, position);
                    }
                }
                self.deeper(|walker| walker.use_type_oid(known.inner, position));
            }
            _ => {
                for function in known.functions.iter().filter(|function| **function != 0) {
                    self.reach_function(*function, position);
                }
                self.deeper(|walker| walker.use_type_oid(known.inner, position));
            }
        }
    }

    /// Casts between PostgreSQL's own types that a user made may hide a call in any expression.
    pub(super) fn use_global_casts(&mut self) {
        let Some(names) = self.names() else { return };
        for cast in &names.catalogue.casts {
            if cast.source < FIRST_USER_OID && cast.target < FIRST_USER_OID {
                let is_reviewed = names.catalogue.functions.get(&cast.function).is_some_and(|f| {
                    f.is_privileged
                        && f.extension.as_deref().is_some_and(builtins::is_reviewed_extension)
                });
                if !is_reviewed {
                    self.reach_function(cast.function, None);
                }
            }
        }
    }

    /// Functions that run with every definition.
    pub(super) fn use_event_triggers(&mut self) {
        let Some(names) = self.names else { return };
        for function in &names.catalogue.event_triggers {
            self.reach_function(*function, None);
        }
    }

    /// Which columns of a relation are masked, when it is read by its own name.
    pub(super) fn mask_of(&self, relation: &Relation) -> RelationMask {
        let own = self.masked_columns(relation);
        let own_names = || own.iter().map(|(name, _)| name.as_str());
        let closed = |why: &str| {
            RelationMask::Closed(format!("\"{}\" {why}; it may not be used", relation.name))
        };
        for (name, _) in &own {
            if !relation.columns.iter().any(|column| column.name == *name) {
                return closed(&format!(
                    "is classified by a column \"{name}\" that it does not have"
                ));
            }
        }
        let number_is_masked = |number: &i16| {
            relation.columns.iter().any(|column| {
                column.number == *number && own_names().any(|name| name == column.name)
            })
        };
        for tree in &relation.trees {
            let tells = tree.reads.iter().any(number_is_masked);
            match tree.context {
                TreeContext::Default if tells && !number_is_masked(&tree.attribute) => {
                    return closed("has a column that is generated from a masked one");
                }
                TreeContext::Policy if tells => {
                    return closed("has a row security policy that reads a masked column");
                }
                _ => {}
            }
        }
        for relative in self.family(relation) {
            let is_covered = self
                .masked_columns(relative)
                .iter()
                .all(|(name, _)| own_names().any(|own| own == name));
            if !is_covered {
                return closed("is of one family with a relation that has masked columns");
            }
        }
        if matches!(relation.kind, 'v' | 'm') && self.view_reaches_masked(relation) {
            return closed("is a view that reaches masked columns or what cannot be told");
        }
        if own.is_empty() { RelationMask::Clear } else { RelationMask::Columns(own) }
    }

    fn masked_columns(&self, relation: &Relation) -> Vec<(String, ColumnName)> {
        self.masked
            .iter()
            .filter(|name| name.schema == relation.schema && name.table == relation.name)
            .map(|name| (name.column.clone(), name.clone()))
            .collect()
    }

    /// Ancestors and descendants by inheritance and partitioning.
    fn family(&self, relation: &Relation) -> Vec<&'a Relation> {
        let mut family: Vec<&'a Relation> = Vec::new();
        let mut seen: HashSet<u32> = HashSet::from([relation.oid]);
        for direction in [|r: &Relation| r.parents.clone(), |r: &Relation| r.children.clone()] {
            let mut open = direction(relation);
            while let Some(oid) = open.pop() {
                if !seen.insert(oid) {
                    continue;
                }
                if let Some(relative) = self.relation_by_oid(oid) {
                    open.extend(direction(relative));
                    family.push(relative);
                }
            }
        }
        family
    }

    /// Whether a view's definition reaches a masked relation, a telling system relation, a user
    /// function or a foreign table.
    fn view_reaches_masked(&self, view: &Relation) -> bool {
        let mut seen: HashSet<u32> = HashSet::from([view.oid]);
        let mut open: Vec<u32> = Vec::new();
        let mut functions: Vec<u32> = Vec::new();
        let mut add = |relation: &Relation, open: &mut Vec<u32>| {
            for tree in relation
                .trees
                .iter()
                .filter(|tree| matches!(tree.context, TreeContext::View | TreeContext::Policy))
            {
                open.extend(&tree.relations);
                functions.extend(&tree.functions);
            }
        };
        add(view, &mut open);
        while let Some(oid) = open.pop() {
            if !seen.insert(oid) {
                continue;
            }
            let Some(relation) = self.relation_by_oid(oid) else {
                return true;
            };
            let is_telling = relation.is_system && !system::is_open_when_masked(&relation.name);
            let is_masked = !self.masked_columns(relation).is_empty()
                || self.family(relation).iter().any(|one| !self.masked_columns(one).is_empty());
            if is_telling || is_masked || relation.kind == 'f' {
                return true;
            }
            add(relation, &mut open);
        }
        functions.into_iter().any(|oid| !self.is_open_function(oid))
    }

    fn is_open_function(&self, oid: u32) -> bool {
        let Some(names) = self.names else { return false };
        if let Some(name) = names.catalogue.builtins.get(&oid) {
            return builtins::is_open_when_masked(name);
        }
        if oid < FIRST_USER_OID {
            return true;
        }
        names.catalogue.functions.get(&oid).is_some_and(|function| {
            function.is_privileged
                && function.extension.as_deref().is_some_and(builtins::is_reviewed_extension)
        })
    }

    /// Running a materialized view's definition.
    pub(super) fn reach_definition(&mut self, relation: &'a Relation) {
        self.reach_trees(relation, &[TreeContext::View], None);
    }

    /// What was already reached, so that something can be walked apart.
    pub(super) fn take_memory(&mut self) -> Memory {
        Memory {
            reached: std::mem::take(&mut self.reached),
            seen_types: std::mem::take(&mut self.seen_types),
        }
    }

    pub(super) fn put_memory(&mut self, memory: Memory) {
        self.reached = memory.reached;
        self.seen_types = memory.seen_types;
    }

    /// Whether a schema holds a relation with masked columns.
    pub(super) fn schema_is_classified(&self, schema: &str) -> bool {
        self.masked.iter().any(|name| name.schema == schema)
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
