//! How OpenSSH's clients, and everything that calls them, are told where to connect: a
//! configuration of their own, and `ssh`, `scp` and `sftp` first on the path that read it.
//!
//! The configuration reads the person's own and the system's behind itself, so that other hosts
//! stay reachable.

use corral_model::native::{
    Bare, ClientFile, ClientVariable, FileKind, Lifetime, NativeClient, Piece, Reach, VariableValue,
};

/// Programs that take `-F`.
const PROGRAMS: [&str; 3] = ["ssh", "scp", "sftp"];

/// The client for a listener's targets.
pub(crate) fn client(reach: &Reach) -> NativeClient {
    let uses_agent = match reach.lifetime {
        Lifetime::Process => true,
        // No agent outlives its process: the token is asked for as a password.
        Lifetime::Kept => false,
    };
    let mut variables = vec![
        ClientVariable::new("CORRAL_SSH_HOST", VariableValue::Host),
        ClientVariable::new("CORRAL_SSH_PORT", VariableValue::Text(reach.port.to_string())),
    ];
    if uses_agent {
        let socket = VariableValue::Pieces(vec![Piece::AgentSocket]);
        variables.push(ClientVariable::new("SSH_AUTH_SOCK", socket));
    }
    let mut files = vec![
        file("ssh_config", FileKind::Text, config(reach, uses_agent)),
        file("known_hosts", FileKind::Text, vec![Piece::Published]),
    ];
    for program in PROGRAMS {
        files.push(file(&format!("bin/{program}"), FileKind::Program, wrapper(program)));
    }
    let arguments = match reach.targets.as_slice() {
        [only] => vec![only.name.clone()],
        [] | [_, ..] => Vec::new(),
    };
    NativeClient {
        program: "ssh".to_owned(),
        arguments,
        bare: Bare::Program,
        variables,
        files,
        uses_agent,
    }
}

fn file(name: &str, kind: FileKind, pieces: Vec<Piece>) -> ClientFile {
    ClientFile { name: name.to_owned(), kind, pieces }
}

fn config(reach: &Reach, uses_agent: bool) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for target in &reach.targets {
        let (name, login) = (&target.name, &target.username);
        pieces.push(Piece::text(format!("Host {name}\n    User \"{login}@{name}\"\n")));
    }
    let names: Vec<&str> = reach.targets.iter().map(|target| target.name.as_str()).collect();
    if !names.is_empty() {
        pieces.push(Piece::text(format!("Host {}\n    HostName ", names.join(" "))));
        pieces.push(Piece::Host);
        pieces.push(Piece::text(format!(
            "\n    Port {}\n    CheckHostIP no\n    UpdateHostKeys no\n    \
             StrictHostKeyChecking yes\n    GlobalKnownHostsFile /dev/null\n    \
             IdentityFile none\n    UserKnownHostsFile ",
            reach.port
        )));
        pieces.push(Piece::Directory);
        pieces.push(Piece::text("/known_hosts\n"));
        if uses_agent {
            pieces.push(Piece::text("    PreferredAuthentications publickey\n    IdentityAgent "));
            pieces.push(Piece::AgentSocket);
            pieces.push(Piece::text("\n"));
        } else {
            pieces
                .push(Piece::text("    PreferredAuthentications password,keyboard-interactive\n"));
        }
    }
    pieces.push(Piece::text("Match all\n    Include ~/.ssh/config /etc/ssh/ssh_config\n"));
    pieces
}

/// A program that calls the next one of its name on the path, with the configuration.
fn wrapper(program: &str) -> Vec<Piece> {
    vec![
        Piece::text("#!/bin/sh\nown='"),
        Piece::Directory,
        Piece::text(format!(
            "'\nIFS=:\nfor place in $PATH; do\n  \
             if [ \"$place\" != \"$own/bin\" ] && [ -x \"$place/{program}\" ]; then\n    \
             unset IFS\n    exec \"$place/{program}\" -F \"$own/ssh_config\" \"$@\"\n  fi\ndone\n\
             echo 'corral: no {program} is installed' >&2\nexit 127\n"
        )),
    ]
}

#[cfg(test)]
mod tests {
    use corral_model::native::{Listener, ReachedTarget};

    use super::*;

    fn text(client: &NativeClient, name: &str) -> String {
        let file = client.files.iter().find(|file| file.name == name).expect("the file");
        let shown = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Host => "gate.example".to_owned(),
            Piece::Directory => "/run/d".to_owned(),
            Piece::AgentSocket => "/run/d/agent".to_owned(),
            other => format!("{other:?}"),
        };
        file.pieces.iter().map(shown).collect()
    }

    fn reach(lifetime: Lifetime, targets: &[(&str, &str)]) -> Reach {
        let target = |(name, username): &(&str, &str)| ReachedTarget {
            name: (*name).to_owned(),
            username: (*username).to_owned(),
        };
        let targets = targets.iter().map(target).collect();
        Reach { port: 2222, listener: Listener::Shared, lifetime, targets }
    }

    #[test]
    fn every_target_is_a_host_with_its_login() {
        let found = client(&reach(Lifetime::Process, &[("web-1", "root"), ("web-2", "svc")]));
        let config = text(&found, "ssh_config");
        assert!(config.starts_with(
            "Host web-1\n    User \"root@web-1\"\nHost web-2\n    User \"svc@web-2\"\n\
             Host web-1 web-2\n    HostName gate.example\n    Port 2222\n"
        ));
        assert!(config.contains("    UserKnownHostsFile /run/d/known_hosts\n"));
        assert!(config.contains("    IdentityAgent /run/d/agent\n"));
        assert!(config.ends_with("Include ~/.ssh/config /etc/ssh/ssh_config\n"));
        assert!(found.uses_agent && found.arguments.is_empty());
    }

    #[test]
    fn without_an_agent_the_token_is_asked_for() {
        let found = client(&reach(Lifetime::Kept, &[("web-1", "root")]));
        let config = text(&found, "ssh_config");
        assert!(!config.contains("IdentityAgent") && config.contains("password,"));
        assert!(!found.uses_agent);
        assert_eq!(found.arguments, ["web-1"]);
        assert!(text(&found, "bin/scp").contains("/scp\" -F \"$own/ssh_config\" \"$@\"\n"));
    }
}
