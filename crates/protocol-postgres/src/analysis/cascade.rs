//! What a definition changes beside what it names: children, what a CASCADE drops or alters.
//! Nothing is evaluated here, objects are listed.

use std::collections::{HashMap, HashSet};

use corral_model::ObjectRole;
use pg_query::protobuf::{DropStmt, ObjectType, RangeVar};

use super::Names;
use super::catalogue::{Catalogue, Relation, TreeContext, Type};
use super::define::name_parts;
use super::mask::RelationMask;
use super::named::range_var;
use super::walker::{Access, Walker, find_relation, object, offset};

/// Relations that are listed because of one statement; one that may change more is unknown.
const DEPENDENTS_MAX: usize = 2_000;

/// What depends on relations and types.
#[derive(Default)]
struct Dependents {
    /// Views: dropped with the relation.
    views: HashMap<u32, Vec<u32>>,
    /// Rules, policies, defaults, checks that read the relation: they are dropped.
    readers: HashMap<u32, Vec<u32>>,
    row_types: HashMap<u32, Vec<u32>>,
    /// Arrays, domains and ranges of a type.
    made_of: HashMap<u32, Vec<u32>>,
    columns: HashMap<u32, Vec<u32>>,
}

impl Dependents {
    fn add(&mut self, catalogue: &Catalogue) {
        for relation in catalogue.relations.values().filter(|relation| !relation.is_system) {
            for tree in &relation.trees {
                let is_view = tree.context == TreeContext::View;
                let list = if is_view { &mut self.views } else { &mut self.readers };
                for oid in tree.relations.iter().filter(|oid| **oid != relation.oid) {
                    list.entry(*oid).or_default().push(relation.oid);
                }
            }
            for column in &relation.columns {
                self.columns.entry(column.type_oid).or_default().push(relation.oid);
            }
        }
        for (oid, known) in &catalogue.types {
            if known.kind == 'c' {
                self.row_types.entry(known.relation).or_default().push(*oid);
            }
            if known.inner != 0 {
                self.made_of.entry(known.inner).or_default().push(*oid);
            }
        }
    }

    /// Relations with a column of the relation's row type, or of one that is made of it.
    fn users_of_row(&self, oid: u32) -> Vec<u32> {
        let mut pending: Vec<u32> = self.row_types.get(&oid).cloned().unwrap_or_default();
        let mut seen: HashSet<u32> = pending.iter().copied().collect();
        let mut users = Vec::new();
        while let Some(kind) = pending.pop() {
            users.extend(self.columns.get(&kind).into_iter().flatten());
            for other in self.made_of.get(&kind).into_iter().flatten() {
                if seen.insert(*other) {
                    pending.push(*other);
                }
            }
        }
        users
    }
}

