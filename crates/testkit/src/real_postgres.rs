//! A PostgreSQL server of its own for a test: own data, free port, gone when dropped.
//!
//! It uses the machine's newest installed server. PostgreSQL refuses to run as root; then it
//! runs as the user `postgres`, or `nobody` where there is none.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tempfile::TempDir;

/// How long a server may take until it accepts connections; two busy cores need a few seconds.
const START_DEADLINE: Duration = Duration::from_secs(30);
/// Between two looks at whether it accepts them.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Ports tried, as another program may take a free one first.
const PORT_ATTEMPTS: usize = 5;
const INSTALLATIONS: &str = "/usr/lib/postgresql";
/// `StartupMessage` 3.0 for user postgres.
const STARTUP: &[u8] = b"\0\0\0\x17\0\x03\0\0user\0postgres\0\0";

/// A running server. Its superuser is `postgres`; passwords are SCRAM-SHA-256.
#[derive(Debug)]
pub struct RealPostgres {
    pub port: u16,
    pub password: String,
    bin: PathBuf,
    child: Child,
    // Removed after the server has stopped.
    folder: TempDir,
}

/// The user that the server runs as, when we are root.
#[derive(Debug, Clone, Copy)]
struct ServerUser {
    uid: u32,
    gid: u32,
}

impl RealPostgres {
    /// Makes a cluster and starts it.
    ///
    /// # Errors
    /// When no server is installed, or it does not come up within its deadline.
    pub fn start() -> anyhow::Result<Self> {
        let bin = newest_installation()?;
        let user = server_user()?;
        let folder = tempfile::Builder::new().prefix("corral-pg-").tempdir_in("/tmp")?;
        if let Some(user) = user {
            std::os::unix::fs::chown(folder.path(), Some(user.uid), Some(user.gid))?;
        }
        let password = String::from("a password of this test alone");
        init(&bin, folder.path(), user, &password)?;
        for _ in 0..PORT_ATTEMPTS {
            let port = free_port()?;
            let mut child = spawn(&bin, folder.path(), user, port)?;
            if wait_until_it_answers(&mut child, port)? {
                return Ok(Self { port, password, bin, child, folder });
            }
        }
        let log = fs::read_to_string(folder.path().join("log")).unwrap_or_default();
        bail!("the server did not start; its log says:\n{log}")
    }

    /// `127.0.0.1:port`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Runs SQL with psql as the superuser and gives its unaligned output.
    ///
    /// # Errors
    /// When psql fails; the text is what it said.
    pub fn psql(&self, database: &str, sql: &str) -> anyhow::Result<String> {
        let output = Command::new(self.bin.join("psql"))
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", "postgres"])
            .args(["-p", &self.port.to_string(), "-d", database, "-c", sql])
            .env("PGPASSWORD", &self.password)
            .stdin(Stdio::null())
            .output()
            .context("running psql")?;
        if !output.status.success() {
            bail!("psql: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for RealPostgres {
    fn drop(&mut self) {
        // pg_ctl sends the signal that the standard library cannot send.
        let user = server_user().ok().flatten();
        let stopped = command_as(Path::new("/"), self.bin.join("pg_ctl").as_os_str(), user)
            .args(["stop", "-m", "immediate", "-D"])
            .arg(self.folder.path().join("data"))
            .status();
        if !stopped.is_ok_and(|status| status.success()) {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

fn newest_installation() -> anyhow::Result<PathBuf> {
    let mut versions: Vec<u32> = fs::read_dir(INSTALLATIONS)
        .with_context(|| format!("no server in {INSTALLATIONS}; run .ci/setup database"))?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|version: &u32| bin_of(*version).join("initdb").exists())
        .collect();
    versions.sort_unstable();
    let newest = versions.pop();
    newest.map(bin_of).with_context(|| format!("no server in {INSTALLATIONS}"))
}

fn bin_of(version: u32) -> PathBuf {
    Path::new(INSTALLATIONS).join(version.to_string()).join("bin")
}

fn server_user() -> anyhow::Result<Option<ServerUser>> {
    let own = fs::metadata("/proc/self").context("reading /proc/self")?;
    if std::os::unix::fs::MetadataExt::uid(&own) != 0 {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd").context("reading /etc/passwd")?;
    let find = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2).map(str::parse);
        Some(ServerUser { uid: fields.next()?.ok()?, gid: fields.next()?.ok()? })
    };
    let user = find("postgres").or_else(|| find("nobody"));
    user.map(Some).context("root cannot run PostgreSQL, and there is no user postgres or nobody")
}

fn command_as(folder: &Path, program: &OsStr, user: Option<ServerUser>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null()).env_remove("PGPASSWORD");
    if let Some(user) = user {
        command.uid(user.uid).gid(user.gid);
    }
    command
}

fn init(bin: &Path, folder: &Path, user: Option<ServerUser>, password: &str) -> anyhow::Result<()> {
    let password_file = folder.join("password");
    fs::write(&password_file, password)?;
    let status = command_as(folder, bin.join("initdb").as_os_str(), user)
        .args(["-D", "data", "-U", "postgres", "-A", "scram-sha-256", "-E", "UTF8", "-N"])
        .args(["--locale", "C.UTF-8", "--pwfile", "password"])
        .status()
        .context("running initdb")?;
    fs::remove_file(&password_file)?;
    if status.success() { Ok(()) } else { bail!("initdb ended with {status}") }
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn spawn(bin: &Path, folder: &Path, user: Option<ServerUser>, port: u16) -> anyhow::Result<Child> {
    let log = fs::File::create(folder.join("log"))?;
    command_as(folder, bin.join("postgres").as_os_str(), user)
        .args(["-D", "data", "-c", "listen_addresses=127.0.0.1", "-c", "max_connections=200"])
        .args(["-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off"])
        .arg("-k")
        .arg(folder)
        .args(["-p", &port.to_string()])
        .stderr(log)
        .spawn()
        .context("starting postgres")
}

/// False when the server ended by itself, which it does when the port was taken meanwhile.
fn wait_until_it_answers(child: &mut Child, port: u16) -> anyhow::Result<bool> {
    let deadline = Instant::now() + START_DEADLINE;
    while Instant::now() < deadline {
        if child.try_wait()?.is_some() {
            return Ok(false);
        }
        if answers(port).unwrap_or(false) {
            return Ok(true);
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    let _ = child.kill();
    let _ = child.wait();
    Ok(false)
}

/// Whether it asks for a password. A server that is still starting up answers with an error.
fn answers(port: u16) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(STARTUP)?;
    let mut answer = [0_u8; 1];
    stream.read_exact(&mut answer)?;
    Ok(answer == *b"R")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_runs_sql_and_is_gone_when_dropped() {
        let server = RealPostgres::start().expect("starts");
        assert_eq!(server.psql("postgres", "select 1 + 1").expect("runs"), "2\n");
        let refused = server.psql("postgres", "select nothing").expect_err("fails");
        assert!(refused.to_string().contains("nothing"), "{refused}");
        let folder = server.folder.path().to_path_buf();
        let port = server.port;
        drop(server);
        assert!(!folder.exists());
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    }
}
