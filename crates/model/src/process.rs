//! A process that a run was started for, as the wrapper that started it saw it.

use serde::{Deserialize, Serialize};

use crate::limits;

/// What the wrapper (`corral run`) read from its kernel about a process that connected. The
/// gateway cannot check it: it is as good as the wrapper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// In the wrapper's own namespace of processes.
    pub pid: u32,
    /// When it started, in ticks of the kernel since the machine did (proc_pid_stat(5), field 22):
    /// with `pid` it names one process for as long as the machine runs.
    pub start_ticks: u64,
    /// The program's file.
    pub program: String,
    /// Its arguments without the program's own name; what may be secret is `***`.
    pub arguments: Vec<String>,
    pub parent_pid: u32,
}

impl Process {
    /// What makes this unfit to be kept; None when nothing does.
    #[must_use]
    pub fn unfit(&self) -> Option<String> {
        let bytes: usize = self.arguments.iter().map(String::len).sum();
        let texts = || self.arguments.iter().chain([&self.program]);
        if self.program.len() > limits::PROCESS_PROGRAM_BYTES_MAX {
            let max = limits::PROCESS_PROGRAM_BYTES_MAX;
            return Some(format!("process.program: at most {max} bytes"));
        }
        if self.arguments.len() > limits::PROCESS_ARGUMENTS_MAX
            || bytes > limits::PROCESS_ARGUMENTS_BYTES_MAX
        {
            let (count, max) = (limits::PROCESS_ARGUMENTS_MAX, limits::PROCESS_ARGUMENTS_BYTES_MAX);
            return Some(format!("process.arguments: at most {count}, with {max} bytes together"));
        }
        if texts().any(|text| text.chars().any(char::is_control)) {
            return Some("process: no control characters in program and arguments".to_owned());
        }
        None
    }
}

/// What the command of a run left behind, as its wrapper says, which ends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeftProcesses {
    pub count: u64,
    /// Names of their programs, each once; not of all, when there are many.
    pub programs: Vec<String>,
}

impl LeftProcesses {
    /// What makes this unfit to be kept; None when nothing does.
    #[must_use]
    pub fn unfit(&self) -> Option<String> {
        let (most, bytes) = (limits::LEFT_PROGRAMS_MAX, limits::LEFT_PROGRAM_BYTES_MAX);
        let is_unfit =
            |program: &String| program.len() > bytes || program.chars().any(char::is_control);
        (self.programs.len() > most || self.programs.iter().any(is_unfit)).then(|| {
            format!("left.programs: at most {most} names of {bytes} bytes, no control characters")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_or_drives_a_terminal_is_unfit() {
        let process = |program: &str, arguments: Vec<String>| Process {
            pid: 7,
            start_ticks: 1,
            program: program.to_owned(),
            arguments,
            parent_pid: 1,
        };
        let check = |process: Process, words: Option<&str>| {
            let found = process.unfit();
            assert_eq!(found.is_some(), words.is_some(), "{found:?}");
            assert!(found.unwrap_or_default().contains(words.unwrap_or_default()));
        };
        check(process("/usr/bin/psql", vec!["-c".into(), "select 'ü'".into()]), None);
        check(process(&"x".repeat(5000), Vec::new()), Some("program"));
        check(process("x", vec![String::new(); 100]), Some("arguments"));
        check(process("x", vec!["y".repeat(5000)]), Some("arguments"));
        check(process("x", vec!["\u{1b}[2J".into()]), Some("control"));
        check(process("x\ny", Vec::new()), Some("control"));
    }

    #[test]
    fn names_of_what_was_left_are_few_short_and_fit_to_be_shown() {
        let check = |programs: Vec<String>, is_unfit: bool| {
            let left = LeftProcesses { count: 1, programs };
            assert_eq!(left.unfit().is_some(), is_unfit, "{left:?}");
        };
        check(vec!["sleep".into(); limits::LEFT_PROGRAMS_MAX], false);
        check(vec!["sleep".into(); limits::LEFT_PROGRAMS_MAX + 1], true);
        check(vec!["x".repeat(limits::LEFT_PROGRAM_BYTES_MAX + 1)], true);
        check(vec!["\u{1b}[2J".into()], true);
    }
}
