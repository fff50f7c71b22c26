//! One connection from its first byte to its last, as a [`Machine`].
//!
//! ```text
//! Startup ── Admit ──► TargetLogin ── names ──► Live ──► Closed
//! ```

use std::sync::Arc;
use std::time::Instant;

use corral_gate::machine::{Start, Wants};
use corral_gate::{Admission, Buffers, Denial, Input, Machine, Output};
use corral_model::event::CloseReason;
use corral_model::limits;

use crate::deny::sqlstate;
use crate::link::{Ending, Link};
use crate::live::Live;
use crate::shared::Shared;
use crate::startup::Startup;
use crate::target_login::{TargetLogin, unavailable};

enum Phase {
    Startup(Box<Startup>),
    TargetLogin(Box<TargetLogin>),
    Live(Box<Live>, Option<Instant>),
    Closed,
}

/// The machine of one PostgreSQL connection.
pub(crate) struct PostgresMachine {
    shared: Arc<Shared>,
    link: Link,
    phase: Phase,
}

impl PostgresMachine {
    pub(crate) fn new(start: Start, shared: Arc<Shared>) -> Self {
        let link = Link::new(start.now);
        Self { shared, link, phase: Phase::Startup(Box::new(Startup::new(start))) }
    }

    fn step(&mut self, input: Input) -> Result<(), Ending> {
        match &mut self.phase {
            Phase::Startup(startup) => match input {
                Input::ClientReadable => startup.pump(&mut self.link),
                Input::ClientTlsStarted => {
                    startup.tls_started(&mut self.link)?;
                    startup.pump(&mut self.link)
                }
                Input::Admitted(admission) => self.admitted(admission),
                other => refuse_early(other),
            },
            Phase::TargetLogin(login) => match input {
                Input::TargetConnected => {
                    login.connected(&mut self.link);
                    Ok(())
                }
                Input::TargetTlsStarted { end_point } => {
                    login.tls_started(end_point, &mut self.link)
                }
                Input::TargetReadable => self.pump_login(),
                Input::DeadlinePassed => Err(unavailable("it does not answer")),
                Input::TargetClosed => {
                    self.pump_login()?;
                    match &self.phase {
                        Phase::TargetLogin(_) => Err(unavailable("it closed the connection")),
                        Phase::Startup(_) | Phase::Live(..) | Phase::Closed => {
                            self.step(Input::TargetClosed)
                        }
                    }
                }
                other => refuse_early(other),
            },
            Phase::Live(live, deadline) => {
                if let (Input::DeadlinePassed, Some(at)) = (&input, *deadline)
                    && self.link.now >= at
                    && !live.is_open()
                {
                    return Err(unavailable("it does not answer"));
                }
                live.handle(input, &mut self.link)?;
                if live.is_open() {
                    *deadline = None;
                }
                Ok(())
            }
            Phase::Closed => Ok(()),
        }
    }

    fn admitted(&mut self, admission: Box<Admission>) -> Result<(), Ending> {
        let request = match &mut self.phase {
            Phase::Startup(startup) => startup.take_request(),
            Phase::TargetLogin(_) | Phase::Live(..) | Phase::Closed => None,
        };
        let Some(request) = request else {
            return Err(Ending::client_fault("nobody asked to be let in"));
        };
        let login = TargetLogin::new(admission, request, Arc::clone(&self.shared), &mut self.link);
        self.phase = Phase::TargetLogin(Box::new(login));
        Ok(())
    }

    fn pump_login(&mut self) -> Result<(), Ending> {
        let Phase::TargetLogin(login) = &mut self.phase else { return Ok(()) };
        let Some(facts) = login.pump(&mut self.link)? else { return Ok(()) };
        let Phase::TargetLogin(login) = std::mem::replace(&mut self.phase, Phase::Closed) else {
            return Ok(());
        };
        let TargetLogin { admission, request, deadline, .. } = *login;
        let live = Live::open(admission, request.minor, facts, &self.shared, &mut self.link)?;
        self.phase = Phase::Live(Box::new(live), Some(deadline));
        // What came after the target's greeting.
        self.step(Input::TargetReadable)
    }

    fn end(&mut self, ending: &Ending) {
        // What came with the end is not decided any more: it would be allowed, and never end.
        self.link.outputs.retain(|output| !matches!(output, Output::Decide(_) | Output::Check(_)));
        if let Phase::Live(live, _) = &mut self.phase {
            live.close(ending, &mut self.link);
        }
        self.link.close_with(ending);
        self.phase = Phase::Closed;
    }
}

/// Inputs that end a connection which is not a session, and those that mean nothing to it.
fn refuse_early(input: Input) -> Result<(), Ending> {
    match input {
        Input::Refused(denial) => Err(refused(CloseReason::Client, &denial)),
        Input::End { reason, denial } => Err(refused(reason, &denial)),
        Input::ClientClosed => Err(Ending::quiet(CloseReason::Client)),
        Input::DeadlinePassed => {
            Err(Ending::with(CloseReason::Idle, "57014", "the login took too long"))
        }
        Input::ClientReadable
        | Input::TargetReadable
        | Input::TargetClosed
        | Input::ClientTlsStarted
        | Input::Admitted(_)
        | Input::TargetConnected
        | Input::TargetTlsStarted { .. }
        | Input::Worked(_)
        | Input::Checked(_)
        | Input::Decided(_)
        | Input::CancelAsked
        | Input::RightsChanged(_) => Ok(()),
    }
}

fn refused(reason: CloseReason, denial: &Denial) -> Ending {
    Ending { reason, code: Some(sqlstate(denial.kind)), text: denial.sentence() }
}

impl Machine for PostgresMachine {
    fn handle(&mut self, input: Input, now: Instant) {
        self.link.now = now;
        if let Err(ending) = self.step(input) {
            self.end(&ending);
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.link.outputs.pop_front()
    }

    fn buffers(&mut self) -> &mut Buffers {
        &mut self.link.buffers
    }

    fn wants(&self) -> Wants {
        match &self.phase {
            Phase::Startup(startup) => Wants { client: startup.wants_client(), target: false },
            Phase::TargetLogin(login) => Wants {
                // So that a lost client is seen; it has nothing to say before the target is ready.
                client: self.link.buffers.client_in.len() < limits::LOGIN_MESSAGE_BYTES_MAX,
                target: login.wants_target(),
            },
            Phase::Live(live, _) => live.wants(&self.link),
            Phase::Closed => Wants { client: false, target: false },
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Startup(startup) => Some(startup.deadline),
            Phase::TargetLogin(login) => Some(login.deadline),
            Phase::Live(live, deadline) => live.next_deadline().or(*deadline),
            Phase::Closed => None,
        }
    }
}
