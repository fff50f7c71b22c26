//! From what a client asks of a session channel to what is decided. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use corral_gate::runbook;
use corral_model::resource::CommandSpec;
use corral_model::statement::{Attribute, Facts, Obstacle, Parameter};
use corral_session::Draft;

use crate::channel::{Ask, Setup};
use crate::options::Options;
use crate::recording::hex;
use crate::{exec, sftp, spec};

/// Who asks, and what the target has for them.
pub(crate) struct Asker<'a> {
    pub(crate) login: &'a str,
    pub(crate) options: &'a Options,
    pub(crate) commands: &'a [CommandSpec],
}

/// What is decided: the exact text that the target will get, and everything of the setup that
/// changes its meaning. What cannot be permitted is recorded as such.
pub(super) fn draft(asker: &Asker<'_>, setup: &Setup, ask: &Ask) -> Draft {
    let (text, facts, parameters): (Arc<str>, Facts, Vec<Parameter>) = match ask {
        Ask::Shell => {
            let attributes = attributes(asker, setup);
            ("shell".into(), exec::of_verb(spec::SHELL, attributes), Vec::new())
        }
        Ask::Exec(written) => command(asker, setup, written),
        Ask::Subsystem(name) => {
            let (text, facts) = subsystem(asker, setup, name);
            (text, facts, Vec::new())
        }
    };
    Draft {
        text,
        facts: Arc::new(facts),
        parameters,
        state_digest: state_digest(asker.login, setup),
        traceparent: setup.traceparent.clone(),
        is_stream: true,
    }
}

fn command(asker: &Asker<'_>, setup: &Setup, written: &[u8]) -> (Arc<str>, Facts, Vec<Parameter>) {
    let mut attributes = attributes(asker, setup);
    let text = match exec::read(written) {
        Ok(text) => text,
        Err(obstacle) => {
            let facts = exec::of_verb(spec::EXEC, attributes);
            let facts = Facts { obstacle: Some(obstacle), ..facts };
            return (exec::shown(written), facts, Vec::new());
        }
    };
    if let Some(runbook::Invocation { text, mut facts, parameters }) =
        runbook::invoke(asker.commands, &text)
    {
        // With a terminal a program may open a pager or an editor, and those run anything.
        if setup.terminal.is_some() {
            facts.obstacle.get_or_insert(Obstacle {
                rule: "command",
                text: "this command runs without a terminal; leave out `ssh -t`".to_owned(),
                position: None,
                is_size: false,
            });
        }
        return (text.into(), Facts { attributes, ..facts }, parameters);
    }
    attributes.extend(exec::attributes(&text));
    (text, exec::of_verb(spec::EXEC, attributes), Vec::new())
}

fn subsystem(asker: &Asker<'_>, setup: &Setup, name: &str) -> (Arc<str>, Facts) {
    let mut attributes = attributes(asker, setup);
    attributes.insert(spec::SUBSYSTEM, Attribute::Text(name.to_owned()));
    let text: Arc<str> = format!("subsystem {}", name.escape_debug()).into();
    if name == sftp::SUBSYSTEM {
        // Opening it does nothing: each of its operations is decided.
        return (text, Facts { statement_count: 1, attributes, ..Facts::default() });
    }
    let is_open = asker.options.subsystems.iter().any(|open| open == name);
    let obstacle = (!is_open).then(|| Obstacle {
        rule: "options",
        text: format!("the target's options.subsystems does not name {}", name.escape_debug()),
        position: None,
        is_size: false,
    });
    (text, Facts { obstacle, ..exec::of_verb(spec::EXEC, attributes) })
}

fn attributes(asker: &Asker<'_>, setup: &Setup) -> BTreeMap<&'static str, Attribute> {
    BTreeMap::from([
        (spec::LOGIN, Attribute::Text(asker.login.to_owned())),
        (spec::TERMINAL, Attribute::Flag(setup.terminal.is_some())),
    ])
}

/// Digest of the login, the environment and the terminal: an approval is for these too.
fn state_digest(login: &str, setup: &Setup) -> String {
    let mut context = Context::new(&SHA256);
    let mut part = |text: &str| {
        context.update(&(text.len() as u64).to_be_bytes());
        context.update(text.as_bytes());
    };
    part(login);
    part(setup.terminal.as_ref().map_or("", |terminal| terminal.term.as_str()));
    for (name, value) in &setup.variables {
        part(name);
        part(value);
    }
    hex(context.finish().as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drafted(ask: &Ask) -> Draft {
        let spec = r#"{"name":"restart","targets":["web-1"],"template":"systemctl restart {unit}",
                       "parameters":{"unit":{"one_of":["nginx"]}}}"#;
        let commands = [serde_json::from_str::<CommandSpec>(spec).expect("a command")];
        let options = Options { subsystems: vec!["netconf".into()], ..Options::default() };
        let asker = Asker { login: "root", options: &options, commands: &commands };
        draft(&asker, &Setup::default(), ask)
    }

    #[test]
    fn what_is_decided_is_what_the_target_gets() {
        let check = |ask: Ask, text: &str, verbs: &[&str], is_refused: bool| {
            let drafted = drafted(&ask);
            assert_eq!(&*drafted.text, text, "{ask:?}");
            let found: Vec<&str> = drafted.facts.verbs.iter().map(|verb| verb.name).collect();
            assert_eq!(found, verbs, "{ask:?}");
            assert_eq!(drafted.facts.obstacle.is_some(), is_refused, "{ask:?}");
            let login = Attribute::Text("root".to_owned());
            assert_eq!(drafted.facts.attributes.get(spec::LOGIN), Some(&login));
        };
        let exec = |text: &str| Ask::Exec(text.as_bytes().to_vec());
        check(Ask::Shell, "shell", &["shell"], false);
        check(exec("uptime -p"), "uptime -p", &["exec"], false);
        check(exec("restart unit=nginx"), "systemctl restart 'nginx'", &["command"], false);
        check(exec("restart unit=sshd"), "restart unit=sshd", &["command"], true);
        check(exec("restart unit=nginx;id"), "restart unit=nginx;id", &["command"], true);
        check(exec("restart; id"), "restart; id", &["exec"], false);
        check(exec("a\nb"), "a\\nb", &["exec"], true);
        check(Ask::Exec(b"a\xff".to_vec()), "a\u{fffd}", &["exec"], true);
        let subsystem = |name: &str| Ask::Subsystem(name.to_owned());
        check(subsystem("sftp"), "subsystem sftp", &[], false);
        check(subsystem("netconf"), "subsystem netconf", &["exec"], false);
        check(subsystem("x\ny"), "subsystem x\\ny", &["exec"], true);
    }

    #[test]
    fn an_approval_is_for_one_login_and_one_environment() {
        let set = |name: &str, value: &str| Setup {
            variables: vec![(name.to_owned(), value.to_owned())],
            ..Setup::default()
        };
        let digests = [
            state_digest("root", &Setup::default()),
            state_digest("ada", &Setup::default()),
            state_digest("root", &set("LANG", "C")),
            state_digest("root", &set("LAN", "GC")),
        ];
        for (index, digest) in digests.iter().enumerate() {
            assert!(!digests[..index].contains(digest), "{index}");
        }
        assert_eq!(digests[2], state_digest("root", &set("LANG", "C")));
    }
}
