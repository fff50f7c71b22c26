//! Rows of the two queries into maps. Knows the queries' columns and nothing of statements.

use corral_model::limits::CATALOGUE_OBJECTS_MAX;
use sha2::{Digest, Sha256};

use super::{
    Backslash, Body, Cast, Catalogue, CatalogueError, Column, FIRST_USER_OID, ForeignKey, Function,
    Operator, Relation, Row, SessionNames, Tree, TreeContext, Trigger, Type, node_text, planned,
};

pub(super) fn catalogue(rows: &[Row]) -> Result<Catalogue, CatalogueError> {
    if rows.len() > CATALOGUE_OBJECTS_MAX {
        return Err(CatalogueError::TooLarge(CATALOGUE_OBJECTS_MAX));
    }
    let mut found = Catalogue { digest: digest(rows), ..Catalogue::default() };
    for row in rows {
        add_object(&mut found, &Cells(row))?;
    }
    // Parts come in any order, so they are joined to their relations when those are known.
    for row in rows {
        add_part(&mut found, &Cells(row))?;
    }
    for relation in found.relations.values_mut() {
        relation.columns.sort_by_key(|column| column.number);
    }
    for (oid, known) in &found.types {
        if let Some(relation) = found.relations.get_mut(&known.relation) {
            relation.row_type = *oid;
        }
    }
    Ok(found)
}

pub(super) fn session(rows: &[Row]) -> Result<SessionNames, CatalogueError> {
    let mut objects: Vec<Row> = Vec::new();
    let mut path: Vec<(u32, String)> = Vec::new();
    let is_named = |row: &&Row| !is_isolation(&Cells(row));
    let digest = digest(rows.iter().filter(is_named));
    let mut names = SessionNames { digest, ..SessionNames::default() };
    for row in rows.iter().filter(is_named) {
        let cells = Cells(row);
        match cells.text(0) {
            "path" => path.push((cells.number(1)?, cells.text(2).to_owned())),
            "setting" => {
                let value = match (cells.text(1), cells.text(2)) {
                    // PostgreSQL keeps this alias as it was written, for old JDBC drivers.
                    ("client_encoding", "UNICODE") => "UTF8",
                    (_, value) => value,
                };
                names.settings.insert(cells.text(1).to_owned(), value.to_owned());
            }
            _ => objects.push(row.clone()),
        }
    }
    let setting = |name: &'static str| {
        names.settings.get(name).cloned().ok_or(CatalogueError::Incomplete(name))
    };
    setting("temporary")?;
    let temporary_schema = match names.settings.get("temp_schema") {
        Some(schema) => Some(schema.clone()),
        None if has_temporary_schema(rows) => {
            return Err(CatalogueError::Incomplete("temp_schema"));
        }
        None => None,
    };
    setting("client_encoding")?;
    names.backslash = match setting("standard_conforming_strings")?.as_str() {
        "on" => Backslash::Letter,
        "off" => Backslash::Escape,
        _ => return Err(CatalogueError::Incomplete("standard_conforming_strings")),
    };
    if path.is_empty() {
        return Err(CatalogueError::Incomplete("search_path"));
    }
    path.sort_unstable();
    names.path = path
        .into_iter()
        .map(|(_, name)| match &temporary_schema {
            Some(temporary) if name == *temporary => "pg_temp".to_owned(),
            _ => name,
        })
        .collect();
    names.temporary = catalogue(&objects)?;
    Ok(names)
}

/// Whether these rows of [`super::SESSION_SQL`] tell of a schema for temporary objects.
pub(crate) fn has_temporary_schema(rows: &[Row]) -> bool {
    rows.iter().map(Cells).any(|cells| {
        cells.text(0) == "setting" && cells.text(1) == "temporary" && cells.text(2) != "0"
    })
}

/// Whether a transaction of the session keeps its snapshot from its first statement on, as these
/// rows of [`super::SESSION_SQL`] tell it: the present one, or the next. It changes no meaning of
/// names, only what can be read of them.
pub(crate) fn keeps_snapshot(rows: &[Row]) -> bool {
    let mut levels = rows.iter().map(Cells).filter(is_isolation);
    levels.any(|cells| !matches!(cells.text(2), "read committed" | "read uncommitted"))
}

fn is_isolation(cells: &Cells<'_>) -> bool {
    cells.text(0) == "setting"
        && matches!(cells.text(1), "transaction_isolation" | "default_transaction_isolation")
}

