//! One statement of a text: which verb it is, and the statements that are neither queries nor
//! definitions. Kinds that are not listed, here or in `define`, are unknown.

use corral_model::{Effect, Effects};
use pg_query::NodeEnum;
use pg_query::protobuf::{
    DefElem, DiscardMode, ExecuteStmt, ExplainStmt, Node, PrepareStmt, TransactionStmt,
    TransactionStmtKind, VariableSetKind, VariableSetStmt,
};

use super::changes::OBJECTS;
use super::findings::Findings;
use super::settings::{self, SettingClass};
use super::shape::Shape;
use super::walker::{Access, Walker, offset, strings};
use super::{StatementKind, verbs};

/// PostgreSQL's `CURSOR_OPT_HOLD`.
const CURSOR_OPT_HOLD: i32 = 0x20;

/// A statement's kind, and the columns that it returns, where it is a query.
pub(super) struct Outcome {
    pub(super) kind: StatementKind,
    pub(super) shape: Option<Shape>,
}

impl From<StatementKind> for Outcome {
    fn from(kind: StatementKind) -> Self {
        Self { kind, shape: None }
    }
}

impl Default for Outcome {
    fn default() -> Self {
        Self::from(StatementKind::Unknown)
    }
}

impl Walker<'_> {
    pub(super) fn statement(&mut self, node: &Node) -> Outcome {
        self.deeper(|walker| walker.statement_here(node))
    }

    fn statement_here(&mut self, node: &Node) -> Outcome {
        let Some(found) = &node.node else {
            self.unknown("the statement is empty where the parser saw one", None);
            return Outcome::default();
        };
        match found {
            NodeEnum::SelectStmt(_)
            | NodeEnum::InsertStmt(_)
            | NodeEnum::UpdateStmt(_)
            | NodeEnum::DeleteStmt(_)
            | NodeEnum::MergeStmt(_) => {
                self.use_global_casts();
                let shape = self.query(node);
                let has_rows = matches!(found, NodeEnum::SelectStmt(select) if select.into_clause.is_none())
                    || has_returning(found);
                let kind = if has_rows { StatementKind::Rows } else { StatementKind::NoRows };
                Outcome { kind, shape: Some(shape) }
            }
            NodeEnum::TransactionStmt(found) => self.transaction(found).into(),
            NodeEnum::VariableSetStmt(found) => self.set(found).into(),
            NodeEnum::VariableShowStmt(_) => StatementKind::Rows.into(),
            NodeEnum::ConstraintsSetStmt(_) => StatementKind::NoRows.into(),
            NodeEnum::DiscardStmt(found) => {
                self.found.change.names = true;
                match DiscardMode::try_from(found.target) {
                    Ok(DiscardMode::DiscardAll) => StatementKind::DiscardAll.into(),
                    _ => StatementKind::NoRows.into(),
                }
            }
            NodeEnum::CopyStmt(found) => {
                self.use_global_casts();
                self.copy(found).into()
            }
            NodeEnum::ExplainStmt(found) => {
                self.explain(found);
                StatementKind::Rows.into()
            }
            NodeEnum::PrepareStmt(found) => self.prepare(found).into(),
            NodeEnum::ExecuteStmt(found) => self.execute(found).into(),
            NodeEnum::DeallocateStmt(found) => {
                let name = (!found.isall && !found.name.is_empty()).then(|| found.name.clone());
                StatementKind::Deallocate { name }.into()
            }
            NodeEnum::DeclareCursorStmt(found) => {
                if let Some(query) = &found.query {
                    self.statement(query);
                }
                self.refuse_classified("a cursor");
                let is_held = found.options & CURSOR_OPT_HOLD != 0;
                StatementKind::DeclareCursor { name: found.portalname.clone(), is_held }.into()
            }
            NodeEnum::FetchStmt(found) => {
                // A portal of the protocol can be fetched from by its name, too.
                self.refuse_when_masked(
                    "FETCH and MOVE are not analysed in a session with masked columns; \
                     run the query itself",
                    None,
                );
                StatementKind::Fetch { name: found.portalname.clone() }.into()
            }
            NodeEnum::ClosePortalStmt(found) => {
                let name = (!found.portalname.is_empty()).then(|| found.portalname.clone());
                StatementKind::CloseCursor { name }.into()
            }
            NodeEnum::ListenStmt(_) => {
                self.found.verb(verbs::LISTEN);
                self.refuse_when_masked(
                    "LISTEN is not for sessions with masked columns: a payload may hold values",
                    None,
                );
                StatementKind::NoRows.into()
            }
            NodeEnum::UnlistenStmt(_) => StatementKind::NoRows.into(),
            NodeEnum::NotifyStmt(_) => {
                self.found.verb(verbs::NOTIFY);
                StatementKind::NoRows.into()
            }
            NodeEnum::LockStmt(found) => {
                self.found.verb(verbs::LOCK_TABLE);
                for named in &found.relations {
                    self.touch_named(named, Access::Lock);
                }
                self.refuse_classified("LOCK TABLE");
                StatementKind::NoRows.into()
            }
            NodeEnum::DoStmt(_) => {
                self.found.verb(verbs::DO);
                self.unknown("what a DO block does cannot be told", None);
                StatementKind::NoRows.into()
            }
            NodeEnum::CallStmt(found) => {
                self.found.verb(verbs::CALL);
                if let Some(call) = &found.funccall {
                    let parts = strings(&call.funcname);
                    self.found.functions.insert(parts.join("."));
                    self.expressions(&call.args);
                }
                self.unknown("what a procedure does cannot be told", None);
                StatementKind::Rows.into()
            }
            other => self.define(other).into(),
        }
    }

    fn transaction(&mut self, found: &TransactionStmt) -> StatementKind {
        match TransactionStmtKind::try_from(found.kind) {
            Ok(TransactionStmtKind::TransStmtBegin | TransactionStmtKind::TransStmtStart) => {
                // ISOLATION LEVEL.
                self.found.change.names |= !found.options.is_empty();
                StatementKind::Begin
            }
            Ok(TransactionStmtKind::TransStmtCommit) => {
                StatementKind::Commit { is_chained: found.chain }
            }
            Ok(TransactionStmtKind::TransStmtRollback) => {
                StatementKind::Rollback { is_chained: found.chain }
            }
            Ok(TransactionStmtKind::TransStmtSavepoint) => StatementKind::Savepoint,
            Ok(TransactionStmtKind::TransStmtRelease) => StatementKind::ReleaseSavepoint,
            Ok(TransactionStmtKind::TransStmtRollbackTo) => StatementKind::RollbackToSavepoint,
            Ok(
                TransactionStmtKind::TransStmtPrepare
                | TransactionStmtKind::TransStmtCommitPrepared
                | TransactionStmtKind::TransStmtRollbackPrepared,
            ) => {
                self.found.verb(verbs::TWO_PHASE);
                if found.kind() == TransactionStmtKind::TransStmtCommitPrepared {
                    // Whatever another session defined.
                    self.found.change.add(OBJECTS);
                }
                StatementKind::TwoPhase
            }
            Ok(TransactionStmtKind::Undefined) | Err(_) => {
                self.unknown("a transaction statement is of a kind that is not known", None);
                StatementKind::Unknown
            }
        }
    }

    fn set(&mut self, found: &VariableSetStmt) -> StatementKind {
        let kind = StatementKind::Set { name: Some(found.name.clone()) };
        let is_role = matches!(found.name.as_str(), "role" | "session_authorization");
        if is_role {
            self.found.verb(verbs::SET_ROLE);
            self.found.change.names = true;
            self.refuse_when_masked("the role is fixed in a session with masked columns", None);
            return kind;
        }
        let mut value = None;
        let class = match VariableSetKind::try_from(found.kind) {
            Ok(VariableSetKind::VarSetValue) => {
                value = setting_value(&found.args);
                settings::class_of(&found.name, value.as_deref())
            }
            Ok(VariableSetKind::VarSetCurrent) => settings::class_of(&found.name, None),
            Ok(VariableSetKind::VarSetDefault | VariableSetKind::VarReset) => {
                settings::reset_class_of(&found.name)
            }
            // SET TRANSACTION, SET SESSION CHARACTERISTICS.
            Ok(VariableSetKind::VarSetMulti) => {
                self.found.change.names = true;
                if found.name == "TRANSACTION SNAPSHOT" {
                    self.refuse_when_masked(
                        "SET TRANSACTION SNAPSHOT is not for sessions with masked columns: \
                         what names mean cannot be read in an older snapshot",
                        None,
                    );
                }
                return StatementKind::NoRows;
            }
            Ok(VariableSetKind::VarResetAll) => {
                self.found.change.names = true;
                return StatementKind::Set { name: None };
            }
            Ok(VariableSetKind::Undefined) | Err(_) => SettingClass::Administer,
        };
        match class {
            SettingClass::Harmless => {
                self.found.change.names |= settings::is_isolation(&found.name);
            }
            SettingClass::SearchPath => self.found.change.names = true,
            SettingClass::Reading => {
                self.found.change.names = true;
                // A reset leads back to what the session began with.
                self.found.change.reading =
                    value.is_some() && !settings::reads_plainly(&found.name, value.as_deref());
            }
            SettingClass::Administer => {
                self.found.verb(verbs::SET_SETTING);
                self.found.change.names = true;
                self.found.change.reading = true;
            }
        }
        let is_open = settings::is_open_when_masked(&found.name, value.as_deref());
        if class == SettingClass::Administer || !is_open {
            self.refuse_when_masked(
                "this setting may not be changed in a session with masked columns",
                offset(found.location),
            );
        }
        kind
    }

    /// EXPLAIN reads what its statement would do; EXPLAIN ANALYZE does it.
    fn explain(&mut self, found: &ExplainStmt) {
        let Some(query) = &found.query else { return };
        if is_on(&found.options, "analyze") {
            self.found.verb(verbs::EXPLAIN);
            self.statement(query);
        } else {
            let inner = self.aside(|walker| {
                walker.statement(query);
            });
            let mut by_verbs: Effects = inner.verbs.iter().filter_map(|verb| verb.effect).collect();
            by_verbs.insert(Effect::Write);
            self.found.verb(verbs::EXPLAIN);
            self.found.objects.extend(inner.objects.into_iter().map(|mut object| {
                if object.role != corral_model::ObjectRole::Reached {
                    object.role = corral_model::ObjectRole::Read;
                }
                object
            }));
            self.found.functions.extend(inner.functions);
            // Functions may be folded while planning. A body's effects count also where the
            // statement that is explained has a verb with the same ones.
            for effect in inner.effects.iter().filter(|effect| !by_verbs.contains(*effect)) {
                self.found.effect(effect);
            }
            self.found.effects.extend(inner.called);
            self.found.called.extend(inner.called);
            self.found.change.add(inner.change);
            if let Some(reason) = inner.unknown {
                self.found.unknown(reason.text, reason.position);
            }
        }
        self.refuse_classified("EXPLAIN");
    }

    fn prepare(&mut self, found: &PrepareStmt) -> StatementKind {
        for node in &found.argtypes {
            if let Some(NodeEnum::TypeName(named)) = &node.node {
                self.use_type(named);
            }
        }
        if let Some(query) = &found.query {
            self.statement(query);
        }
        self.refuse_classified("PREPARE");
        StatementKind::Prepare { name: found.name.clone() }
    }

    pub(super) fn execute(&mut self, found: &ExecuteStmt) -> StatementKind {
        self.expressions(&found.params);
        let kind = StatementKind::Execute { name: found.name.clone() };
        match self.prepared.take() {
            None => {
                self.found.verb(verbs::EXECUTE);
                self.unknown(
                    format!("the prepared statement \"{}\" is not known here", found.name),
                    None,
                );
            }
            Some(text) => self.run_prepared(text),
        }
        kind
    }

    fn run_prepared(&mut self, text: &str) {
        let parsed = match self.parse(text) {
            Ok(parsed) => parsed,
            Err(reason) => {
                self.unknown(reason, None);
                return;
            }
        };
        let [one] = parsed.stmts.as_slice() else {
            self.unknown("a prepared text is not one statement", None);
            return;
        };
        let Some(node) = &one.stmt else { return };
        let outcome = match &node.node {
            Some(NodeEnum::PrepareStmt(prepare)) => match &prepare.query {
                Some(query) => self.statement(query),
                None => Outcome::default(),
            },
            _ => self.statement(node),
        };
        if outcome.shape.is_some_and(|shape| shape.has_mask()) {
            self.refuse_when_masked(
                "EXECUTE may not return masked columns; run the query itself",
                None,
            );
        }
    }

    /// Refuses what was just walked, if it touched a relation with masked columns.
    pub(super) fn refuse_classified(&mut self, what: &str) {
        if let Some(position) = self.classified_at {
            self.found.obstacle(
                format!("{what} may not use a relation with masked columns; use a plain SELECT"),
                position,
            );
        }
    }

    pub(super) fn touch_named(&mut self, node: &Node, access: Access) {
        match &node.node {
            Some(NodeEnum::RangeVar(named)) => {
                if let Some(relation) = self.relation(named) {
                    self.touch(relation, access, offset(named.location));
                }
            }
            _ => self.unknown("a relation's name is not understood", None),
        }
    }

    /// Walks without adding what is found, apart from obstacles and the need for names.
    pub(super) fn aside(&mut self, walk: impl FnOnce(&mut Self)) -> Findings {
        let outside = std::mem::take(&mut self.found);
        let memory = self.take_memory();
        walk(self);
        self.put_memory(memory);
        let mut inner = std::mem::replace(&mut self.found, outside);
        self.found.needs_names |= inner.needs_names;
        self.found.is_definition |= inner.is_definition;
        if self.found.obstacle.is_none() {
            self.found.obstacle = inner.obstacle.take();
        }
        inner
    }
}

