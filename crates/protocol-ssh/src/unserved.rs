//! What is asked of a connection and given to nobody: recorded, once for each kind, so that who
//! asks ten thousand times has one event.

use std::collections::BTreeMap;
use std::sync::Arc;

use corral_model::Verb;
use corral_model::statement::{Attribute, Facts, Obstacle};
use corral_session::Draft;

use crate::live::Live;
use crate::{bounds, exec, spec};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unserved {
    X11,
    Agent,
    /// A connection to a socket of the target's files.
    SocketTo,
    /// A socket at the target that is listened on.
    SocketListen,
    /// One channel more than a connection may have open.
    Channel,
}

/// Which kinds are in a connection's record.
#[derive(Debug, Default)]
pub(crate) struct Recorded(Vec<Unserved>);

impl Recorded {
    /// Records it as denied, unless it was before. `place` is the socket's path.
    pub(crate) async fn note(&mut self, live: &Live, what: Unserved, place: &str) {
        if !self.0.contains(&what) {
            self.0.push(what);
            // The obstacle leaves one answer.
            let _denied = live.session.decide(draft(&live.login, what, place)).await;
        }
    }
}

fn draft(login: &str, what: Unserved, place: &str) -> Draft {
    let shown = exec::shown(place.as_bytes());
    let (verb, text, rule, why): (Option<Verb>, String, &'static str, String) = match what {
        Unserved::X11 => refused("forward X11", "X11 is not forwarded"),
        Unserved::Agent => refused("forward the agent", "no agent is forwarded"),
        Unserved::SocketTo => {
            refused(&format!("forward to the socket {shown}"), "no socket is forwarded")
        }
        Unserved::SocketListen => {
            refused(&format!("listen on the socket {shown}"), "no socket is forwarded")
        }
        Unserved::Channel => {
            let why = format!("more than {} channels of one connection", bounds::CHANNELS_MAX);
            (None, "open a channel".to_owned(), "limits", why)
        }
    };
    let attributes = BTreeMap::from([(spec::LOGIN, Attribute::Text(login.to_owned()))]);
    let facts = match verb {
        Some(verb) => exec::of_verb(verb, attributes),
        None => Facts { statement_count: 1, attributes, ..Facts::default() },
    };
    let obstacle = Obstacle { rule, text: why, position: None, is_size: what == Unserved::Channel };
    Draft {
        text: text.into(),
        facts: Arc::new(Facts { obstacle: Some(obstacle), ..facts }),
        parameters: Vec::new(),
        state_digest: String::new(),
        traceparent: None,
        is_stream: false,
    }
}

fn refused(text: &str, why: &str) -> (Option<Verb>, String, &'static str, String) {
    (Some(spec::FORWARD), text.to_owned(), "forward", why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_it_can_be_permitted() {
        let all = [
            Unserved::X11,
            Unserved::Agent,
            Unserved::SocketTo,
            Unserved::SocketListen,
            Unserved::Channel,
        ];
        for what in all {
            assert!(draft("root", what, "/run/x").facts.obstacle.is_some(), "{what:?}");
        }
        let text = draft("root", Unserved::SocketTo, "/run/a\nb").text;
        assert_eq!(&*text, "forward to the socket /run/a\\nb");
    }
}
