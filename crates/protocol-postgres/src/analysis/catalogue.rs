//! What a target's catalogue and a session's probe tell about names. Rows in, maps out; the
//! queries are here, whoever sends them is elsewhere.

mod fixture;
mod node_text;
mod planned;
mod read;

use std::collections::{BTreeMap, HashMap};

use corral_model::resource::ColumnName;

pub use fixture::rows_of_text;
pub(crate) use read::{has_temporary_schema, keeps_snapshot};

/// Reads the database's catalogue. One statement, eight columns; every cell is text or NULL. An ordinary login
/// may run it, on PostgreSQL 13 to 18. As the others here it names the schema of everything, of
/// operators too: the client sets the path, and may have made a `||` that hides what a view reads.
pub const LOAD_SQL: &str = include_str!("catalogue/load.sql");

/// Reads what a session adds, but for its temporary objects: search path, roles, watched settings.
/// Cheap also for a server process that has just begun (0.5 ms beside 7 ms for both).
pub const SESSION_SQL: &str = include_str!("catalogue/session.sql");

/// Reads a session's temporary objects; for those alone whose [`SESSION_SQL`] tells of a schema for
/// them.
pub const TEMPORARY_SQL: &str = include_str!("catalogue/temporary.sql");

/// One row of an answer, as text cells.
pub type Row = Vec<Option<String>>;

/// Objects below this number were made by initdb.
pub(super) const FIRST_USER_OID: u32 = 16_384;

/// Why rows are no catalogue: the target's fault, or a version that is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogueError {
    #[error("the target's catalogue has a row that is not understood: {0}")]
    Row(String),
    #[error("the target's catalogue has more than {0} objects")]
    TooLarge(usize),
    #[error("the session's answers did not tell {0}")]
    Incomplete(&'static str),
}

/// The objects of a database, or the temporary ones of a session.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    digest: String,
    pub(super) relations: HashMap<u32, Relation>,
    /// Schema, then name.
    relation_names: HashMap<String, HashMap<String, u32>>,
    /// By parent, which may be a relation of another catalogue: a temporary table may be a child of
    /// a permanent one.
    children: HashMap<u32, Vec<u32>>,
    pub(super) functions: HashMap<u32, Function>,
    function_names: HashMap<String, Vec<u32>>,
    /// PostgreSQL's own functions that are worth a look, by OID.
    pub(super) builtins: HashMap<u32, String>,
    pub(super) operators: HashMap<u32, Operator>,
    operator_names: HashMap<String, Vec<u32>>,
    pub(super) types: HashMap<u32, Type>,
    type_names: HashMap<String, Vec<u32>>,
    /// Checks and defaults of domains.
    pub(super) domain_trees: HashMap<u32, Vec<Tree>>,
    pub(super) casts: Vec<Cast>,
    /// Functions of event triggers.
    pub(super) event_triggers: Vec<u32>,
}

/// A table, view or other thing with columns; also indexes, which belong to one.
#[derive(Debug, Clone, Default)]
pub struct Relation {
    pub(super) oid: u32,
    pub(super) schema: String,
    pub(super) name: String,
    /// pg_class.relkind.
    pub(super) kind: char,
    pub(super) is_system: bool,
    pub(super) has_row_security: bool,
    /// In order of attribute number, without dropped ones.
    pub(super) columns: Vec<Column>,
    pub(super) parents: Vec<u32>,
    pub(super) index_of: Option<u32>,
    /// The type of its rows; 0 when it has none.
    pub(super) row_type: u32,
    pub(super) trees: Vec<Tree>,
    pub(super) triggers: Vec<Trigger>,
    /// Foreign keys of this relation.
    pub(super) foreign_keys: Vec<ForeignKey>,
    /// Foreign keys of others that point here.
    pub(super) referenced_by: Vec<ForeignKey>,
}

#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) number: i16,
    pub(super) name: String,
    /// 0 for system relations.
    pub(super) type_oid: u32,
}

