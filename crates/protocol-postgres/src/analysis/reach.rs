//! What using a relation reaches: views, families, triggers, rules, keys, policies, expressions.

use std::collections::BTreeSet;

use corral_model::{Effect, ObjectRole};

use super::catalogue::{FIRST_USER_OID, Relation, Tree, TreeContext, Type};
use super::mask::RelationMask;
use super::system;
use super::walker::{Access, Walker, is_reviewed, object};

impl<'a> Walker<'a> {
    /// Notes that the statement names a relation, and all that it reaches by that.
    pub(super) fn touch(
        &mut self,
        relation: &'a Relation,
        access: Access,
        position: Option<usize>,
    ) {
        let role = match access {
            Access::Read | Access::Lock => ObjectRole::Read,
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
                    if !matches!(access, Access::Read | Access::Lock) {
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
            Access::Lock => {}
            Access::Read => self.found.effect(system::read_effect(&relation.name)),
            Access::Write | Access::Define => {
                self.found.effect(Effect::Administer);
                self.refuse_when_masked("PostgreSQL's own catalogue may not be changed", position);
            }
        }
        if self.mask_of(relation) != RelationMask::Clear {
            self.classified_at.get_or_insert(position);
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
    pub(super) fn reach(
        &mut self,
        relation: &'a Relation,
        access: Access,
        position: Option<usize>,
    ) {
        if !self.reached.insert((relation.oid, access)) {
            return;
        }
        self.deeper(|walker| match access {
            Access::Lock => {}
            Access::Read => walker.reach_by_reading(relation, position),
            Access::Write => {
                walker.reach_by_reading(relation, position);
                walker.reach_by_writing(relation, position);
            }
            // A rewrite of a table evaluates its checks, indexes and generated columns; ANALYZE
            // its statistics. Partitions and children are defined with it.
            Access::Define => {
                let contexts = [TreeContext::Check, TreeContext::Index, TreeContext::Statistics];
                walker.reach_trees(relation, &contexts, position);
                walker.reach_generated(relation, position);
                walker.reach_ranges(relation);
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
        self.reach_by_planning(relation, position);
        // A whole row is a value, too.
        self.use_type_oid(relation.row_type, position);
        for column in &relation.columns {
            self.use_type_oid(column.type_oid, position);
        }
        for child in self.children(relation) {
            self.found.objects.insert(object(child, ObjectRole::Reached));
            self.reach(child, Access::Read, position);
        }
    }

    /// Statistics and indexes of ranges ask for the difference of two values.
    pub(super) fn reach_ranges(&mut self, relation: &'a Relation) {
        for column in &relation.columns {
            self.reach_range(column.type_oid);
        }
    }

    fn reach_range(&mut self, oid: u32) {
        if oid < FIRST_USER_OID {
            return;
        }
        let Some(names) = self.names else { return };
        let temporary = &names.session.temporary;
        let known = temporary.types.get(&oid).or_else(|| names.catalogue.types.get(&oid));
        let Some(known) = known else { return };
        match known.kind {
            // A multirange does not tell its range.
            'r' | 'm' => {
                let all = [temporary, names.catalogue.as_ref()];
                let is_meant = |(other, range): &(&u32, &Type)| {
                    range.kind == 'r' && (known.kind == 'm' || **other == oid)
                };
                let ranges = all.into_iter().flat_map(|objects| &objects.types).filter(is_meant);
                let functions = ranges.flat_map(|(_, range)| &range.functions);
                for function in functions.filter(|function| **function != 0) {
                    self.reach_function(*function, None);
                }
            }
            'd' => self.deeper(|walker| walker.reach_range(known.inner)),
            _ => {}
        }
    }

    fn reach_generated(&mut self, relation: &Relation, position: Option<usize>) {
        let is_generated =
            |tree: &&Tree| tree.context == TreeContext::Default && !tree.reads.is_empty();
        for tree in relation.trees.iter().filter(is_generated) {
            self.reach_code(tree, position);
        }
    }

    /// Constant parts of predicates, checks, keys and statistics are computed by the planner,
    /// whatever a query wants of the relation.
    fn reach_by_planning(&mut self, relation: &Relation, position: Option<usize>) {
        let is_planned = |tree: &&Tree| {
            matches!(
                tree.context,
                TreeContext::Check
                    | TreeContext::Index
                    | TreeContext::Partition
                    | TreeContext::Statistics
            )
        };
        let functions: BTreeSet<u32> = relation
            .trees
            .iter()
            .filter(is_planned)
            .flat_map(|tree| {
                let is_called = |oid: &&u32| tree.planned.contains(oid) || self.is_in_sql(**oid);
                tree.functions.iter().filter(is_called)
            })
            .copied()
            .collect();
        for oid in functions {
            self.plan_function(oid, position);
        }
    }

    /// Whether the planner may put a function's body in its place, and go on from there.
    fn is_in_sql(&self, oid: u32) -> bool {
        self.function_by_oid(oid).is_some_and(|function| function.is_sql)
    }

    /// A function that planning calls counts where it does more than to read.
    fn plan_function(&mut self, oid: u32, position: Option<usize>) {
        if self.quiet_functions.contains(&oid) {
            return;
        }
        let count = self.body_count;
        let inner = self.aside(|walker| match walker.function_by_oid(oid) {
            Some(function) if !is_reviewed(function) => match &function.body {
                // Its statements are looked at as the session's own, in a masked session, too.
                Some(body) => walker.run_body(&function.name, body, position),
                None => walker.reach_function(oid, position),
            },
            _ => walker.reach_function(oid, position),
        });
        if inner.is_quiet() {
            self.body_count = count;
            self.quiet_functions.insert(oid);
        } else {
            self.reach_function(oid, position);
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
        for column in &relation.columns {
            self.use_type_default(column.type_oid, position);
        }
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
                self.reach_code(tree, position);
                for oid in tree.relations.iter().filter(|oid| **oid != relation.oid) {
                    self.reach_relation(*oid, Access::Write, position);
                }
            }
        }
        for relative in self.children(relation).into_iter().chain(self.parents(relation)) {
            self.found.objects.insert(object(relative, ObjectRole::Reached));
            self.reach(relative, Access::Write, position);
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

    pub(super) fn reach_trees(
        &mut self,
        relation: &'a Relation,
        contexts: &[TreeContext],
        position: Option<usize>,
    ) {
        for tree in relation.trees.iter().filter(|tree| contexts.contains(&tree.context)) {
            self.reach_code(tree, position);
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
            Access::Read | Access::Lock => self.found.effect(Effect::Read),
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

    /// Running a materialized view's definition.
    pub(super) fn reach_definition(&mut self, relation: &'a Relation) {
        self.reach_trees(relation, &[TreeContext::View], None);
    }
}
