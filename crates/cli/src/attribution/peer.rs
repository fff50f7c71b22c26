//! Which process is at the other end of a socket.
//!
//! A Unix socket's kernel keeps the process that connected, and since Linux 6.5 hands out a handle
//! of that very process (`SO_PEERPIDFD`). An older kernel, and a TCP socket, tell its pid alone:
//! should the process end and its pid be used again before it is opened, the other process is
//! taken for it.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt};
use tokio::net::{TcpStream, UnixStream};

use super::loopback;

/// Why a connection is nobody's, for people.
const UNKNOWN: &str = "the process that connected cannot be told";

/// A process that connected.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(super) pid: u32,
    /// Of the process itself; None where the kernel tells its pid alone.
    pub(super) pidfd: Option<OwnedFd>,
}

impl Peer {
    /// # Errors
    /// That it cannot be told, for people.
    pub(crate) fn of_unix(stream: &UnixStream) -> Result<Self, String> {
        let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
        let pid = pid.and_then(|pid| u32::try_from(pid).ok()).ok_or(UNKNOWN)?;
        let pidfd = match getsockopt(stream, sockopt::PeerPidfd) {
            Ok(pidfd) => Some(pidfd),
            // This kernel has no such option.
            Err(Errno::ENOPROTOOPT) => None,
            // It has one, and no process for it.
            Err(_) => return Err(format!("process {pid}, which connected, has ended")),
        };
        Ok(Self { pid, pidfd })
    }

    /// The process of our own tree that holds the other end, which is on this machine.
    ///
    /// # Errors
    /// That it cannot be told, or is none of the tree, for people.
    pub(super) fn of_tcp(stream: &TcpStream, client: std::net::SocketAddr) -> Result<Self, String> {
        let server = stream.local_addr().map_err(|_| UNKNOWN)?;
        let pid = loopback::owner(client, server, std::process::id());
        let pid = pid.ok_or("the process that connected is none of this run")?;
        Ok(Self { pid, pidfd: None })
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use tokio::net::UnixListener;

    use super::*;
    use crate::attribution::process::look;

    #[tokio::test]
    async fn who_connected_is_told_by_a_handle_that_outlives_its_pid() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).expect("listens");
        let script = "import socket, sys\n\
                      s = socket.socket(socket.AF_UNIX)\n\
                      s.connect(sys.argv[1])\n\
                      sys.stdin.read()";
        let mut child = Command::new("python3")
            .args(["-c", script])
            .arg(&path)
            .stdin(Stdio::piped())
            .spawn()
            .expect("runs");
        let (stream, _) = listener.accept().await.expect("connects");
        let peer = Peer::of_unix(&stream).expect("is told");
        assert_eq!(peer.pid, child.id());
        let has_handle = peer.pidfd.is_some();
        assert_eq!(look(peer).expect("is seen").id.pid, child.id());
        let late = Peer::of_unix(&stream).expect("is told");
        child.kill().expect("is killed");
        child.wait().expect("is reaped");
        // Its handle, or its pid which nobody has yet, leads to nobody.
        let why = look(late).expect_err("has ended");
        assert!(why.contains("has ended"), "{why} ({has_handle})");
        assert!(Peer::of_unix(&stream).and_then(look).is_err());
    }

    #[test]
    fn a_handle_of_another_process_than_the_pid_names_is_not_taken() {
        // As if the pid were used again: the handle is of one that ended, the pid of a living one.
        let mut child = Command::new("true").stdin(Stdio::null()).spawn().expect("runs");
        let pidfd = crate::attribution::process::open(child.id()).expect("is there");
        child.wait().expect("is reaped");
        let reused = Peer { pid: std::process::id(), pidfd: Some(pidfd) };
        assert!(look(reused).is_err());
        let by_pid = Peer { pid: std::process::id(), pidfd: None };
        assert!(look(by_pid).is_ok());
    }
}
