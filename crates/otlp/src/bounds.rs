//! The limits of the export. Reaching one drops spans and counts them.

use std::time::Duration;

use corral_model::limits;

/// Notes of events that wait to be made spans of.
pub(crate) const NOTES_QUEUED_MAX: usize = 8_192;
/// Spans that wait to be sent.
pub(crate) const SPANS_QUEUED_MAX: usize = 8_192;
/// Spans of one request.
pub(crate) const BATCH_SPANS_MAX: usize = 512;
/// A span waits this long for others to go with it.
pub(crate) const BATCH_INTERVAL: Duration = Duration::from_secs(1);
/// Runs that are followed at once.
pub(crate) const RUNS_OPEN_MAX: usize = 65_536;
/// Sessions that are followed at once.
pub(crate) const SESSIONS_OPEN_MAX: usize = limits::SESSIONS_MAX;
/// Statements of all sessions that are followed at once.
pub(crate) const STATEMENTS_OPEN_MAX: usize = 65_536;
/// One text of an attribute, in bytes.
pub(crate) const TEXT_BYTES_MAX: usize = 256;
/// Items of one attribute that is a list.
pub(crate) const LIST_LEN_MAX: usize = 16;
/// One request to the collector, with its answer.
pub(crate) const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
/// What is read of a collector's answer, in bytes.
pub(crate) const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Before the second attempt; each later one waits twice as long.
pub(crate) const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest wait between two attempts, whatever the collector asks for.
pub(crate) const RETRY_INTERVAL_MAX: Duration = Duration::from_secs(30);
/// A batch that could not be delivered for so long is dropped.
pub(crate) const RETRY_FOR: Duration = Duration::from_secs(60);
/// Lost spans are logged at most this often.
pub(crate) const WARN_INTERVAL: Duration = Duration::from_secs(60);
/// What waits when the gateway stops may take this long.
pub const FLUSH_DEADLINE: Duration = Duration::from_secs(5);