fn has_returning(node: &NodeEnum) -> bool {
    match node {
        NodeEnum::InsertStmt(found) => found.returning_clause.is_some(),
        NodeEnum::UpdateStmt(found) => found.returning_clause.is_some(),
        NodeEnum::DeleteStmt(found) => found.returning_clause.is_some(),
        NodeEnum::MergeStmt(found) => found.returning_clause.is_some(),
        _ => false,
    }
}

/// Whether an option is given and not switched off; a value that is not understood is on.
pub(super) fn is_on(options: &[Node], name: &str) -> bool {
    let mut is_on = false;
    for node in options {
        let Some(NodeEnum::DefElem(option)) = &node.node else { continue };
        if option.defname == name {
            is_on = !is_off(option);
        }
    }
    is_on
}

fn is_off(option: &DefElem) -> bool {
    match option.arg.as_ref().and_then(|node| node.node.as_ref()) {
        Some(NodeEnum::String(text)) => {
            matches!(text.sval.to_lowercase().as_str(), "off" | "false")
        }
        Some(NodeEnum::Boolean(value)) => !value.boolval,
        Some(NodeEnum::Integer(value)) => value.ival == 0,
        _ => false,
    }
}

/// The value of SET as text; None for lists and what is not a literal.
fn setting_value(args: &[Node]) -> Option<String> {
    use pg_query::protobuf::a_const::Val;
    let [one] = args else { return None };
    match &one.node {
        Some(NodeEnum::AConst(constant)) => match &constant.val {
            Some(Val::Sval(text)) => Some(text.sval.clone()),
            Some(Val::Ival(number)) => Some(number.ival.to_string()),
            Some(Val::Fval(number)) => Some(number.fval.clone()),
            Some(Val::Boolval(value)) => Some(value.boolval.to_string()),
            Some(Val::Bsval(_)) | None => None,
        },
        _ => None,
    }
}
