//! What a text of SQL does, told from the text, the target's catalogue and the session's names.
//!
//! Pure: no socket, no clock. The parser's trees are made, walked and dropped inside [`analyse`];
//! what leaves is flat. It must not know messages, portals or policy. Whatever it cannot tell is
//! [`Effect::Unknown`]; in a session with masked columns that is an obstacle.

pub mod catalogue;
pub mod tables;
pub mod verbs;

mod body;
mod builtins;
mod cascade;
mod changes;
mod define;
mod expression;
mod findings;
mod from;
mod maintain;
mod maintained;
mod mask;
mod modify;
mod named;
mod outline;
mod query;
mod reach;
mod settings;
mod shape;
mod statement;
mod stored;
mod system;
mod tokens;
mod walker;

use std::sync::Arc;

use corral_model::limits::{SQL_TEXT_BYTES_MAX, SQL_TEXT_TOKENS_MAX};
use corral_model::resource::ColumnName;
use corral_model::statement::{Facts, Obstacle};
use corral_model::{Effect, Effects};

use catalogue::Backslash;
pub use catalogue::{Catalogue, SessionNames};
pub use outline::outline;
use pg_query::NodeEnum;
use shape::Shape;
use walker::{Walker, offset};

/// Everything that gives names their meaning: the target's catalogue, and what the session adds.
#[derive(Debug, Clone)]
pub struct Names {
    pub catalogue: Arc<Catalogue>,
    pub session: SessionNames,
}

/// The columns that matter to masking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaskScope {
    /// Every classified column of the target.
    pub classified: Arc<[ColumnName]>,
    /// Those that this principal may not read raw. Empty: nothing is masked, nothing is refused.
    pub masked: Arc<[ColumnName]>,
}

/// What a text does.
#[derive(Debug, Clone)]
pub struct Analysis {
    pub facts: Arc<Facts>,
    /// One for each statement of the text; none for an empty text.
    pub kinds: Vec<StatementKind>,
    /// False: the facts hold whatever the names are. True and analysed without names: the facts
    /// are unknown and must not be decided on.
    pub needs_names: bool,
    pub session_change: SessionChange,
    /// It calls functions whose bodies were looked at: the names in one are looked up when it runs.
    pub has_bodies: bool,
    /// All names in it mean what they mean when it runs, and not what they meant when it was
    /// bound: it has such bodies, or is no query.
    pub resolves_late: bool,
    /// Set when the rows of the text's only statement hold masked columns.
    pub mask: Option<ResultMask>,
    /// Why the facts hold [`Effect::Unknown`], when they do.
    pub unknown: Option<UnknownReason>,
    /// Why the text could not be parsed. It quotes the text and nothing else.
    pub parse_error: Option<String>,
}

impl Analysis {
    /// Nothing in it was worded for the one text that was analysed: it holds for every text with
    /// the same [`outline()`].
    pub(crate) fn is_of_outline(&self) -> bool {
        self.unknown.is_none() && self.facts.obstacle.is_none()
    }

    /// What FETCH of a portal does: what is told of its own text, and what its statement does. For
    /// sessions without masked columns.
    pub(crate) fn with_portal(&self, portal: &Self) -> Self {
        let mut facts = Facts::clone(&self.facts);
        facts.verbs.extend_from_slice(&portal.facts.verbs);
        facts.verbs.sort();
        facts.verbs.dedup();
        facts.effects.extend(portal.facts.effects);
        facts.objects.extend_from_slice(&portal.facts.objects);
        facts.objects.sort();
        facts.objects.dedup();
        facts.functions.extend_from_slice(&portal.facts.functions);
        facts.functions.sort();
        facts.functions.dedup();
        if facts.obstacle.is_none() {
            facts.obstacle.clone_from(&portal.facts.obstacle);
        }
        let mut analysis = self.clone();
        analysis.facts = Arc::new(facts);
        analysis.session_change.add(portal.session_change);
        if analysis.unknown.is_none() {
            analysis.unknown.clone_from(&portal.unknown);
        }
        analysis
    }

    /// The same with a parameter of this type, whose values are made by code that is not known.
    pub(crate) fn with_foreign_parameter(&self, oid: u32, is_masking: bool) -> Self {
        let text = format!("a parameter has the type with the OID {oid}, whose code is not known");
        self.with_unknown(text, is_masking, "leave the type out")
    }