/// Of the rows in whatever order: the target sends them as it finds them, and to sort them would
/// be a quarter of its time.
fn digest<'r>(rows: impl IntoIterator<Item = &'r Row>) -> String {
    let mut each: Vec<[u8; 32]> = rows.into_iter().map(digest_of_row).collect();
    each.sort_unstable();
    let mut hash = Sha256::new();
    for digest in &each {
        hash.update(digest);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn digest_of_row(row: &Row) -> [u8; 32] {
    let mut hash = Sha256::new();
    for cell in row {
        match cell {
            Some(text) => {
                hash.update((text.len() as u64).to_be_bytes());
                hash.update(text.as_bytes());
            }
            None => hash.update([0xFF; 8]),
        }
    }
    hash.finalize().into()
}

fn add_object(found: &mut Catalogue, cells: &Cells<'_>) -> Result<(), CatalogueError> {
    match cells.text(0) {
        "relation" | "system_relation" => add_relation(found, cells)?,
        "function" => {
            let oid = cells.number(1)?;
            let function = Function {
                oid,
                schema: cells.text(2).to_owned(),
                name: cells.text(3).to_owned(),
                extension: cells.optional(6),
                is_privileged: cells.text(7) == "t",
                is_sql: cells.text(5) == "sql",
                types: function_types(cells)?,
                defaults: None,
                body: None,
            };
            found.function_names.entry(function.name.clone()).or_default().push(oid);
            found.functions.insert(oid, function);
        }
        "builtin" => {
            found.builtins.insert(cells.number(1)?, cells.text(3).to_owned());
        }
        "operator" => {
            let oid = cells.number(1)?;
            let partners = [cells.numbers(5)?, cells.numbers(6)?].concat();
            let operator = Operator {
                schema: cells.text(2).to_owned(),
                function: cells.number(4)?,
                partners: partners.into_iter().filter(|oid| *oid != 0).collect(),
            };
            found.operator_names.entry(cells.text(3).to_owned()).or_default().push(oid);
            found.operators.insert(oid, operator);
        }
        "cast" => found.casts.push(Cast {
            source: cells.number(2)?,
            target: cells.number(3)?,
            function: cells.number(4)?,
        }),
        "type" => {
            let oid = cells.number(1)?;
            let known = Type {
                schema: cells.text(2).to_owned(),
                name: cells.text(3).to_owned(),
                kind: cells.letter(4)?,
                inner: cells.number(5)?,
                relation: cells.number(6)?,
                functions: cells.numbers(7)?,
            };
            found.type_names.entry(known.name.clone()).or_default().push(oid);
            found.types.insert(oid, known);
        }
        "event_trigger" => found.event_triggers.push(cells.number(2)?),
        "body" | "column" | "inherits" | "tree" | "trigger" | "foreign_key" => {}
        other => return Err(CatalogueError::Row(format!("its kind is '{other}'"))),
    }
    Ok(())
}

fn add_relation(found: &mut Catalogue, cells: &Cells<'_>) -> Result<(), CatalogueError> {
    let is_system = cells.text(0) == "system_relation";
    let mut relation = Relation {
        oid: cells.number(1)?,
        schema: cells.text(2).to_owned(),
        name: cells.text(3).to_owned(),
        kind: cells.letter(4)?,
        is_system,
        ..Relation::default()
    };
    if is_system {
        // The names of initdb's own columns hold no comma.
        let names = cells.text(5).split(',').filter(|name| !name.is_empty());
        relation.columns = (1_i16..)
            .zip(names)
            .map(|(number, name)| Column { number, name: name.to_owned(), type_oid: 0 })
            .collect();
    } else {
        relation.has_row_security = cells.text(5) == "t";
        relation.index_of = match cells.optional(6) {
            Some(_) => Some(cells.number(6)?),
            None => None,
        };
    }
    found
        .relation_names
        .entry(relation.schema.clone())
        .or_default()
        .insert(relation.name.clone(), relation.oid);
    found.relations.insert(relation.oid, relation);
    Ok(())
}

fn add_part(found: &mut Catalogue, cells: &Cells<'_>) -> Result<(), CatalogueError> {
    match cells.text(0) {
        "body" => {
            let body = Body { text: cells.text(2).to_owned(), types: cells.numbers(3)? };
            if let Some(function) = found.functions.get_mut(&cells.number(1)?) {
                function.body = Some(body);
            }
        }
        "column" => {
            let column = Column {
                number: cells.small(2)?,
                name: cells.text(3).to_owned(),
                type_oid: cells.number(4)?,
            };
            if let Some(relation) = found.relations.get_mut(&cells.number(1)?) {
                relation.columns.push(column);
            }
        }
        "inherits" => {
            let (child, parent): (u32, u32) = (cells.number(1)?, cells.number(2)?);
            if let Some(relation) = found.relations.get_mut(&child) {
                relation.parents.push(parent);
            }
            found.children.entry(parent).or_default().push(child);
        }
        "tree" => {
            let owner: u32 = cells.number(1)?;
            let tree = tree(cells)?;
            match tree.context {
                TreeContext::Domain | TreeContext::DomainDefault => {
                    found.domain_trees.entry(owner).or_default().push(tree);
                }
                TreeContext::Argument => {
                    if let Some(function) = found.functions.get_mut(&owner) {
                        function.defaults = Some(tree);
                    }
                }
                _ => {
                    if let Some(relation) = found.relations.get_mut(&owner) {
                        relation.trees.push(tree);
                    }
                }
            }
        }
        "trigger" => {
            let is_enabled = cells.text(4) != "D";
            let trigger = Trigger { function: cells.number(2)? };
            if let Some(relation) = found.relations.get_mut(&cells.number(1)?)
                && is_enabled
            {
                relation.triggers.push(trigger);
            }
        }
        "foreign_key" => {
            let is_cascading = |action: &str| matches!(action, "c" | "n" | "d");
            let key = ForeignKey {
                from: cells.number(1)?,
                to: cells.number(2)?,
                from_columns: cells.numbers(3)?,
                to_columns: cells.numbers(4)?,
                is_cascading: is_cascading(cells.text(5)) || is_cascading(cells.text(6)),
            };
            if let Some(relation) = found.relations.get_mut(&key.to) {
                relation.referenced_by.push(key.clone());
            }
            if let Some(relation) = found.relations.get_mut(&key.from) {
                relation.foreign_keys.push(key);
            }
        }
        _ => {}
    }
    Ok(())
}

fn tree(cells: &Cells<'_>) -> Result<Tree, CatalogueError> {
    let context = match cells.text(2) {
        "view" => TreeContext::View,
        "rule" => TreeContext::Rule,
        "default" => TreeContext::Default,
        "check" => TreeContext::Check,
        "domain" => TreeContext::Domain,
        "domain_default" => TreeContext::DomainDefault,
        "argument" => TreeContext::Argument,
        "statistics" => TreeContext::Statistics,
        "index" => TreeContext::Index,
        "policy" => TreeContext::Policy,
        "trigger_when" => TreeContext::TriggerWhen,
        "partition" => TreeContext::Partition,
        other => return Err(CatalogueError::Row(format!("its expression is of '{other}'"))),
    };
    let attribute = if context == TreeContext::Default { cells.small(3)? } else { 0 };
    let text = cells.text(5);
    let named = node_text::named(text);
    let functions: Vec<u32> = named.functions.into_iter().collect();
    let mut reads: Vec<i16> = Vec::new();
    let mut planned: Vec<u32> = Vec::new();
    match context {
        TreeContext::Default | TreeContext::Policy => reads.extend(named.attributes),
        TreeContext::Partition => {
            // 0 stands for an expression, whose columns are in its text.
            reads = cells.numbers(3)?.into_iter().filter(|number| *number != 0).collect();
            reads.extend(named.attributes);
            planned = users(functions.clone());
        }
        TreeContext::Check | TreeContext::Index | TreeContext::Statistics => {
            planned = users(functions.clone());
            if !planned.is_empty() {
                planned = planned::foldable(text).unwrap_or(planned);
            }
        }
        _ => {}
    }
    Ok(Tree {
        context,
        attribute,
        relations: named.relations.into_iter().collect(),
        functions,
        types: named.types.into_iter().collect(),
        operators: named.operators.into_iter().collect(),
        reads,
        planned,
    })
}

/// What users made.
fn users(mut oids: Vec<u32>) -> Vec<u32> {
    oids.retain(|oid| *oid >= FIRST_USER_OID);
    oids
}

/// The types of a function: behind its kind and which version of the row it is.
fn function_types(cells: &Cells<'_>) -> Result<Vec<u32>, CatalogueError> {
    let parts = cells.text(4).split(' ').skip(2).filter(|part| !part.is_empty());
    let types: Option<Vec<u32>> = parts.map(|part| part.parse().ok()).collect();
    Ok(users(types.ok_or_else(|| cells.fault(4, "of numbers"))?))
}

fn numbers<N: std::str::FromStr>(list: &str) -> Option<Vec<N>> {
    list.split(',').filter(|part| !part.is_empty()).map(|part| part.parse().ok()).collect()
}

/// The cells of one row; what is missing reads as empty.
struct Cells<'a>(&'a Row);

impl Cells<'_> {
    fn text(&self, index: usize) -> &str {
        self.0.get(index).and_then(Option::as_deref).unwrap_or("")
    }

    fn optional(&self, index: usize) -> Option<String> {
        let text = self.text(index);
        (!text.is_empty()).then(|| text.to_owned())
    }

    fn number(&self, index: usize) -> Result<u32, CatalogueError> {
        self.text(index).parse().map_err(|_| self.fault(index, "a number"))
    }

    fn small(&self, index: usize) -> Result<i16, CatalogueError> {
        self.text(index).parse().map_err(|_| self.fault(index, "an attribute number"))
    }

    fn letter(&self, index: usize) -> Result<char, CatalogueError> {
        self.text(index).chars().next().ok_or_else(|| self.fault(index, "a letter"))
    }

    fn numbers<N: std::str::FromStr>(&self, index: usize) -> Result<Vec<N>, CatalogueError> {
        numbers(self.text(index)).ok_or_else(|| self.fault(index, "a list of numbers"))
    }

    fn fault(&self, index: usize, expected: &str) -> CatalogueError {
        let kind = self.text(0);
        CatalogueError::Row(format!("cell {index} of a '{kind}' is not {expected}"))
    }
}
