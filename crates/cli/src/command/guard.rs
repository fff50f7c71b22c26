//! `guard`: starts a command, and ends all that is left below it once the wrapper lets go, which a
//! wrapper also does that is killed.
//!
//! It leaves the command's session as soon as the command is started. So neither the terminal nor
//! a signal to the command's process group reaches it, and the command's group is what it would
//! be without it. It knows no token but what the command's environment holds.

use std::ffi::OsString;

use clap::Args;
use rustix::process::{Pid, Signal, getppid, kill_process, setsid};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use crate::attribution::{guard, leftovers};
use crate::child::{Signals, exit_code};
use crate::failure::{Exit, Failure};

/// Start a command and end what it leaves behind; `corral run` starts its command with it
#[derive(Debug, Clone, Args)]
pub struct GuardArgs {
    /// The wrapper's process
    #[arg(long, value_name = "PID")]
    pub wrapper: i32,
    /// Where the wrapper listens for this process
    #[arg(long, value_name = "NAME")]
    pub socket: String,
    /// How many files the command may have open
    #[arg(long, value_name = "COUNT")]
    pub open_files: Option<u64>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

pub(crate) async fn guard(args: GuardArgs) -> Result<(), Failure> {
    let is_below = getppid().map(Pid::as_raw_nonzero).map(i32::from) == Some(args.wrapper);
    let wrapper = match guard::connect(&args.socket, args.wrapper) {
        Ok(wrapper) if is_below => wrapper,
        // It has ended, and there is nobody to tell.
        Ok(_) | Err(_) => return Err(Failure::silent(Exit::Of(137))),
    };
    leftovers::adopt()?;
    // Caught and left alone: what is meant for the command comes from the wrapper. Ignored ones
    // would be ignored by the command as well.
    let _signals = Signals::new()?;
    let command = started(&args)?;
    setsid().map_err(|error| {
        Failure::failed(format!("the guard cannot leave the command's session: {error}"))
    })?;
    let pid = command.id();
    let code = tokio::select! {
        code = attend(command, wrapper) => code,
        failure = leftovers::reap(pid) => return Err(failure),
    };
    leftovers::end_all().await;
    match code {
        0 => Ok(()),
        code => Err(Failure::silent(Exit::Of(code))),
    }
}

/// The command, which is killed when this process is.
fn started(args: &GuardArgs) -> Result<Child, Failure> {
    let cannot =
        |error: std::io::Error| Failure::failed(format!("cannot start the command: {error}"));
    let mut command = Command::new(std::env::current_exe().map_err(cannot)?);
    command.args(["below", "--guard", &std::process::id().to_string()]);
    if let Some(count) = args.open_files {
        command.args(["--open-files", &count.to_string()]);
    }
    command.arg("--").args(&args.command).spawn().map_err(cannot)
}

/// Passes signals on and tells the command's exit code, until the wrapper lets go. That of a
/// command which still runs then is SIGKILL's.
async fn attend(mut command: Child, mut wrapper: UnixStream) -> u8 {
    let mut ended = None;
    let mut signal = [0];
    loop {
        tokio::select! {
            status = command.wait(), if ended.is_none() => {
                let code = status.map_or(1, exit_code);
                ended = Some(code);
                // A wrapper that has ended is found out about by reading.
                let _ = wrapper.write_u8(code).await;
            }
            read = wrapper.read(&mut signal) => match read {
                Ok(1..) => pass_on(&command, i32::from(signal[0])),
                Ok(0) | Err(_) => return ended.unwrap_or(137),
            },
        }
    }
}

fn pass_on(command: &Child, number: i32) {
    let pid = command.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some((pid, signal)) = pid.zip(Signal::from_named_raw(number)) {
        // It may have ended in the meantime; then there is nobody to tell.
        let _ = kill_process(pid, signal);
    }
}
