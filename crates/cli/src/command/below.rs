//! `below`: becomes a command that is killed when the guard which started it ends, however that
//! ends. Only a process itself can ask the kernel for that, so this is run in the command's place.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use clap::Args;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use crate::attribution::open_files;
use crate::child::not_started;
use crate::failure::{Exit, Failure};

/// Become a command that ends with its guard; `corral guard` starts its command with it
#[derive(Debug, Clone, Args)]
pub struct BelowArgs {
    /// The guard's process
    #[arg(long, value_name = "PID")]
    pub guard: i32,
    /// How many files the command may have open
    #[arg(long, value_name = "COUNT")]
    pub open_files: Option<u64>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

pub(crate) fn below(args: BelowArgs) -> Result<(), Failure> {
    let mut words = args.command.into_iter();
    let program = words.next().ok_or_else(|| Failure::usage("name a command after --"))?;
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| {
        Failure::failed(format!("cannot ask to be ended with the guard: {error}"))
    })?;
    // The guard may have ended before that; then nobody will say so any more.
    if getppid().map(Pid::as_raw_nonzero).map(i32::from) != Some(args.guard) {
        return Err(Failure::silent(Exit::Of(137)));
    }
    if let Some(count) = args.open_files {
        open_files::put_back(count).map_err(|error| {
            Failure::failed(format!("cannot set how many files may be open: {error}"))
        })?;
    }
    let error = Command::new(&program).args(words).exec();
    Err(not_started(&program, &error))
}