/// Where an expression is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TreeContext {
    View,
    Rule,
    /// A default, or a generated column when it reads other columns.
    Default,
    Check,
    Domain,
    DomainDefault,
    /// Defaults of a function's arguments.
    Argument,
    Index,
    /// An expression of CREATE STATISTICS; ANALYZE evaluates it.
    Statistics,
    Policy,
    TriggerWhen,
    Partition,
}

/// What a stored expression or query reaches.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    pub(super) context: TreeContext,
    /// Default: the attribute number that it fills.
    pub(super) attribute: i16,
    pub(super) relations: Vec<u32>,
    pub(super) functions: Vec<u32>,
    /// Users' types that values are converted to, or have.
    pub(super) types: Vec<u32>,
    /// Users' operators; their functions are among `functions`.
    pub(super) operators: Vec<u32>,
    /// Default: the attributes that it reads, so that it is a generated column. Policy: the
    /// attributes that decide which rows are seen, of whatever relation; 0 is a whole row.
    /// Partition: the attributes that decide in which partition a row is.
    pub(super) reads: Vec<i16>,
    /// Users' functions that the planner may call with constants, when the relation is only read.
    pub(super) planned: Vec<u32>,
}

#[derive(Debug, Clone)]
pub(super) struct Trigger {
    pub(super) function: u32,
}

#[derive(Debug, Clone)]
pub(super) struct ForeignKey {
    pub(super) from: u32,
    pub(super) to: u32,
    pub(super) from_columns: Vec<i16>,
    pub(super) to_columns: Vec<i16>,
    /// Whether a change of the referenced row changes the referencing one.
    pub(super) is_cascading: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Function {
    pub(super) oid: u32,
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) extension: Option<String>,
    /// Written in C; or in SQL without a text, so that its names were looked up when the bootstrap
    /// superuser made it. Names in a text are looked up in the caller's path.
    pub(super) is_privileged: bool,
    /// Written in SQL: the planner may put its body in its place.
    pub(super) is_sql: bool,
    /// Of its arguments and its result.
    pub(super) types: Vec<u32>,
    /// The defaults of its arguments.
    pub(super) defaults: Option<Tree>,
    /// Of a function in SQL that runs with the caller's rights, path and settings.
    pub(super) body: Option<Body>,
}

/// What a function in SQL runs.
#[derive(Debug, Clone)]
pub(super) struct Body {
    pub(super) text: String,
    /// Of its arguments and its result: values are converted to them.
    pub(super) types: Vec<u32>,
}

#[derive(Debug, Clone)]
pub(super) struct Operator {
    pub(super) schema: String,
    pub(super) function: u32,
    /// Its commutator and negator, which the planner may put in its place.
    pub(super) partners: Vec<u32>,
}

#[derive(Debug, Clone)]
pub(super) struct Type {
    pub(super) schema: String,
    pub(super) name: String,
    /// pg_type.typtype.
    pub(super) kind: char,
    /// Base of a domain, element of an array, subtype of a range.
    pub(super) inner: u32,
    /// The relation of a composite type.
    pub(super) relation: u32,
    /// Input, output, canonical, difference.
    pub(super) functions: Vec<u32>,
}

#[derive(Debug, Clone)]
pub(super) struct Cast {
    pub(super) source: u32,
    pub(super) target: u32,
    pub(super) function: u32,
}

impl Catalogue {
    /// Reads the rows of [`LOAD_SQL`].
    ///
    /// # Errors
    /// [`CatalogueError`]: the target sent what it should not.
    ///
    /// # Limits
    /// [`corral_model::limits::CATALOGUE_OBJECTS_MAX`] rows.
    pub fn from_rows(rows: &[Row]) -> Result<Self, CatalogueError> {
        read::catalogue(rows)
    }

