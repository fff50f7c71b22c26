//! What a text of SQL does, told from the text, the target's catalogue and the session's names.
//!
//! Pure: no socket, no clock. The parser's trees are made, walked and dropped inside [`analyse`];
//! what leaves is flat. It must not know messages, portals or policy. Whatever it cannot tell is
//! [`Effect::Unknown`]; in a session with masked columns that is an obstacle.

pub mod catalogue;
pub mod verbs;

use std::sync::Arc;

use corral_model::resource::ColumnName;
use corral_model::statement::Facts;
use corral_model::{Effect, Effects};

pub use catalogue::{Catalogue, SessionNames};

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
    /// Set when the rows of the text's only statement hold masked columns.
    pub mask: Option<ResultMask>,
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
    /// SELECT, VALUES, TABLE, SHOW, EXPLAIN, FETCH, …: returns rows.
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

/// What may be different after a text ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SessionChange {
    /// The search path, the role, temporary objects, a watched setting: probe again.
    pub names: bool,
    /// Objects of the database: load the catalogue again.
    pub catalogue: bool,
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
/// A text above [`corral_model::limits::STATEMENT_BYTES_MAX`] bytes is not parsed; its obstacle
/// has `is_size`.
#[must_use]
pub fn analyse(text: &str, names: Option<&Names>, scope: &MaskScope) -> Analysis {
    let _ = (text, names, scope);
    let facts = Facts {
        verbs: vec![verbs::UNKNOWN],
        effects: Effects::of(Effect::Unknown),
        statement_count: 1,
        ..Facts::default()
    };
    Analysis {
        facts: Arc::new(facts),
        kinds: vec![StatementKind::Unknown],
        needs_names: false,
        session_change: SessionChange { names: true, catalogue: true },
        mask: None,
    }
}
