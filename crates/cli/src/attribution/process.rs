//! Processes as the kernel shows them: who descends from whom, what runs, when it started.
//!
//! A pid alone names nobody for long. What is read here is read while a pidfd of the process is
//! held, and counts only when the process was still alive afterwards: until then its pid was its
//! own.

use std::collections::HashMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use corral_model::limits;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::peer::Peer;

/// One process, for as long as the machine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ProcessId {
    pub pid: u32,
    pub start_ticks: u64,
}

/// What was seen of a living process.
#[derive(Debug)]
pub(crate) struct Seen {
    pub id: ProcessId,
    pub parent_pid: u32,
    /// The program's file.
    pub program: String,
    /// As the process shows them, its own name first.
    pub words: Vec<String>,
    /// Device and inode of the program's file.
    file: Option<(u64, u64)>,
    /// Ready to read once it ends.
    pub pidfd: OwnedFd,
}

impl Seen {
    /// Whether it runs the file of another program.
    pub(crate) fn runs(&self, file: Option<(u64, u64)>) -> bool {
        file.is_some() && self.file == file
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&self) -> bool {
        has_ended(&self.pidfd)
    }
}

/// What is in `/proc/PID/stat` (proc_pid_stat(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub state: char,
    pub parent_pid: u32,
    pub start_ticks: u64,
}

/// Looks at a process that connected.
///
/// # Errors
/// That it has ended, or why it cannot be watched, for people.
pub(crate) fn look(peer: Peer) -> Result<Seen, String> {
    let pid = peer.pid;
    let ended = || format!("process {pid}, which connected, has ended");
    let opened = peer.pidfd.map_or_else(|| open(pid), Ok);
    let pidfd = opened.map_err(|error| match error {
        Errno::SRCH => ended(),
        other => format!("process {pid}, which connected, cannot be watched: {other}"),
    })?;
    let stat = stat(pid).ok_or_else(ended)?;
    let seen = Seen {
        id: ProcessId { pid, start_ticks: stat.start_ticks },
        parent_pid: stat.parent_pid,
        program: fs::read_link(format!("/proc/{pid}/exe"))
            .map(|path| path.to_string_lossy().into_owned())
            .unwrap_or_default(),
        words: words(pid),
        file: file_of(Path::new(&format!("/proc/{pid}/exe"))),
        pidfd,
    };
    if seen.has_ended() { Err(ended()) } else { Ok(seen) }
}

/// A handle of a process.
///
/// # Errors
/// [`Errno::SRCH`] when there is none.
pub(crate) fn open(pid: u32) -> Result<OwnedFd, Errno> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
    pidfd_open(pid, PidfdFlags::empty())
}

/// Device and inode of a file.
pub(crate) fn file_of(path: &Path) -> Option<(u64, u64)> {
    let found = fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

fn has_ended(pidfd: &OwnedFd) -> bool {
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut wanted = [PollFd::new(pidfd, PollFlags::IN)];
    // What cannot be asked is not trusted to be alive.
    poll(&mut wanted, Some(&at_once)).map_or(true, |ready| ready > 0)
}

pub(crate) fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name of what a process runs, as the kernel keeps it: at most 15 bytes, fit to be shown.
pub(crate) fn name(pid: u32) -> Option<String> {
    let name = fs::read(format!("/proc/{pid}/comm")).ok()?;
    let name = String::from_utf8_lossy(&name);
    let shown: String = name.trim_end().chars().filter(|c| !c.is_control()).collect();
    (!shown.is_empty()).then_some(shown)
}

/// Whether this very process is there and has not ended.
pub(crate) fn is_alive(id: ProcessId) -> bool {
    stat(id.pid)
        .is_some_and(|stat| stat.start_ticks == id.start_ticks && !matches!(stat.state, 'Z' | 'X'))
}

/// The name of the program stands in parentheses and may hold anything, parentheses too.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, after_name) = text.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent_pid = fields.next()?.parse().ok()?;
    // Field 22 of all, of which state is field 3 and the parent field 4.
    let start_ticks = fields.nth(22 - 4 - 1)?.parse().ok()?;
    Some(Stat { state, parent_pid, start_ticks })
}

