//! The limits of SFTP, each with its unit and its reason.

use std::time::Duration;

/// One packet without its length field, in bytes: OpenSSH takes 256 KiB; the rest is room for
/// others' headers. A larger one ends the channel.
pub(crate) const PACKET_BYTES_MAX: usize = 257 * 1024;
/// Content that one read may ask for, in bytes, so that its answer is within [`PACKET_BYTES_MAX`]
/// (OpenSSH's own limit).
pub(crate) const READ_BYTES_MAX: u32 = 255 * 1024;
/// A target's handle, in bytes (section 3 of the draft).
pub(crate) const HANDLE_BYTES_MAX: usize = 256;
/// Files and directories that one channel holds open (OpenSSH's server: about 1,000).
pub(crate) const HANDLES_MAX: usize = 512;
/// Requests of one channel without an answer; above it reading stops. Some clients ask for a whole
/// file at once.
pub(crate) const REQUESTS_MAX: usize = 1_024;
/// Requests that wait behind a held one, in bytes; above it reading stops.
pub(crate) const WAITING_BYTES_MAX: usize = 1024 * 1024;
/// A path in a request, in bytes, as sent and as made absolute (Linux: PATH_MAX).
pub(crate) const PATH_BYTES_MAX: usize = 4096;
/// Names in a path: each of its directories is asked of the policies.
pub(crate) const PATH_DEPTH_MAX: usize = 64;
/// Requests of one channel that no honest client sends (handles that were closed, unknown
/// requests), each recorded; one more ends the channel.
pub(crate) const FAULTS_MAX: u32 = 64;
/// Completions on their way to the record, and words to the client's person; above it answers are
/// not read.
pub(crate) const RECORDING_MAX: usize = 256;
/// Lines that one channel's client is told beside the protocol: a client that reads none of them
/// would lose that much of its window.
pub(crate) const LINES_TOLD_MAX: u32 = 100;
/// How long a client's last bytes may take to the target after the client closed its side.
pub(crate) const LAST_BYTES: Duration = Duration::from_secs(10);
/// How long a side that is to be told something may take to read it, and the target to end after
/// the client did.
pub(crate) const GOODBYE: Duration = Duration::from_secs(1);