    /// The same, where it cannot be told after all what it does.
    pub(crate) fn with_unknown(&self, text: String, is_masking: bool, advice: &str) -> Self {
        let mut analysis = self.clone();
        let mut facts = Facts::clone(&self.facts);
        if !facts.verbs.contains(&verbs::UNKNOWN) {
            facts.verbs.push(verbs::UNKNOWN);
            facts.verbs.sort();
        }
        facts.effects.insert(Effect::Unknown);
        if is_masking && facts.obstacle.is_none() {
            facts.obstacle = Some(Obstacle {
                rule: findings::MASKING_RULE,
                text: format!("{text}; a session with masked columns cannot run it; {advice}"),
                position: None,
                is_size: false,
            });
        }
        if facts.obstacle.is_some() {
            analysis.mask = None;
            facts.is_masked = false;
        }
        analysis.facts = Arc::new(facts);
        analysis.session_change = SessionChange::ANY;
        analysis.unknown.get_or_insert(UnknownReason { text, position: None });
        analysis
    }
}

/// Why it cannot be told what a text does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownReason {
    pub text: String,
    /// Byte offset in the text, where one is known.
    pub position: Option<usize>,
}

/// One statement of a text, as far as the wire cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatementKind {
    /// BEGIN, START TRANSACTION.
    Begin,
    /// COMMIT, END.
    Commit {
        is_chained: bool,
    },
    /// ROLLBACK, ABORT.
    Rollback {
        is_chained: bool,
    },
    Savepoint,
    ReleaseSavepoint,
    RollbackToSavepoint,
    /// PREPARE TRANSACTION, COMMIT PREPARED, ROLLBACK PREPARED.
    TwoPhase,
    /// SELECT, VALUES, TABLE, SHOW, EXPLAIN, …: returns rows.
    Rows,
    /// INSERT, UPDATE, DELETE, MERGE without RETURNING, and utilities: returns no rows.
    NoRows,
    /// COPY … FROM STDIN.
    CopyIn,
    /// COPY … TO STDOUT.
    CopyOut,
    /// SQL PREPARE.
    Prepare {
        name: String,
    },
    /// SQL EXECUTE: whether rows come depends on the prepared statement.
    Execute {
        name: String,
    },
    /// SQL DEALLOCATE; None is ALL.
    Deallocate {
        name: Option<String>,
    },
    /// DECLARE CURSOR: the cursor is a portal of that name too.
    DeclareCursor {
        name: String,
        /// WITH HOLD: it runs when its transaction ends.
        is_held: bool,
    },
    /// FETCH, MOVE: runs a portal of that name, also one of the protocol's.
    Fetch {
        name: String,
    },
    /// CLOSE; None is ALL.
    CloseCursor {
        name: Option<String>,
    },
    /// SET, RESET of this setting; None is RESET ALL.
    Set {
        name: Option<String>,
    },
    /// DISCARD ALL drops prepared statements, temporary tables, cursors and settings.
    DiscardAll,
    /// Not parsed, or not on the list: anything may come back.
    Unknown,
}

impl StatementKind {
    /// Whether a transaction, or a part of one, ends here.
    fn ends_transaction(&self) -> bool {
        matches!(
            self,
            Self::Commit { .. }
                | Self::Rollback { .. }
                | Self::RollbackToSavepoint
                | Self::TwoPhase
        )
    }
}

/// What may be different after a text ran. What a transaction changed may change back when it, or
/// a savepoint in it, ends: who caches names asks again then, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SessionChange {
    /// The search path, the role, temporary objects, a watched setting: probe again.
    pub names: bool,
    /// Objects of the database: load the catalogue again.
    pub catalogue: bool,
    /// How texts are read: `client_encoding` or `standard_conforming_strings` may be other than at
    /// the start. The names are to be probed again, too.
    pub reading: bool,
    /// Objects may be changed beyond those that the facts list as defined or reached.
    pub is_wide: bool,
}

impl SessionChange {
    /// Everything may be different.
    pub const ANY: Self = Self { names: true, catalogue: true, reading: true, is_wide: true };

    pub(crate) fn add(&mut self, other: Self) {
        self.names |= other.names;
        self.catalogue |= other.catalogue;
        self.reading |= other.reading;
        self.is_wide |= other.is_wide;
    }
}

