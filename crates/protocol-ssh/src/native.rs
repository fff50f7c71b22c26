//! How OpenSSH's clients, and everything that calls them, are told where to connect: a
//! configuration of their own, and `ssh`, `scp` and `sftp` first on the path that read it.
//!
//! The configuration reads the person's own and the system's behind itself, so that other hosts
//! stay reachable.

use corral_model::native::{
    Bare, ClientFile, ClientVariable, FileKind, Lifetime, LocalClient, NativeClient, Piece, Reach,
    VariableValue,
};

/// A connection that hears nothing asks this often whether the gateway is there.
const ALIVE_S: u32 = 15;
/// The wrapper's socket, in the directory of the client's files.
const SOCKET: &str = "ssh.stream";
/// Programs that take `-F`.
const PROGRAMS: [&str; 3] = ["ssh", "scp", "sftp"];

/// The client for a listener's targets; None when there is none to be led to.
pub(crate) fn client(reach: &Reach) -> Option<NativeClient> {
    let arguments = match reach.targets.as_slice() {
        [] => return None,
        [only] => vec![only.name.clone()],
        [_, ..] => Vec::new(),
    };
    let mut files = vec![
        file("ssh_config", FileKind::Text, config(reach, Way::Direct)),
        file("known_hosts", FileKind::Text, vec![Piece::Published]),
    ];
    for program in PROGRAMS {
        files.push(file(&format!("bin/{program}"), FileKind::Program, wrapper(program)));
    }
    Some(NativeClient {
        program: "ssh".to_owned(),
        arguments,
        bare: Bare::Program,
        variables: variables(reach),
        files,
        uses_agent: reach.lifetime == Lifetime::Process,
        local: (reach.lifetime == Lifetime::Process).then(|| local(reach)),
    })
}

/// By a program that joins OpenSSH with the wrapper's socket: it knows no Unix sockets itself.
fn local(reach: &Reach) -> LocalClient {
    LocalClient {
        socket: SOCKET.to_owned(),
        has_loopback: false,
        target: reach.listener_target().map(|target| target.name.clone()),
        variables: Vec::new(),
        files: vec![file("ssh_config", FileKind::Text, config(reach, Way::Wrapper))],
    }
}

/// How a connection comes to the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Direct,
    /// Through the wrapper's socket.
    Wrapper,
}

/// For programs that call `ssh` by themselves, also where they look past the path, and for those
/// that speak SSH themselves.
fn variables(reach: &Reach) -> Vec<ClientVariable> {
    let pieces =
        |name: &str, pieces: Vec<Piece>| ClientVariable::new(name, VariableValue::Pieces(pieces));
    let with_config = |before: &str, after: &str| {
        vec![Piece::text(before), Piece::Directory, Piece::text(format!("/ssh_config{after}"))]
    };
    let mut variables = vec![
        ClientVariable::new("CORRAL_SSH_HOST", VariableValue::Host),
        ClientVariable::new("CORRAL_SSH_PORT", VariableValue::Text(reach.port.to_string())),
        pieces("GIT_SSH_COMMAND", with_config("ssh -F ", "")),
        pieces("RSYNC_RSH", with_config("ssh -F ", "")),
    ];
    match reach.lifetime {
        Lifetime::Process => {
            variables.push(pieces("SSH_AUTH_SOCK", vec![Piece::AgentSocket]));
            // Connections that ansible keeps open are this process's: in the usual place they
            // would be taken up by another run.
            let shared = " -C -o ControlMaster=auto -o ControlPersist=60s";
            variables.push(pieces("ANSIBLE_SSH_ARGS", with_config("-F ", shared)));
            variables.push(pieces("ANSIBLE_SSH_CONTROL_PATH_DIR", vec![Piece::Directory]));
        }
        Lifetime::Kept => {
            variables.push(pieces("ANSIBLE_SSH_ARGS", with_config("-F ", " -C")));
            // The one that renews the certificate reads it.
            variables.push(ClientVariable::new("CORRAL_TOKEN", VariableValue::Token));
        }
    }
    variables
}

fn file(name: &str, kind: FileKind, pieces: Vec<Piece>) -> ClientFile {
    ClientFile { name: name.to_owned(), kind, pieces }
}