    /// Digest of all that it holds: equal digests mean equal facts.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.digest
    }

    /// Table OID and attribute number of a column, for the wire's tripwire.
    #[must_use]
    pub fn column_origin(&self, column: &ColumnName) -> Option<(u32, i16)> {
        let relation = self.relation(&column.schema, &column.table)?;
        let found = relation.columns.iter().find(|known| known.name == column.column)?;
        Some((relation.oid, found.number))
    }

    /// Whether values of this type are made and shown by PostgreSQL's own code or by reviewed
    /// code. The wire asks it for the types that a client gives to parameters.
    #[must_use]
    pub fn is_plain_type(&self, oid: u32) -> bool {
        oid < FIRST_USER_OID
            || self.types.get(&oid).is_some_and(|known| {
                known.kind == 'e'
                    || (known.kind == 'b' && known.inner != 0 && self.is_plain_type(known.inner))
            })
    }

    pub(super) fn relation(&self, schema: &str, name: &str) -> Option<&Relation> {
        let oid = self.relation_names.get(schema)?.get(name)?;
        self.relations.get(oid)
    }

    /// Those of the children of a relation that are of this catalogue, wherever itself is.
    pub(super) fn children_of(&self, parent: u32) -> &[u32] {
        self.children.get(&parent).map_or(&[], Vec::as_slice)
    }

    pub(super) fn functions_named(&self, name: &str) -> &[u32] {
        self.function_names.get(name).map_or(&[], Vec::as_slice)
    }

    pub(super) fn operators_named(&self, name: &str) -> &[u32] {
        self.operator_names.get(name).map_or(&[], Vec::as_slice)
    }

    pub(super) fn has_operators_in(&self, schema: &str) -> bool {
        self.operators.values().any(|operator| operator.schema == schema)
    }

    pub(super) fn types_named(&self, name: &str) -> &[u32] {
        self.type_names.get(name).map_or(&[], Vec::as_slice)
    }
}

/// What a backslash is in a string without a letter in front (`standard_conforming_strings`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Backslash {
    /// On: a letter like others.
    #[default]
    Letter,
    /// Off: it begins an escape.
    Escape,
}

/// What one session adds to the catalogue.
#[derive(Debug, Clone, Default)]
pub struct SessionNames {
    digest: String,
    /// The effective search path, in order, with the implicit schemas; the session's temporary
    /// schema is `pg_temp`.
    pub(super) path: Vec<String>,
    pub(super) backslash: Backslash,
    /// The session's temporary objects; their schema is `pg_temp`.
    pub(super) temporary: Catalogue,
    settings: BTreeMap<String, String>,
}

impl SessionNames {
    /// Reads the rows of [`SESSION_SQL`] and, where they tell of temporary objects, of
    /// [`TEMPORARY_SQL`].
    ///
    /// # Errors
    /// [`CatalogueError`]: the target sent what it should not, or the temporary objects were not
    /// asked for.
    pub fn from_rows(rows: &[Row]) -> Result<Self, CatalogueError> {
        read::session(rows)
    }

    /// Digest of all that it holds: equal digests mean equal facts.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.digest
    }

    /// The role that the session acts as.
    #[must_use]
    pub fn user(&self) -> &str {
        self.settings.get("user").map_or("", String::as_str)
    }

    /// Why this text cannot be understood in this session, if it cannot.
    pub(super) fn blindness_for(&self, text: &str, is_masking: bool) -> Option<&'static str> {
        if is_masking && self.client_encoding() != "UTF8" {
            // What a value cannot be converted to makes an error, which tells of the value.
            return Some("client_encoding is not UTF8");
        }
        (self.server_encoding() != "UTF8" && !text.is_ascii())
            .then_some("the database folds letters outside ASCII in its own way")
    }

    /// How the target reads the session's bytes, by the target's name for it.
    pub(crate) fn client_encoding(&self) -> &str {
        self.settings.get("client_encoding").map_or("", String::as_str)
    }

    pub(crate) fn server_encoding(&self) -> &str {
        self.settings.get("server_encoding").map_or("", String::as_str)
    }

    pub(crate) fn backslash(&self) -> Backslash {
        self.backslash
    }

    /// A schema's name in the catalogue: the session's temporary one has a real name, too.
    pub(super) fn schema<'n>(&self, written: &'n str) -> &'n str {
        let is_own = self.settings.get("temp_schema").is_some_and(|own| own == written);
        if is_own { "pg_temp" } else { written }
    }

    pub(super) fn database(&self) -> &str {
        self.settings.get("database").map_or("", String::as_str)
    }
}