/// Which columns of a result are masked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultMask {
    /// Columns that the result must have; another number means that the analysis was wrong, and
    /// the rows must not be sent.
    pub column_count: usize,
    /// In order of index.
    pub masked: Vec<MaskedColumn>,
}

/// One masked column of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaskedColumn {
    /// From 0.
    pub index: usize,
    pub name: ColumnName,
}

/// Tells what a text does. To be called on a thread with
/// [`corral_model::limits::ANALYSIS_STACK_BYTES`] of stack: hostile texts make deep trees.
///
/// # Limits
/// A text above [`corral_model::limits::SQL_TEXT_BYTES_MAX`] bytes or
/// [`corral_model::limits::SQL_TEXT_TOKENS_MAX`] tokens is not parsed; its obstacle has `is_size`.
#[must_use]
pub fn analyse(text: &str, names: Option<&Names>, scope: &MaskScope) -> Analysis {
    run(text, None, names, scope)
}

/// Like [`analyse`], for a text whose only statement is SQL EXECUTE of a statement that the caller
/// knows: `prepared` is the text of its PREPARE, or the text that was prepared by message.
#[must_use]
pub fn analyse_execute(
    text: &str,
    prepared: &str,
    names: Option<&Names>,
    scope: &MaskScope,
) -> Analysis {
    run(text, Some(prepared), names, scope)
}

fn run(text: &str, prepared: Option<&str>, names: Option<&Names>, scope: &MaskScope) -> Analysis {
    if let Some(why) = why_too_large(text) {
        return too_large(why);
    }
    if let Some(why) = prepared.and_then(why_too_large) {
        return too_large(why);
    }
    let mut walker = Walker::new(names, &scope.masked);
    walker.prepared = prepared;
    // What a backslash means depends on a setting of the session; how letters outside ASCII are
    // folded depends on the database's encoding.
    walker.found.needs_names = text.contains('\\') || !text.is_ascii();
    if let Some(blindness) =
        names.and_then(|names| names.session.blindness_for(text, walker.is_masking()))
    {
        walker.unknown(format!("{blindness} in this session, so texts cannot be understood"), None);
    }
    let parsed = match walker.parse(text) {
        Ok(parsed) => parsed,
        Err(reason) => {
            walker.unknown(reason.clone(), None);
            let analysis = finish(walker, vec![StatementKind::Unknown], false, None);
            return Analysis { parse_error: Some(reason), ..analysis };
        }
    };
    let mut kinds = Vec::with_capacity(parsed.stmts.len());
    let mut mask = None;
    // Whether names mean for the next statement what they mean now. Masks do not rest on it.
    let mut is_certain = true;
    for raw in &parsed.stmts {
        let Some(node) = &raw.stmt else {
            walker.unknown("a statement is empty where the parser saw one", None);
            continue;
        };
        walker.classified_at = None;
        let before = std::mem::take(&mut walker.found.change);
        let needed = std::mem::take(&mut walker.found.needs_names);
        walker.is_additive = false;
        walker.keeps_names = false;
        let outcome = walker.statement(node);
        // The end of a transaction may take back what was set or made in it, before this text.
        let is_kept = !outcome.kind.ends_transaction()
            && (walker.found.change == SessionChange::default()
                || (walker.is_additive && !walker.is_masking()));
        if walker.found.needs_names && !is_certain {
            let position = offset(raw.stmt_location);
            walker.unknown(
                "an earlier statement of the same text may change what its names mean; send it \
                 alone",
                position,
            );
        }
        is_certain &= is_kept;
        walker.are_names_certain &= walker.found.change == SessionChange::default()
            || walker.is_additive
            || walker.keeps_names;
        walker.found.change.add(before);
        walker.found.needs_names |= needed;
        if let Some(shape) = outcome.shape.filter(Shape::has_mask) {
            mask = Some(result_mask(&shape));
        }
        kinds.push(outcome.kind);
    }
    if mask.is_some() && kinds.len() > 1 {
        walker.found.obstacle(
            "a query with masked columns must be the only statement of its text; send it alone",
            None,
        );
    }
    let are_queries = are_queries(&parsed);
    drop(parsed);
    finish(walker, kinds, are_queries, mask)
}

