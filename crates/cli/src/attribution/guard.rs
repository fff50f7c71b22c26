//! The guard, as the wrapper sees it: a process between the wrapper and its command, in a session
//! of its own, that ends what is left below it as soon as the wrapper lets go, however the
//! wrapper ended. When the guard itself is killed, the wrapper does its work.
//!
//! They talk over one connection, a byte at a time: the wrapper sends signals for the command, the
//! guard the command's exit code. The wrapper lets go by closing it, which the kernel does for one
//! that was killed. Nothing secret goes over it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener as StdListener, UnixStream as StdStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::leftovers;
use crate::child::{Signals, exit_code, is_sent_by_terminal};
use crate::failure::{Exit, Failure};

/// How long the guard may take to start, and to end what is left.
const GUARD_DEADLINE: Duration = Duration::from_secs(10);

/// The command below its guard.
pub(crate) struct Guarded {
    guard: Child,
    connection: UnixStream,
    signals: Signals,
}

impl Guarded {
    /// Starts the guard, and by it the command. From here on this process takes in what is
    /// orphaned by the guard's end.
    ///
    /// # Errors
    /// When the guard cannot be started. That the command cannot be is its exit code.
    pub(crate) async fn start(
        program: &OsString,
        arguments: &[OsString],
        variables: &BTreeMap<String, String>,
        open_files: Option<u64>,
    ) -> Result<Self, Failure> {
        leftovers::adopt()?;
        let signals = Signals::new()?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let own = std::process::id();
        let socket = format!("corral-guard-{own}-{:x}", since.as_nanos());
        let listener = listen(&socket).map_err(|error| not_guarded(&error))?;
        let program_of_guard = std::env::current_exe().map_err(|error| not_guarded(&error))?;
        let mut command = Command::new(program_of_guard);
        command.args(["guard", "--wrapper", &own.to_string(), "--socket", &socket]);
        if let Some(count) = open_files {
            command.args(["--open-files", &count.to_string()]);
        }
        command.arg("--").arg(program).args(arguments).envs(variables);
        let mut guard = command.spawn().map_err(|error| not_guarded(&error))?;
        let connection = tokio::select! {
            connection = timeout(GUARD_DEADLINE, accept(&listener, guard.id())) => {
                let late = |_| Failure::failed("the guard of the command does not answer");
                connection.map_err(late)?.map_err(|error| not_guarded(&error))?
            }
            // It said why.
            status = guard.wait() => {
                let code = status.map_or(1, exit_code);
                return Err(Failure::silent(Exit::Of(code)));
            }
        };
        Ok(Self { guard, connection, signals })
    }

    /// The guard's process.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.guard.id()
    }

    /// Passes signals on until the command ends; its exit code: 128 and the signal's number when
    /// a signal ended it. The guard's own, when that was ended first.
    ///
    /// # Errors
    /// When the guard cannot be waited for.
    pub(crate) async fn wait(&mut self) -> Result<u8, Failure> {
        let (mut from_guard, mut to_guard) = self.connection.split();
        let mut code = [0];
        loop {
            tokio::select! {
                read = from_guard.read(&mut code) => match read {
                    Ok(1..) => return Ok(code[0]),
                    Ok(0) | Err(_) => break,
                },
                signal = self.signals.next() => {
                    if is_sent_by_terminal(signal) {
                        continue;
                    }
                    // A guard that has ended is found out about by reading.
                    if let Ok(number) = u8::try_from(signal.as_raw()) {
                        let _ = to_guard.write_u8(number).await;
                    }
                }
            }
        }
        let cannot =
            |error: std::io::Error| Failure::failed(format!("cannot wait for the guard: {error}"));
        self.guard.wait().await.map(exit_code).map_err(cannot)
    }

    /// Lets go: ends everything that the command left behind, and the command.
    pub(crate) async fn end(self) {
        let Self { mut guard, connection, signals: _ } = self;
        drop(connection);
        // A guard that was killed, or that somebody stopped, leaves the rest to this process.
        let _ = timeout(GUARD_DEADLINE, guard.wait()).await;
        leftovers::end_all().await;
    }
}

/// The wrapper's end, as the guard has it.
///
/// # Errors
/// When the wrapper has ended, or another process listens in its place.
pub(crate) fn connect(socket: &str, wrapper: i32) -> std::io::Result<UnixStream> {
    let stream = StdStream::connect_addr(&SocketAddr::from_abstract_name(socket)?)?;
    stream.set_nonblocking(true)?;
    let stream = UnixStream::from_std(stream)?;
    match stream.peer_cred()?.pid() {
        Some(pid) if pid == wrapper => Ok(stream),
        _ => Err(std::io::Error::other("another process listens there")),
    }
}

/// In the abstract namespace: no directory is needed, and nothing is left of it. Others can see
/// and connect to it, so each side looks who the other is.
fn listen(socket: &str) -> std::io::Result<UnixListener> {
    let listener = StdListener::bind_addr(&SocketAddr::from_abstract_name(socket)?)?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

async fn accept(listener: &UnixListener, guard: Option<u32>) -> std::io::Result<UnixStream> {
    loop {
        let (stream, _) = listener.accept().await?;
        let peer = stream.peer_cred()?.pid().and_then(|pid| u32::try_from(pid).ok());
        if peer.is_some() && peer == guard {
            return Ok(stream);
        }
    }
}

fn not_guarded(error: &std::io::Error) -> Failure {
    Failure::failed(format!("cannot start the guard of the command: {error}"))
}