impl<'a> Walker<'a> {
    /// Partitions and children, and theirs.
    pub(super) fn descendants(&self, relation: &Relation) -> Vec<&'a Relation> {
        let mut seen: HashSet<u32> = HashSet::from([relation.oid]);
        let mut pending = self.children(relation);
        let mut family = Vec::new();
        while let Some(child) = pending.pop() {
            if seen.insert(child.oid) {
                pending.extend(self.children(child));
                family.push(child);
            }
        }
        family
    }

    /// Lists the children of a relation that is defined.
    pub(super) fn note_family(&mut self, relation: &'a Relation) {
        for child in self.descendants(relation) {
            self.note_dependent(child);
        }
    }

    /// What is evaluated of a relation that is altered is evaluated of its children.
    pub(super) fn define_family(&mut self, relation: &'a Relation, position: Option<usize>) {
        for child in self.descendants(relation) {
            self.note_dependent(child);
            self.reach(child, Access::Define, position);
        }
    }

    fn note_dependent(&mut self, relation: &Relation) {
        self.found.objects.insert(object(relation, ObjectRole::Reached));
        if self.is_masking() && self.mask_of(relation) != RelationMask::Clear {
            let text = format!("it changes \"{}\", which has masked columns", relation.name);
            self.found.obstacle(text, None);
        }
    }

    /// What CASCADE drops with these relations, and what it alters.
    pub(super) fn reach_dependents(&mut self, roots: &[u32]) {
        let Some(names) = self.names() else { return };
        let mut dependents = Dependents::default();
        dependents.add(&names.catalogue);
        dependents.add(&names.session.temporary);
        let mut dropped: HashSet<u32> = roots.iter().copied().collect();
        let mut altered: HashSet<u32> = HashSet::new();
        let mut pending: Vec<u32> = roots.to_vec();
        while let Some(oid) = pending.pop() {
            let Some(relation) = self.relation_by_oid(oid) else { continue };
            let children = self.children(relation).into_iter().map(|child| child.oid);
            let views = dependents.views.get(&oid).into_iter().flatten().copied();
            for other in children.chain(views) {
                if dropped.insert(other) {
                    pending.push(other);
                }
            }
            altered.extend(relation.referenced_by.iter().map(|key| key.from));
            altered.extend(dependents.readers.get(&oid).into_iter().flatten());
            altered.extend(dependents.users_of_row(oid));
        }
        let mut all: Vec<u32> = dropped.union(&altered).copied().collect();
        all.sort_unstable();
        self.note_dependents(&all);
    }

    /// Something whose dependents the catalogue does not tell: every relation may be one; with a
    /// schema, every one in it.
    pub(super) fn reach_every_relation(&mut self, schema: Option<&str>) {
        let mut all = self.every_relation(schema);
        all.sort_unstable();
        self.note_dependents(&all);
    }

    pub(super) fn every_relation(&mut self, schema: Option<&str>) -> Vec<u32> {
        self.found.is_definition = true;
        let Some(names) = self.names else { return Vec::new() };
        [names.catalogue.as_ref(), &names.session.temporary]
            .into_iter()
            .flat_map(|objects| objects.relations.values())
            .filter(|relation| !relation.is_system && !matches!(relation.kind, 'i' | 'I'))
            .filter(|relation| schema.is_none_or(|schema| relation.schema == schema))
            .map(|relation| relation.oid)
            .collect()
    }

    /// DROP … CASCADE.
    pub(super) fn drop_cascading(&mut self, kind: ObjectType, found: &DropStmt) {
        let Some(names) = self.names() else { return };
        let mut roots: Vec<u32> = Vec::new();
        for node in &found.objects {
            let parts = name_parts(node);
            match kind {
                ObjectType::ObjectTable
                | ObjectType::ObjectView
                | ObjectType::ObjectMatview
                | ObjectType::ObjectForeignTable
                | ObjectType::ObjectIndex => {
                    let named = range_var(&parts);
                    let relation = named.and_then(|named| find_relation(names, &named));
                    // A key of another table may rest on an index.
                    roots.extend(relation.map(|known| known.index_of.unwrap_or(known.oid)));
                }
                ObjectType::ObjectSchema => {
                    let schema = parts.last().copied().unwrap_or_default();
                    if holds_more_than_relations(names, schema) {
                        self.reach_every_relation(None);
                        return;
                    }
                    roots.extend(self.every_relation(Some(schema)));
                }
                // Nothing depends on them.
                ObjectType::ObjectTrigger
                | ObjectType::ObjectRule
                | ObjectType::ObjectPolicy
                | ObjectType::ObjectStatisticExt
                | ObjectType::ObjectEventTrigger
                | ObjectType::ObjectPublication
                | ObjectType::ObjectConversion => {}
                _ => {
                    self.reach_every_relation(None);
                    return;
                }
            }
        }
        self.reach_dependents(&roots);
    }

    fn note_dependents(&mut self, oids: &[u32]) {
        if oids.len() > DEPENDENTS_MAX {
            self.unknown("it may change more relations than are listed", None);
            return;
        }
        for oid in oids {
            if let Some(relation) = self.relation_by_oid(*oid) {
                self.note_dependent(relation);
            }
        }
    }

    /// TRUNCATE … CASCADE: every table with a key to one that is emptied is emptied, too.
    pub(super) fn truncate_cascading(&mut self, root: &'a Relation, named: &RangeVar) {
        let mut seen: HashSet<u32> = HashSet::from([root.oid]);
        let mut pending = vec![root];
        while let Some(relation) = pending.pop() {
            let keys = relation.referenced_by.iter();
            let referencing = keys.filter_map(|key| self.relation_by_oid(key.from));
            let others: Vec<&Relation> = referencing.chain(self.children(relation)).collect();
            for other in others {
                if seen.insert(other.oid) {
                    pending.push(other);
                    self.touch_truncated(other, named);
                }
            }
        }
    }

    /// It loses its rows, and for policies it is defined.
    pub(super) fn touch_truncated(&mut self, relation: &'a Relation, named: &RangeVar) {
        self.touch(relation, Access::Write, offset(named.location));
        self.found.objects.insert(object(relation, ObjectRole::Define));
    }
}

/// Whether a schema has functions, operators or types of their own, which anything may use.
fn holds_more_than_relations(names: &Names, schema: &str) -> bool {
    [names.catalogue.as_ref(), &names.session.temporary].into_iter().any(|objects| {
        // Row types come and go with their relations, and so do the arrays of them.
        let is_of_row = |known: &Type| {
            let inner = objects.types.get(&known.inner);
            [Some(known), inner].into_iter().flatten().any(|known| {
                known.kind == 'c'
                    && objects.relations.get(&known.relation).is_some_and(|r| r.kind != 'c')
            })
        };
        objects.functions.values().any(|function| function.schema == schema)
            || objects.types.values().any(|known| known.schema == schema && !is_of_row(known))
            || objects.has_operators_in(schema)
    })
}