/// Whether the target resolves the names of these statements when they are parsed.
fn are_queries(parsed: &pg_query::protobuf::ParseResult) -> bool {
    parsed.stmts.iter().all(|raw| match raw.stmt.as_ref().and_then(|node| node.node.as_ref()) {
        Some(NodeEnum::SelectStmt(found)) => found.into_clause.is_none(),
        Some(
            NodeEnum::InsertStmt(_)
            | NodeEnum::UpdateStmt(_)
            | NodeEnum::DeleteStmt(_)
            | NodeEnum::MergeStmt(_),
        ) => true,
        _ => false,
    })
}

fn finish(
    mut walker: Walker<'_>,
    kinds: Vec<StatementKind>,
    are_queries: bool,
    mask: Option<ResultMask>,
) -> Analysis {
    let needs_names = walker.found.needs_names || walker.found.is_definition;
    if needs_names && walker.names.is_none() {
        walker.unknown("the names of the target are not known", None);
    }
    if walker.body_count > 0 && walker.found.change != SessionChange::default() {
        // The names in a function's body are looked up when it runs, after the change perhaps.
        walker.unknown("it changes what the names in a function that it calls mean", None);
    }
    let has_bodies = walker.body_count > 0;
    let mask = mask.filter(|_| walker.found.obstacle.is_none());
    let unknown = walker.found.unknown.take();
    let session_change = walker.found.change;
    let facts = walker.found.into_facts(kinds.len(), mask.is_some());
    let facts = Arc::new(facts);
    Analysis {
        facts,
        kinds,
        needs_names,
        session_change,
        has_bodies,
        resolves_late: has_bodies || !are_queries,
        mask,
        unknown,
        parse_error: None,
    }
}

fn why_too_large(text: &str) -> Option<String> {
    let length = text.len();
    if length > SQL_TEXT_BYTES_MAX {
        return Some(format!(
            "the statement has {length} bytes; at most {SQL_TEXT_BYTES_MAX} are analysed and sent"
        ));
    }
    // A token is a byte at least.
    (length > SQL_TEXT_TOKENS_MAX && tokens::bound(text) > SQL_TEXT_TOKENS_MAX).then(|| {
        format!(
            "the statement has more than {SQL_TEXT_TOKENS_MAX} words, numbers and signs; send it in \
             parts, use COPY, or send its values as parameters"
        )
    })
}

fn too_large(text: String) -> Analysis {
    let obstacle = Obstacle { rule: "limits", text, position: None, is_size: true };
    let facts = Facts {
        verbs: vec![verbs::UNKNOWN],
        effects: Effects::of(Effect::Unknown),
        statement_count: 1,
        obstacle: Some(obstacle),
        ..Facts::default()
    };
    Analysis {
        facts: Arc::new(facts),
        kinds: vec![StatementKind::Unknown],
        needs_names: false,
        session_change: SessionChange::ANY,
        has_bodies: false,
        resolves_late: true,
        mask: None,
        unknown: None,
        parse_error: None,
    }
}

fn result_mask(shape: &Shape) -> ResultMask {
    let masked = shape
        .columns
        .iter()
        .enumerate()
        .filter_map(|(index, column)| column.mask.clone().map(|name| MaskedColumn { index, name }))
        .collect();
    ResultMask { column_count: shape.columns.len(), masked }
}

/// The release whose grammar the parser has.
pub(crate) const SQL_MAJOR_VERSION: u32 = 18;

/// The parser's tree, or why there is none.
fn parse(text: &str, backslash: Backslash) -> Result<pg_query::protobuf::ParseResult, String> {
    let options = match backslash {
        Backslash::Letter => pg_query::ParserOptions::DEFAULT,
        Backslash::Escape => pg_query::ParserOptions::DISABLE_STANDARD_CONFORMING_STRINGS,
    };
    // The crate indexes into lists of the tree while it looks for tables; a panic there would be
    // its fault, and must not end the session.
    let parsed = std::panic::catch_unwind(|| pg_query::parse(text, options));
    match parsed {
        Ok(Ok(parsed)) => Ok(parsed.protobuf),
        Ok(Err(error)) => Err(format!("the statement cannot be parsed: {}", plain(&error))),
        Err(_) => Err("the statement cannot be parsed".to_owned()),
    }
}

fn plain(error: &pg_query::Error) -> String {
    match error {
        pg_query::Error::Parse(text) => text.clone(),
        pg_query::Error::Conversion(_) => "it holds a NUL byte".to_owned(),
        _ => "its tree is not understood".to_owned(),
    }
}
