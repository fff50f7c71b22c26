//! Runs a program as a shell would: signals are passed on, its exit code is ours.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use crate::failure::{Exit, Failure};

/// Runs `program` with `variables` added to this process's own, and waits for its end. Gives its
/// exit code: 128 and the signal's number when a signal ended it, as shells do.
///
/// # Errors
/// When it cannot be started: exit code 127 when there is no such program, else 126.
pub(crate) async fn run(
    program: &OsString,
    arguments: &[OsString],
    variables: &BTreeMap<String, String>,
) -> Result<u8, Failure> {
    let mut signals = Signals::new()?;
    let child = Command::new(program).args(arguments).envs(variables).spawn();
    let mut child = child.map_err(|error| not_started(program, &error))?;
    wait(&mut child, &mut signals).await
}

async fn wait(child: &mut Child, signals: &mut Signals) -> Result<u8, Failure> {
    let status = loop {
        tokio::select! {
            status = child.wait() => break status,
            signal = signals.next() => pass_on(child, signal),
        }
    };
    status
        .map(exit_code)
        .map_err(|error| Failure::failed(format!("cannot wait for the command: {error}")))
}

pub(crate) fn not_started(program: &OsString, error: &std::io::Error) -> Failure {
    let (code, what) = match error.kind() {
        std::io::ErrorKind::NotFound => (127, "there is no such program".to_owned()),
        _ => (126, error.to_string()),
    };
    let program = program.to_string_lossy();
    Failure::new(Exit::Of(code), format!("cannot run {program}: {what}"))
}

/// As shells have it.
pub(crate) fn exit_code(status: ExitStatus) -> u8 {
    let code = match (status.code(), status.signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 1,
    };
    u8::try_from(code).unwrap_or(1)
}

fn pass_on(child: &Child, received: Signal) {
    if is_sent_by_terminal(received) {
        return;
    }
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended in the meantime; then there is nobody to tell.
        let _ = kill_process(pid, received);
    }
}

/// The terminal sends its interrupts to every process in front of it, the child included; passed
/// on as well, the child would get each twice.
pub(crate) fn is_sent_by_terminal(received: Signal) -> bool {
    matches!(received, Signal::INT | Signal::QUIT) && std::io::stdin().is_terminal()
}

/// The signals that ask a program to end.
pub(crate) struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
    quit: tokio::signal::unix::Signal,
}

impl Signals {
    /// Listens for them from here on.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn new() -> Result<Self, Failure> {
        let listen = |kind: SignalKind| {
            signal(kind)
                .map_err(|error| Failure::failed(format!("cannot listen for signals: {error}")))
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
            quit: listen(SignalKind::quit())?,
        })
    }

    /// The next one.
    ///
    /// # Cancel safety
    /// None is lost.
    pub(crate) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.hang_up.recv() => Signal::HUP,
            _ = self.quit.recv() => Signal::QUIT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn code(program: &str, arguments: &[&str]) -> Result<u8, Failure> {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        let variables = BTreeMap::from([("CORRAL_TEST_CODE".to_owned(), "9".to_owned())]);
        run(&OsString::from(program), &arguments, &variables).await
    }

    #[tokio::test]
    async fn the_exit_code_is_the_commands() {
        let check = async |script: &str, expect: u8| {
            assert_eq!(code("sh", &["-c", script]).await, Ok(expect), "{script}");
        };
        check("exit 0", 0).await;
        check("exit 7", 7).await;
        check("exit $CORRAL_TEST_CODE", 9).await;
        check("kill -TERM $$", 143).await;
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_exits_127() {
        let failure = code("/no/such/program", &[]).await.expect_err("cannot run");
        assert_eq!(failure.exit, Exit::Of(127));
        let failure = code("/", &[]).await.expect_err("cannot run");
        assert_eq!(failure.exit, Exit::Of(126));
    }
}
