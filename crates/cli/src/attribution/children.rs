//! One child run for each process of the wrapper's tree that connects: made at its first
//! connection, kept for the others, ended when the process ends.

use std::collections::HashMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use corral_api::{EndedView, StartRunRequest, StartRunResponse};
use corral_model::{Process, Secret, limits};
use serde_json::Value;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::time::timeout;

use super::name::{name_of, process_of};
use super::peer::Peer;
use super::process::{self, ProcessId, Seen};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output;

/// The commands with which our own program acts for the process that started it.
const HELPERS: [&str; 3] = ["carry", "k8s-credential", "run"];
/// How long the end of the wrapper's run waits for the ends of those below it.
const SETTLE_DEADLINE: Duration = Duration::from_secs(2);

/// The processes of one wrapper that connected and are alive.
pub(crate) struct Children {
    /// As the wrapper's run.
    client: Client,
    wrapper: Secret,
    /// Of this program's file.
    own_file: Option<(u64, u64)>,
    own_pid: u32,
    known: Mutex<HashMap<ProcessId, Arc<Member>>>,
}

/// A process of the tree.
pub(crate) struct Member {
    process: Process,
    /// Locked while its run is being made, so that there is one.
    run: tokio::sync::Mutex<Option<ChildRun>>,
    /// True once it has ended.
    ended: watch::Sender<bool>,
    /// Connections that helpers carry for it.
    helped: watch::Sender<usize>,
    /// True once its run has been ended too.
    settled: watch::Sender<bool>,
}

/// Its run.
#[derive(Clone)]
struct ChildRun {
    id: String,
    client: Client,
}

/// A connection's process, and whether a helper of ours stands between.
pub(crate) struct Found {
    pub member: Arc<Member>,
    helped: Option<Helped>,
}

/// Counted as long as a helper carries a connection.
struct Helped(Arc<Member>);

impl Drop for Helped {
    fn drop(&mut self) {
        self.0.helped.send_modify(|count| *count = count.saturating_sub(1));
    }
}

impl Found {
    /// Waits until its process has ended. A connection that a helper carries ends by itself: it
    /// may have been handed on (as OpenSSH's master does when it goes to the background), and the
    /// helper ends with whoever holds it.
    pub(crate) async fn ended(&self) {
        if self.helped.is_some() {
            return std::future::pending().await;
        }
        self.member.until_ended().await;
    }
}

impl Member {
    pub(crate) fn id(&self) -> ProcessId {
        ProcessId { pid: self.process.pid, start_ticks: self.process.start_ticks }
    }

    pub(crate) async fn until_ended(&self) {
        // Its sender is in `self`.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }

    fn has_ended(&self) -> bool {
        *self.ended.borrow()
    }
}

impl Children {
    pub(crate) fn new(client: Client, wrapper: Secret) -> Arc<Self> {
        Arc::new(Self {
            client,
            wrapper,
            own_file: process::file_of(Path::new("/proc/self/exe")),
            own_pid: std::process::id(),
            known: Mutex::default(),
        })
    }

    /// As the wrapper's run.
    pub(crate) fn wrapper(&self) -> &Client {
        &self.client
    }

    /// The process of the tree that this is, or that this helper of ours acts for.
    ///
    /// # Errors
    /// Why the connection is refused, for people.
    pub(crate) fn find(self: &Arc<Self>, peer: Peer) -> Result<Found, String> {
        let seen = process::look(peer)?;
        if !self.is_helper(&seen) {
            let member = self.member(seen)?;
            return Ok(Found { member, helped: None });
        }
        let pid = seen.id.pid;
        let parent = process::look(Peer { pid: seen.parent_pid, pidfd: None })?;
        // A helper whose parent had ended would have another one by now.
        let is_its_parent = process::stat(pid).is_some_and(|stat| stat.parent_pid == parent.id.pid);
        if !is_its_parent || seen.has_ended() {
            return Err(format!("process {}, which connected, has ended", parent.id.pid));
        }
        let member = self.member(parent)?;
        member.helped.send_modify(|count| *count += 1);
        Ok(Found { helped: Some(Helped(member.clone())), member })
    }

    /// Whether this is a helper of ours which is the wrapper's command itself: nobody but the
    /// wrapper's guard started it, so that it acts for the wrapper's run.
    pub(crate) fn is_command(&self, pid: u32) -> bool {
        process::look(Peer { pid, pidfd: None }).is_ok_and(|seen| {
            let guard = process::stat(seen.parent_pid);
            self.is_helper(&seen)
                && guard.is_some_and(|guard| guard.parent_pid == self.own_pid)
                && !seen.has_ended()
        })
    }

    fn is_helper(&self, seen: &Seen) -> bool {
        let mut words = seen.words.iter().skip(1).take_while(|word| *word != "--");
        seen.runs(self.own_file) && words.any(|word| HELPERS.contains(&word.as_str()))
    }

