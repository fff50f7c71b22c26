//! What a command leaves behind: this process becomes the parent of everything below it whose
//! own parent ended (also after `setsid` and a double fork), reaps it, and ends it at the end.

use std::collections::BTreeSet;

use corral_model::limits;
use corral_model::process::LeftProcesses;
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, pidfd_send_signal, set_child_subreaper, waitpid,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Duration, Instant, sleep};

use super::process::{self, Stat};
use crate::failure::Failure;
use crate::output;

/// Between two looks at what is left.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// How often everything that is left is killed: who forks faster than that is told of.
const KILLS_MAX: usize = 50;

/// Takes in what is orphaned from here on.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn adopt() -> Result<(), Failure> {
    set_child_subreaper(Some(getpid())).map_err(|error| {
        Failure::failed(format!("cannot take in what the command leaves behind: {error}"))
    })
}

/// Reaps what was taken in, for ever; `command` is waited for by somebody else.
///
/// # Errors
/// When signals cannot be listened for.
pub(crate) async fn reap(command: Option<u32>) -> Failure {
    let mut ended = match signal(SignalKind::child()) {
        Ok(ended) => ended,
        Err(error) => return Failure::failed(format!("cannot listen for signals: {error}")),
    };
    loop {
        reap_now(command);
        // None never comes: this process keeps its listener.
        let _ = ended.recv().await;
    }
}

fn reap_now(except: Option<u32>) {
    let own = std::process::id();
    let is_ours = |stat: &Stat| stat.state == 'Z' && stat.parent_pid == own;
    for (pid, _) in process::descendants(own).into_iter().filter(|(_, stat)| is_ours(stat)) {
        if except == Some(pid) {
            continue;
        }
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            // It is a zombie of ours, and nobody else waits for it.
            let _ = waitpid(Some(pid), WaitOptions::NOHANG);
        }
    }
}

/// Ends everything that the command left behind: it is asked to, then killed.
pub(crate) async fn end_all() {
    let deadline = Instant::now() + limits::LEFTOVER_GRACE;
    let mut left = living();
    tell(&left, Signal::TERM);
    while !left.is_empty() && Instant::now() < deadline {
        sleep(LOOK_INTERVAL).await;
        left = living();
    }
    for _ in 0..KILLS_MAX {
        if left.is_empty() {
            return;
        }
        tell(&left, Signal::KILL);
        sleep(LOOK_INTERVAL).await;
        left = living();
    }
    let pids: Vec<String> = left.iter().map(ToString::to_string).collect();
    output::remark(&format!("corral: could not be ended: process {}", pids.join(", ")));
}

/// What the command left behind, now that it has ended: all that lives below this process but the
/// guard. None when there is nothing.
pub(crate) fn left(guard: Option<u32>) -> Option<LeftProcesses> {
    let below = process::descendants(std::process::id()).into_iter();
    let is_left = |(pid, stat): &(u32, Stat)| Some(*pid) != guard && stat.state != 'Z';
    let left: Vec<u32> = below.filter(is_left).map(|(pid, _)| pid).collect();
    let names = left.iter().filter_map(|pid| process::name(*pid));
    let programs: BTreeSet<String> = names.take(limits::LEFT_PROGRAMS_MAX).collect();
    let count = u64::try_from(left.len()).unwrap_or(u64::MAX);
    (count > 0).then(|| LeftProcesses { count, programs: programs.into_iter().collect() })
}

fn living() -> Vec<u32> {
    reap_now(None);
    let own = std::process::id();
    let is_living = |stat: &Stat| stat.state != 'Z';
    let below = process::descendants(own).into_iter();
    below.filter(|(_, stat)| is_living(stat)).map(|(pid, _)| pid).collect()
}

fn tell(pids: &[u32], what: Signal) {
    let own = std::process::id();
    for pid in pids {
        let Ok(pidfd) = process::open(*pid) else { continue };
        // Its pid may have become somebody else's before the handle was opened.
        if process::descends(*pid, own) {
            // It may have ended in the meantime; then there is nobody to tell.
            let _ = pidfd_send_signal(&pidfd, what);
        }
    }
}
