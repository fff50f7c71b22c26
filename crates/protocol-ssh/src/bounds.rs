//! The limits of this protocol, each with its unit and its reason.

use std::time::Duration;

/// Window of a channel, in bytes, each way: what one stalled channel may hold in memory. OpenSSH
/// has 2 MiB; at 50 ms of distance one MiB is 20 MB/s.
pub(crate) const WINDOW_BYTES: u32 = 1024 * 1024;
/// One packet's data, in bytes (RFC 4253 section 6.1: everybody takes 32,768).
pub(crate) const PACKET_BYTES: u32 = 32 * 1024;
/// A packet of a client that is logged in, in bytes with its padding: room for a command of
/// [`corral_model::limits::STATEMENT_BYTES_MAX`], which is refused with its reason. Who sends more
/// is disconnected.
pub(crate) const PACKET_LEN_MAX: usize = 1024 * 1024 + 4 * 1024;
/// A command, in bytes: OpenSSH's server takes packets of 256 KiB and breaks the connection, with
/// all its channels, at a longer one.
pub(crate) const EXEC_BYTES_MAX: usize = 255 * 1024;
/// Consumed bytes after which the sender is given window again.
pub(crate) const GRANT_BYTES: u32 = WINDOW_BYTES / 4;
/// Channels open at once on one connection: ten times what OpenSSH's server allows a master.
pub(crate) const CHANNELS_MAX: usize = 100;
/// Ports of a target on which it listens for one client.
pub(crate) const LISTENS_MAX: usize = 16;
/// Requests (window sizes, signals) that wait on one channel; a client that sends more breaks
/// the protocol.
pub(crate) const CHANNEL_WORDS_MAX: usize = 64;
/// Environment variables that one channel may set.
pub(crate) const VARIABLES_MAX: usize = 64;
/// One environment variable's name or value, in bytes.
pub(crate) const VARIABLE_BYTES_MAX: usize = 4 * 1024;
/// Name of a terminal (`TERM`), in bytes.
pub(crate) const TERM_BYTES_MAX: usize = 128;
/// A user name, in bytes: LOGIN and TARGET.
pub(crate) const USER_NAME_BYTES_MAX: usize = 512;
/// Wrong tokens on one connection.
pub(crate) const TOKENS_WRONG_MAX: u32 = 3;
/// Refused authentication requests of any kind on one connection. An agent with several keys
/// shows each of them before a password is asked for.
pub(crate) const AUTH_ATTEMPTS_MAX: usize = 12;
/// A refused login is answered after this long.
pub(crate) const REFUSAL_TIME: Duration = Duration::from_millis(300);
/// A silent connection is asked whether it lives this often, on both sides.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Unanswered questions after which the connection is lost.
pub(crate) const KEEP_ALIVES_MAX: usize = 3;
/// Certificates, for clients and for targets, are good for this long at most.
pub(crate) const CERTIFICATE_TTL: Duration = Duration::from_secs(5 * 60);
/// Clocks of other machines may be behind by this much.
pub(crate) const CLOCK_SKEW: Duration = Duration::from_secs(60);
/// How long a client's last bytes may take to a target after the client closed its channel, and
/// a target's close after it was asked to.
pub(crate) const CHANNEL_FAREWELL: Duration = Duration::from_secs(1);
/// How long the channels of a session that was ended may take to tell their client.
pub(crate) const SESSION_FAREWELL: Duration = Duration::from_millis(2_000);
/// How long the end of a program's output waits for its exit status while the client may send
/// more. A program that closes its output and goes on is told late by this.
pub(crate) const EXIT_PATIENCE: Duration = Duration::from_secs(2);