    fn member(self: &Arc<Self>, seen: Seen) -> Result<Arc<Member>, String> {
        let pid = seen.id.pid;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(member) = known.get(&seen.id) {
            return Ok(member.clone());
        }
        // Right below the wrapper is its guard alone, which connects to nothing.
        let is_own = pid == self.own_pid || seen.parent_pid == self.own_pid;
        if is_own || !process::descends(pid, self.own_pid) {
            return Err(format!("process {pid}, which connected, is none of this run"));
        }
        if known.len() >= limits::ATTRIBUTED_PROCESSES_MAX {
            let max = limits::ATTRIBUTED_PROCESSES_MAX;
            return Err(format!("{max} processes of this run have connections; no more at once"));
        }
        let id = seen.id;
        let process = process_of(&seen);
        #[expect(deprecated, reason = "an OwnedFd keeps its descriptor; the other way is unsafe")]
        let watched = AsyncFd::with_interest(seen.pidfd, Interest::READABLE);
        let watched =
            watched.map_err(|error| format!("process {pid} cannot be watched: {error}"))?;
        let member = Arc::new(Member {
            process,
            run: tokio::sync::Mutex::default(),
            ended: watch::Sender::new(false),
            helped: watch::Sender::new(0),
            settled: watch::Sender::new(false),
        });
        known.insert(id, member.clone());
        drop(known);
        tokio::spawn(self.clone().watch(id, member.clone(), watched));
        Ok(member)
    }

    /// Ends a process's run when the process has ended, and with it all that it had open.
    async fn watch(self: Arc<Self>, id: ProcessId, member: Arc<Member>, pidfd: AsyncFd<OwnedFd>) {
        if let Err(error) = pidfd.readable().await {
            tracing::warn!(%error, pid = id.pid, fd = ?pidfd.as_fd(), "a process is not watched");
        }
        member.ended.send_replace(true);
        // Its sender is in `member`.
        let _ = member.helped.subscribe().wait_for(|count| *count == 0).await;
        let run = member.run.lock().await.take();
        if let Some(run) = run {
            end(&run).await;
        }
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        member.settled.send_replace(true);
    }

    /// Waits until the runs of processes that have ended by themselves have ended too, so that the
    /// record says why; for at most [`SETTLE_DEADLINE`].
    pub(crate) async fn settle(&self) {
        let over: Vec<Arc<Member>> = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            let is_over = |(id, member): &(&ProcessId, &Arc<Member>)| {
                !process::is_alive(**id) && *member.helped.borrow() == 0
            };
            known.iter().filter(is_over).map(|(_, member)| member.clone()).collect()
        };
        let all = async {
            for member in over {
                // Its sender is in `member`.
                let _ = member.settled.subscribe().wait_for(|settled| *settled).await;
            }
        };
        let _ = timeout(SETTLE_DEADLINE, all).await;
    }

    /// The gateway, as the run of this process; made when it has none.
    ///
    /// # Errors
    /// Why there is none, for people.
    pub(crate) async fn client_of(&self, member: &Member) -> Result<Client, String> {
        let mut run = member.run.lock().await;
        if let Some(run) = &*run {
            return Ok(run.client.clone());
        }
        if member.has_ended() {
            return Err(format!("process {} has ended", member.process.pid));
        }
        let made = self.make(&member.process).await.map_err(|failure| why(&failure))?;
        Ok(run.insert(made).client.clone())
    }

    async fn make(&self, process: &Process) -> Result<ChildRun, Failure> {
        let request = StartRunRequest {
            name: name_of(process),
            purpose: None,
            targets: Vec::new(),
            actions: Vec::new(),
            renew_within_s: None,
            // As long as the wrapper's own run, which is cut to by the gateway.
            ttl_s: Some(limits::RUN_TTL_MAX.as_secs()),
            for_principal: None,
            process: Some(process.clone()),
            wrapper: Some(self.wrapper.clone().into()),
            traceparent: None,
        };
        let started: StartRunResponse = self.client.post(&["runs"], &request).await?;
        let id = started.run_id.to_string();
        Ok(ChildRun { id, client: self.client.with_token(started.token.into_secret()) })
    }
}

/// The gateway's sentences say whose they are, and what becomes of this one does too.
fn why(failure: &Failure) -> String {
    failure.message.strip_prefix("corral: ").unwrap_or(&failure.message).to_owned()
}

/// That it ended already (it expired, the wrapper's own run was killed) is as good.
async fn end(run: &ChildRun) {
    let ended: Result<EndedView, Failure> =
        run.client.post(&["runs", &run.id, "end"], &Value::Null).await;
    if let Err(failure) = ended
        && failure.exit == Exit::Unreachable
    {
        output::remark(&format!("corral: run {} was not ended: {}", run.id, failure.message));
    }
}
