//! Rows on their way to the client: forwarded in runs where they need no mask, rewritten one by
//! one where they do, recorded where the target says so.

use corral_gate::{Buffers, Output};

use super::Live;
use super::pending::{Pending, Sender};
use super::rows::{RowPlan, origins, plan, put_masked_row};
use super::target::{Passing, broken, pass_frame};
use crate::codec::answers::{decode_row_description, decode_text_row};
use crate::codec::{Head, head};
use crate::link::{Ending, Link, drop_first};

impl Live {
    /// Forwards all whole rows at the front in one piece, if they are to pass as they are.
    /// False when the row at the front needs to be looked at, or is not whole.
    pub(super) fn pass_raw_rows(&mut self, link: &mut Link) -> Result<bool, Ending> {
        if !self.front_has_raw_rows()? {
            return Ok(false);
        }
        let bytes = &link.buffers.target_in;
        let mut end = 0;
        let mut rows = 0;
        while let Some(rest) = bytes.get(end..) {
            match head(rest).map_err(broken)? {
                Some(found) if found.tag == b'D' && found.frame_len <= rest.len() => {
                    end += found.frame_len;
                    rows += 1;
                }
                _ => break,
            }
        }
        if rows == 0 {
            return Ok(false);
        }
        if let Some(running) = self.queue.front_mut().and_then(Pending::running_mut) {
            running.rows += rows;
            running.bytes += end as u64;
        }
        link.pass_to_client(end);
        Ok(true)
    }

    /// Whether the rows that are expected are known to need nothing.
    pub(super) fn front_has_raw_rows(&mut self) -> Result<bool, Ending> {
        let Some(running) = self.queue.front_mut().and_then(Pending::running_mut) else {
            return Ok(false);
        };
        if running.log.is_some() {
            return Ok(false);
        }
        if running.plan.is_none() && !running.scope.is_masked() && running.analysis.mask.is_none() {
            running.plan = Some(RowPlan::Raw);
        }
        Ok(running.plan == Some(RowPlan::Raw))
    }

    /// One whole row that needs to be looked at.
    pub(super) fn read_row(&mut self, found: Head, link: &mut Link) -> Result<(), Ending> {
        if let Some(Pending::Ask(question)) = self.queue.front() {
            let frame = link.buffers.target_in.get(..found.frame_len).unwrap_or_default();
            let row = decode_text_row(frame).map_err(broken)?;
            self.keeper.add_row(*question, row, found.frame_len);
            drop_first(&mut link.buffers.target_in, found.frame_len);
            return Ok(());
        }
        if self.queue.front().and_then(Pending::running).is_none() {
            return Err(Ending::target_fault("a row that no request asked for"));
        }
        self.plan_rows(link)?;
        let Some(running) = self.queue.front_mut().and_then(Pending::running_mut) else {
            return Ok(());
        };
        let Buffers { target_in, client_out: out, .. } = &mut link.buffers;
        let frame = target_in.get(..found.frame_len).unwrap_or_default();
        let start = out.len();
        match &running.plan {
            Some(RowPlan::Masked(cells)) => {
                put_masked_row(out, frame, cells).map_err(broken)?;
                running.masked_rows += 1;
            }
            Some(RowPlan::Raw) => out.extend_from_slice(frame),
            None => return Err(Ending::target_fault("a row without a plan")),
        }
        let sent = out.get(start..).unwrap_or_default();
        running.rows += 1;
        running.bytes += sent.len() as u64;
        if let Some(log) = &mut running.log
            && let Some(event) = log.add(sent).map_err(broken)?
        {
            link.outputs.push_back(Output::Record(Box::new(event)));
        }
        drop_first(target_in, found.frame_len);
        Ok(())
    }

    /// Decides what is done with the rows of the result at the front, if that is not decided.
    fn plan_rows(&mut self, link: &mut Link) -> Result<(), Ending> {
        let Some(running) = self.queue.front().and_then(Pending::running) else { return Ok(()) };
        if running.plan.is_some() {
            return Ok(());
        }
        let (analysis, scope) = (&running.analysis, &running.scope);
        let versions = (self.keeper.version(), scope.version);
        if self.layouts.origins_of != versions {
            let catalogue = self.keeper.names().map(|names| &*names.catalogue);
            self.layouts.origins = origins(scope, catalogue, &*self.analyst);
            self.layouts.origins_of = versions;
        }
        let layout = self.layouts.current.as_deref();
        let planned = plan(analysis, scope, layout, self.layouts.origins.as_ref());
        let planned = planned.map_err(|tripped| self.trip(tripped.0, link))?;
        let fields = self.layouts.current.as_deref().unwrap_or_default();
        if let Some(running) = self.queue.front_mut().and_then(Pending::running_mut) {
            running.plan = Some(planned);
            if let Some(event) = running.log.as_mut().and_then(|log| log.start(fields)) {
                link.ask(Output::Record(Box::new(event)));
            }
        }
        Ok(())
    }

    pub(super) fn read_row_description(
        &mut self,
        found: Head,
        link: &mut Link,
    ) -> Result<(), Ending> {
        let frame = link.buffers.target_in.get(..found.frame_len).unwrap_or_default();
        let passing = match self.queue.front() {
            Some(Pending::DescribeStatement) => {
                self.queue.pop_front();
                Passing::ToClient
            }
            Some(Pending::DescribePortal { sender, .. }) => {
                let passing = match sender {
                    Sender::Client => Passing::ToClient,
                    Sender::Gateway | Sender::Question => Passing::Swallowed,
                };
                if self.needs_layouts() {
                    self.layouts.current = Some(decode_row_description(frame).map_err(broken)?);
                }
                self.queue.pop_front();
                passing
            }
            Some(Pending::Query { running: Some(_), .. }) => {
                if self.needs_layouts() {
                    self.layouts.current = Some(decode_row_description(frame).map_err(broken)?);
                    // Before the description goes out: a result that trips is not even described.
                    self.plan_rows(link)?;
                }
                Passing::ToClient
            }
            _ => return Err(Ending::target_fault("a description that no request asked for")),
        };
        pass_frame(found, passing, link);
        Ok(())
    }

    fn needs_layouts(&self) -> bool {
        let is_recorded = match self.admission.record_rows {
            corral_model::resource::RecordRows::None
            | corral_model::resource::RecordRows::Count => false,
            corral_model::resource::RecordRows::Sample
            | corral_model::resource::RecordRows::Full => true,
        };
        let front = self.queue.front().and_then(Pending::running);
        let is_masked =
            front.is_some_and(|run| run.scope.is_masked() || run.analysis.mask.is_some());
        // A portal's description is read before its Execute may have been sent.
        is_recorded || is_masked || self.scope.is_masked() || front.is_none()
    }
}
