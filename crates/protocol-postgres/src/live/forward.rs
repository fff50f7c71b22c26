//! A permitted statement goes to the target; what it may change is not trusted from then on.

use std::sync::Arc;

use corral_gate::{Harmless, Permit};
use corral_model::resource::RecordRows;

use super::Live;
use super::decide::unused;
use super::extended::no_portal;
use super::parsed::Parsed;
use super::pending::{Pending, Running, Sender};
use super::rowlog::RowLog;
use super::task::{Analysed, Task, What};
use crate::analysis::{Analysis, StatementKind};
use crate::codec::client::Named;
use crate::codec::target::put_describe_portal;
use crate::link::Link;
use crate::turns::{Defining, Using};

impl Live {
    /// Sends a permitted statement.
    pub(super) fn forward(
        &mut self,
        mut task: Task,
        permit: Permit,
        analysed: &Arc<Analysed>,
        link: &mut Link,
    ) {
        let using = task.using.take();
        let defining = task.defining.take();
        let mut running = Box::new(Running {
            log: RowLog::new(self.admission.record_rows, permit.seq()),
            permit,
            analysis: analysed.analysis.clone(),
            scope: self.scope.clone(),
            started: link.now,
            rows: 0,
            masked_rows: 0,
            bytes: 0,
            tag: None,
            plan: None,
            is_call: matches!(task.what, What::Call { .. }),
            is_copying_out: false,
            using: None,
        });
        match std::mem::replace(&mut task.what, What::Query) {
            What::Query => {
                running.using = using.map(Using::sent);
                let seq = running.permit.seq();
                let epoch = self.transaction.epoch();
                self.forward_query(running, task.frame_len, link);
                claim_until_ended(defining);
                self.cursors.open(&task.text, analysed, epoch);
                if let [StatementKind::Prepare { name }] = analysed.analysis.kinds.as_slice() {
                    self.sql.remember(name, &task.text, analysed.names.clone(), seq);
                }
            }
            What::Call { .. } => {
                running.using = using.map(Using::sent);
                self.forward_query(running, task.frame_len, link);
                claim_until_ended(defining);
            }
            What::Execute { portal } => {
                if self.store.portal(&portal).is_some() {
                    running.using = using.map(Using::sent);
                    self.forward_execute(portal, running, task.frame_len, link);
                    claim_until_ended(defining);
                    self.cursors.open(&task.text, analysed, self.transaction.epoch());
                } else {
                    unused(&running.permit, "34000", link);
                    self.refuse_extended(no_portal(&portal), task.frame_len, link);
                }
            }
            What::Bind(binding) => {
                self.forward_bind(binding, &task, analysed.clone(), Some(running), link);
                self.use_until_answered(using);
            }
            What::Parse { name, types, parameters } => {
                let parsed = Parsed {
                    statement: name.clone(),
                    parameters,
                    analysed: analysed.clone(),
                    running,
                };
                let decided = Some(Box::new(parsed));
                self.forward_parse(name, types, &task, analysed.clone(), decided, link);
                self.use_until_answered(using);
            }
            What::Open => {}
        }
    }

    fn forward_query(&mut self, running: Box<Running>, frame_len: usize, link: &mut Link) {
        link.send_permitted(&running.permit, frame_len);
        self.described = None;
        let is_in_block = self.transaction.is_in_block();
        self.sent(&running.analysis, link);
        let epoch = self.transaction.query_sent();
        self.queue.push_back(Pending::Query { running: Some(running), stand_in: None, epoch });
        if !is_in_block {
            self.keeper.transaction_may_end();
            self.doubts.may_run_on(self.store.last_number());
        }
    }

    /// Sends an Execute, with a Describe in front where the rows' layout has to be known.
    pub(super) fn forward_execute(
        &mut self,
        portal: String,
        mut running: Box<Running>,
        frame_len: usize,
        link: &mut Link,
    ) {
        running.plan = None;
        let is_recorded = match self.admission.record_rows {
            RecordRows::None | RecordRows::Count => false,
            RecordRows::Sample | RecordRows::Full => true,
        };
        let needs_layout =
            running.scope.is_masked() || running.analysis.mask.is_some() || is_recorded;
        let is_described = self.described.take().is_some_and(|described| described == portal);
        if needs_layout && !is_described {
            link.tell_target(Harmless::Control, |out| put_describe_portal(out, &portal));
            let describe = Pending::DescribePortal { sender: Sender::Gateway };
            self.queue.push_back(describe);
        }
        link.send_permitted(&running.permit, frame_len);
        self.open_pipeline();
        self.sent(&running.analysis, link);
        let number = self.store.portal(&portal).map_or(0, |portal| portal.number);
        self.queue.push_back(Pending::Execute { portal, number, running });
    }

    /// A permitted text was sent: what it may change is not trusted any more.
    pub(super) fn sent(&mut self, analysis: &Analysis, link: &mut Link) {
        self.keeper.change(analysis.session_change, self.transaction.epoch() + 1);
        self.sql.sent(analysis, self.transaction.epoch() + 1);
        self.cursors.sent(analysis);
        self.doubts.sent(analysis, self.transaction.epoch() + 1, self.store.last_number());
        for kind in &analysis.kinds {
            match kind {
                StatementKind::Begin => self.transaction.begin_sent(),
                StatementKind::Commit { .. }
                | StatementKind::Rollback { .. }
                | StatementKind::RollbackToSavepoint
                | StatementKind::ReleaseSavepoint
                | StatementKind::TwoPhase => {
                    self.transaction.control_sent();
                    self.keeper.transaction_may_end();
                    self.doubts.may_run_on(self.store.last_number());
                }
                StatementKind::CopyIn => self.copy.is_awaited = true,
                StatementKind::Prepare { name } => self.forget(Named::Statement, Some(name), link),
                StatementKind::Deallocate { name } => {
                    self.forget(Named::Statement, name.as_deref(), link);
                }
                StatementKind::DeclareCursor { name, .. } => {
                    self.forget(Named::Portal, Some(name), link);
                }
                StatementKind::CloseCursor { name } => {
                    self.forget(Named::Portal, name.as_deref(), link);
                }
                StatementKind::DiscardAll => {
                    self.forget(Named::Statement, None, link);
                    self.forget(Named::Portal, None, link);
                }
                StatementKind::Unknown => self.transaction.control_sent(),
                StatementKind::Savepoint
                | StatementKind::Rows
                | StatementKind::NoRows
                | StatementKind::CopyOut
                | StatementKind::Execute { .. }
                | StatementKind::Fetch { .. }
                | StatementKind::Set { .. } => {}
            }
        }
    }

    pub(super) fn forget(&mut self, named: Named, name: Option<&str>, link: &mut Link) {
        for running in self.store.forget(named, name) {
            super::finish(&running, "00000", link);
        }
    }
}

/// A definition is on its way.
pub(super) fn claim_until_ended(defining: Option<Defining>) {
    if let Some(defining) = defining {
        defining.sent();
    }
}