fn config(reach: &Reach, way: Way) -> Vec<Piece> {
    let names: Vec<&str> = reach.targets.iter().map(|target| target.name.as_str()).collect();
    let mut pieces = Vec::new();
    if reach.lifetime == Lifetime::Kept {
        pieces.extend(renewal(&names));
    }
    for target in &reach.targets {
        let (name, login) = (&target.name, &target.username);
        pieces.push(Piece::text(format!("Host {name}\n    User \"{login}@{name}\"\n")));
    }
    pieces.push(Piece::text(format!("Host {}\n    HostName ", names.join(" "))));
    pieces.push(Piece::Host);
    pieces.push(Piece::text(format!(
        "\n    Port {}\n    CheckHostIP no\n    UpdateHostKeys no\n    StrictHostKeyChecking yes\n    \
         ServerAliveInterval {ALIVE_S}\n    ServerAliveCountMax 3\n    SendEnv TRACEPARENT\n    \
         GlobalKnownHostsFile /dev/null\n    UserKnownHostsFile ",
        reach.port
    )));
    pieces.push(Piece::Directory);
    pieces.push(Piece::text("/known_hosts\n    PreferredAuthentications publickey\n"));
    if way == Way::Wrapper {
        pieces.push(Piece::text("    ProxyCommand "));
        pieces.push(Piece::Directory);
        pieces.push(Piece::text("/bin/corral carry "));
        pieces.push(Piece::Directory);
        pieces.push(Piece::text(format!("/{SOCKET}\n")));
    }
    match reach.lifetime {
        Lifetime::Process => {
            pieces.push(Piece::text("    IdentityFile none\n    IdentityAgent "));
            pieces.push(Piece::AgentSocket);
        }
        Lifetime::Kept => {
            pieces.push(Piece::text("    IdentityAgent none\n    IdentitiesOnly yes\n    "));
            pieces.push(Piece::text("IdentityFile "));
            pieces.push(Piece::Directory);
            pieces.push(Piece::text("/id\n    CertificateFile "));
            pieces.push(Piece::Directory);
            pieces.push(Piece::text("/id-cert.pub"));
        }
    }
    // What the person set for all hosts (a jump host, an agent to forward) is not for these.
    let others: Vec<String> = names.iter().map(|name| format!("!{name}")).collect();
    pieces.push(Piece::text(format!(
        "\nHost * {}\n    Include ~/.ssh/config /etc/ssh/ssh_config\n",
        others.join(" ")
    )));
    pieces
}

/// Has the certificate renewed before it is read: no agent outlives the process that wrote this.
fn renewal(names: &[&str]) -> Vec<Piece> {
    vec![
        Piece::text(format!("Match originalhost {} exec \"", names.join(","))),
        Piece::Directory,
        Piece::text("/bin/corral credential --protocol ssh --key "),
        Piece::Directory,
        Piece::text("/id --gateway "),
        Piece::Gateway,
        Piece::text(" --ca-file "),
        Piece::Directory,
        Piece::text("/ca.pem\"\n"),
    ]
}

/// A program that calls the next one of its name on the path, with the configuration. Its own
/// directory is taken off the path: within a run in a run, the next one is the outer run's, and
/// each must find the one behind itself.
fn wrapper(program: &str) -> Vec<Piece> {
    vec![
        Piece::text("#!/bin/sh\nown='"),
        Piece::Directory,
        Piece::text(format!(
            "'\nrest=\nset -f\nIFS=:\nfor place in $PATH; do\n  \
             [ \"$place\" = \"$own/bin\" ] || rest=\"$rest${{rest:+:}}$place\"\ndone\n\
             unset IFS\nset +f\nPATH=$rest\n\
             if ! command -v {program} >/dev/null; then\n  \
             echo 'corral: no {program} is installed' >&2\n  exit 127\nfi\n\
             exec {program} -F \"$own/ssh_config\" \"$@\"\n"
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
            Piece::Gateway => "https://gate".to_owned(),
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
        let reach = reach(Lifetime::Process, &[("web-1", "root"), ("web-2", "svc")]);
        let found = client(&reach).expect("a client");
        let config = text(&found, "ssh_config");
        assert!(config.starts_with(
            "Host web-1\n    User \"root@web-1\"\nHost web-2\n    User \"svc@web-2\"\n\
             Host web-1 web-2\n    HostName gate.example\n    Port 2222\n"
        ));
        assert!(config.contains("    UserKnownHostsFile /run/d/known_hosts\n"));
        assert!(config.contains("    IdentityAgent /run/d/agent\n"));
        assert!(
            config
                .ends_with("Host * !web-1 !web-2\n    Include ~/.ssh/config /etc/ssh/ssh_config\n")
        );
        assert!(found.uses_agent && found.arguments.is_empty());
    }

    #[test]
    fn without_an_agent_the_certificate_is_renewed_in_a_file() {
        let found = client(&reach(Lifetime::Kept, &[("web-1", "root")])).expect("a client");
        let config = text(&found, "ssh_config");
        assert!(config.starts_with(
            "Match originalhost web-1 exec \"/run/d/bin/corral credential --protocol ssh \
             --key /run/d/id --gateway https://gate --ca-file /run/d/ca.pem\"\nHost web-1\n"
        ));
        assert!(config.contains("CertificateFile /run/d/id-cert.pub\n"));
        assert!(!found.uses_agent);
        assert_eq!(found.arguments, ["web-1"]);
        assert!(text(&found, "bin/scp").ends_with("exec scp -F \"$own/ssh_config\" \"$@\"\n"));
    }

    #[test]
    fn a_wrapper_is_reached_through_its_socket() {
        let found = client(&reach(Lifetime::Process, &[("web-1", "root")])).expect("a client");
        let local = found.local.clone().expect("a way through a wrapper");
        let through = NativeClient { files: local.files, ..found };
        let config = text(&through, "ssh_config");
        assert!(config.contains("    ProxyCommand /run/d/bin/corral carry /run/d/ssh.stream\n"));
        assert!(config.contains("    UserKnownHostsFile /run/d/known_hosts\n"));
        assert_eq!(
            client(&reach(Lifetime::Kept, &[("web-1", "root")])).and_then(|c| c.local),
            None
        );
    }

    #[test]
    fn without_targets_no_client_is_changed() {
        assert_eq!(client(&reach(Lifetime::Process, &[])), None);
    }
}