fn words(pid: u32) -> Vec<String> {
    use std::io::Read as _;
    let Ok(file) = fs::File::open(format!("/proc/{pid}/cmdline")) else { return Vec::new() };
    let mut bytes = Vec::new();
    let enough = u64::try_from(4 * limits::PROCESS_ARGUMENTS_BYTES_MAX).unwrap_or(u64::MAX);
    if file.take(enough).read_to_end(&mut bytes).is_err() {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(&bytes);
    text.trim_end_matches('\0').split('\0').map(str::to_owned).collect()
}

/// Whether a process descends from `ancestor`. Parents that end meanwhile hand their children to
/// the ancestor itself, so a way that breaks off is walked again.
pub(crate) fn descends(pid: u32, ancestor: u32) -> bool {
    const TRIES: usize = 3;
    (0..TRIES).any(|_| is_way_to(pid, ancestor))
}

fn is_way_to(pid: u32, ancestor: u32) -> bool {
    let mut next = pid;
    for _ in 0..limits::PROCESS_DEPTH_MAX {
        match stat(next).map(|stat| stat.parent_pid) {
            Some(parent) if parent == ancestor => return true,
            Some(0) | None => return false,
            Some(parent) => next = parent,
        }
    }
    false
}

/// Every process that descends from `ancestor`, with what is known of it, by pid.
pub(crate) fn descendants(ancestor: u32) -> Vec<(u32, Stat)> {
    let mut all: HashMap<u32, Stat> = HashMap::new();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    for entry in entries.flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        if let Some((pid, stat)) = pid.and_then(|pid| stat(pid).map(|stat| (pid, stat))) {
            all.insert(pid, stat);
        }
    }
    let is_below = |pid: &u32| {
        let parent = |pid: &u32| all.get(pid).map(|stat| stat.parent_pid);
        let ancestors = std::iter::successors(parent(pid), parent);
        ancestors.take(limits::PROCESS_DEPTH_MAX).any(|parent| parent == ancestor)
    };
    let mut below: Vec<(u32, Stat)> =
        all.iter().filter(|(pid, _)| is_below(pid)).map(|(pid, stat)| (*pid, *stat)).collect();
    below.sort_unstable_by_key(|(pid, _)| *pid);
    below
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_stat_is_read_whatever_the_program_is_called() {
        let line = |name: &str| {
            format!("42 ({name}) S 7 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2\n")
        };
        let expect = Stat { state: 'S', parent_pid: 7, start_ticks: 98765 };
        for name in ["cat", "a b", "x) R 1 1", "((", ")"] {
            assert_eq!(parse_stat(&line(name)), Some(expect), "{name}");
        }
        assert_eq!(parse_stat("42 (cat) S 7"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn a_living_process_is_seen_and_a_dead_one_is_not() {
        let mut child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().expect("runs");
        let look = |pid| look(Peer { pid, pidfd: None });
        let seen = look(child.id()).expect("is seen");
        let own = std::process::id();
        assert_eq!((seen.id.pid, seen.parent_pid), (child.id(), own));
        assert!(descends(child.id(), own) && !descends(own, child.id()) && !descends(1, own));
        assert!(descendants(own).iter().any(|(pid, _)| *pid == child.id()));
        assert!(!seen.has_ended());
        child.kill().expect("is killed");
        // It waits to be reaped, and counts as ended.
        while !seen.has_ended() {
            std::thread::yield_now();
        }
        assert!(look(child.id()).is_err());
        child.wait().expect("is reaped");
        assert!(look(child.id()).is_err() && !descends(child.id(), own));
    }
}
