//! Which columns of a relation are masked, and which relations may not be touched because of
//! what they are computed from, related to, or filtered by.

use std::collections::HashSet;

use corral_model::resource::ColumnName;

use super::catalogue::{FIRST_USER_OID, Relation, TreeContext};
use super::walker::{Walker, is_reviewed};
use super::{builtins, system};

/// Which columns of a relation are masked, when it is read by its own name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RelationMask {
    Clear,
    /// Name of the column in the relation, and the classified column.
    Columns(Vec<(String, ColumnName)>),
    /// It may not be touched at all, for this reason.
    Closed(String),
}

impl<'a> Walker<'a> {
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
        // 0 is the whole row.
        let number_is_masked = |number: &i16| {
            relation.columns.iter().any(|column| {
                (column.number == *number || *number == 0)
                    && own_names().any(|name| name == column.name)
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
        // Partitions' bounds and sizes are in the catalogue, and the order of rows goes by them.
        if self.is_parted_by_masked(relation, &own) {
            return closed("has its rows in partitions by a masked column");
        }
        if matches!(relation.kind, 'v' | 'm') && self.view_reaches_masked(relation) {
            return closed("is a view that reaches masked columns or what cannot be told");
        }
        if own.is_empty() { RelationMask::Clear } else { RelationMask::Columns(own) }
    }

    /// Whether a masked column decides in which partition a row is: the relation's own partitions,
    /// or those that it is one of or has below it.
    fn is_parted_by_masked(&self, relation: &Relation, own: &[(String, ColumnName)]) -> bool {
        let is_key = |parted: &Relation| {
            let columns = self.masked_columns(parted);
            let is_masked = |name: &str| columns.iter().chain(own).any(|(known, _)| known == name);
            parted.trees.iter().filter(|tree| tree.context == TreeContext::Partition).any(|tree| {
                parted.columns.iter().any(|column| {
                    is_masked(&column.name)
                        && tree.reads.iter().any(|read| *read == 0 || *read == column.number)
                })
            })
        };
        is_key(relation)
            || self.ancestors(relation).into_iter().any(is_key)
            || self.descendants(relation).into_iter().any(is_key)
    }

    fn masked_columns(&self, relation: &Relation) -> Vec<(String, ColumnName)> {
        if relation.is_system {
            return self.masked_system_columns(relation);
        }
        self.masked
            .iter()
            .filter(|name| name.schema == relation.schema && name.table == relation.name)
            .map(|name| (name.column.clone(), name.clone()))
            .collect()
    }

    /// Columns of PostgreSQL's own catalogue that hold values of user columns.
    fn masked_system_columns(&self, relation: &Relation) -> Vec<(String, ColumnName)> {
        let column = system::telling_column(&relation.name)
            .filter(|_| self.is_masking())
            .filter(|column| relation.columns.iter().any(|known| known.name == *column));
        let name = |column: &str| ColumnName {
            schema: relation.schema.clone(),
            table: relation.name.clone(),
            column: column.to_owned(),
        };
        column.into_iter().map(|column| (column.to_owned(), name(column))).collect()
    }

    /// Whoever has rows in common with it: its ancestors, its descendants and theirs, which may
    /// have other ancestors.
    fn family(&self, relation: &Relation) -> Vec<&'a Relation> {
        let descendants = self.descendants(relation);
        let mut seen: HashSet<u32> = HashSet::from([relation.oid]);
        let mut family = self.ancestors(relation);
        family.extend(descendants.iter().flat_map(|child| self.ancestors(child)));
        family.extend(descendants);
        family.retain(|relative| seen.insert(relative.oid));
        family
    }

    fn ancestors(&self, relation: &Relation) -> Vec<&'a Relation> {
        let mut seen: HashSet<u32> = HashSet::from([relation.oid]);
        let mut pending = self.parents(relation);
        let mut family = Vec::new();
        while let Some(parent) = pending.pop() {
            if seen.insert(parent.oid) {
                pending.extend(self.parents(parent));
                family.push(parent);
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
        names.catalogue.functions.get(&oid).is_some_and(is_reviewed)
    }

    /// Whether a schema holds a relation with masked columns.
    pub(super) fn schema_is_classified(&self, schema: &str) -> bool {
        self.masked.iter().any(|name| name.schema == schema)
    }
}
