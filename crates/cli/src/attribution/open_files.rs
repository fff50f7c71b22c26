//! How many files may be open: the wrapper needs two for each connection that it carries and one
//! for each process, the command keeps what it would have had without it.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Lets this process open as many files as it may. Gives what counted before, for
/// [`put_back`]; None when there is no such limit.
pub(crate) fn raise() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let before = limit.current?;
    let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
    // With the limit that there is, fewer connections are carried at once.
    let _ = setrlimit(Resource::Nofile, raised);
    Some(before)
}

/// Before this process becomes the command.
pub(crate) fn put_back(before: u64) -> rustix::io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, rustix::process::Rlimit { current: Some(before), ..limit })
}
