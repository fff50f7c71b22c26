//! What the target says without being asked: notices, notifications, settings.

use super::Live;
use super::target::{Passing, broken, pass_frame};
use crate::codec::Head;
use crate::codec::answers::{decode_notification, decode_parameter_status};
use crate::codec::server::put_notification;
use crate::encoding;
use crate::link::{Ending, Link};

/// Settings that a masked session still reports: none of them can hold text of the client's or
/// of a table's.
const REPORTED: &[&str] = &[
    "client_encoding",
    "DateStyle",
    "default_transaction_read_only",
    "in_hot_standby",
    "integer_datetimes",
    "IntervalStyle",
    "is_superuser",
    "scram_iterations",
    "server_encoding",
    "server_version",
    "standard_conforming_strings",
    "TimeZone",
];

/// Settings whose change makes names or texts mean something else.
const NAMING: &[&str] = &[
    "client_encoding",
    "is_superuser",
    "role",
    "search_path",
    "session_authorization",
    "standard_conforming_strings",
];

impl Live {
    /// A masked session gets none: their texts can hold values.
    pub(super) fn read_notice(&mut self, head: Head, link: &mut Link) -> Result<(), Ending> {
        let is_ours = self.queue.front().is_some_and(super::Pending::is_question);
        let passing = if self.scope.is_masked() || is_ours || !self.is_open() {
            Passing::Swallowed
        } else {
            Passing::ToClient
        };
        pass_frame(head, passing, link);
        Ok(())
    }

    /// A masked session gets no payload.
    pub(super) fn read_notification(&mut self, head: Head, link: &mut Link) -> Result<(), Ending> {
        let frame = link.buffers.target_in.split_to(head.frame_len);
        let (process, channel, payload) = decode_notification(&frame).map_err(broken)?;
        let payload = if self.scope.is_masked() { &[] } else { payload };
        put_notification(&mut link.buffers.client_out, process, channel, payload);
        Ok(())
    }

    pub(super) fn read_parameter_status(
        &mut self,
        head: Head,
        link: &mut Link,
    ) -> Result<(), Ending> {
        let frame = link.buffers.target_in.get(..head.frame_len).unwrap_or_default();
        let (name, value) = decode_parameter_status(frame).map_err(broken)?;
        if name == "client_encoding" && !encoding::is_utf8(&value) {
            self.keeper.becomes_foreign();
        }
        if NAMING.contains(&name) {
            self.keeper.distrust_session();
        }
        let is_shown = self.is_open() && (!self.scope.is_masked() || REPORTED.contains(&name));
        if !self.is_open() {
            let (name, value) = (name.to_owned(), value.into_owned());
            self.facts.parameters.retain(|(known, _)| *known != name);
            self.facts.parameters.push((name, value));
        }
        pass_frame(head, if is_shown { Passing::ToClient } else { Passing::Swallowed }, link);
        Ok(())
    }
}
