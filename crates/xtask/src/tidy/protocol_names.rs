//! Nothing outside a protocol's folder names that protocol, except one list in the gateway and
//! the few places below.

use super::Violation;
use super::source::{Role, SourceFile};

/// A protocol's folder, and the words that name it, in lower case.
const PROTOCOLS: [(&str, &[&str]); 4] = [
    ("protocol-postgres", &["postgres", "psql", "pghost", "pgpassword", "pgssl", "pg_query"]),
    ("protocol-mysql", &["mysql", "mariadb"]),
    ("protocol-http", &["kubernetes", "kubectl"]),
    ("protocol-ssh", &["russh", "sshd", "known_hosts", "sftp"]),
];

/// Where a protocol may be named though it is not the protocol's folder, and why.
const EXCEPTIONS: [(&str, &str); 3] = [
    ("crates/gateway/src/protocols.rs", "the one list of the protocols that the gateway serves"),
    (
        "crates/cli/src/command/credential.rs",
        "a client's credential plugin is asked and answers in that client's own words",
    ),
    (
        "crates/model/src/resource/trust.rs",
        "a cluster is an issuer of tokens there, beside CI systems, not a target",
    ),
];

/// Shipped code and strings of other crates name no protocol. Comments may.
pub(crate) fn protocols_are_named_in_their_folder(file: &SourceFile) -> Vec<Violation> {
    let is_exempt = EXCEPTIONS.iter().any(|(path, _)| file.path == *path);
    if is_exempt || file.role == Role::Test || file.crate_name == "xtask" {
        return vec![];
    }
    named_protocols(file)
        .into_iter()
        .map(|(line, word, folder)| Violation {
            rule: "protocol names",
            path: file.path.clone(),
            line,
            text: format!("`{word}` is named outside {folder}; ask the protocol's spec for it"),
        })
        .collect()
}

/// An exception that nothing needs is taken off the list.
pub(crate) fn exceptions_are_used(files: &[SourceFile]) -> Vec<Violation> {
    EXCEPTIONS
        .iter()
        .filter(|(path, _)| {
            let mut named = files.iter().filter(|file| file.path == *path);
            !named.any(|file| !named_protocols(file).is_empty())
        })
        .map(|(path, reason)| Violation {
            rule: "protocol names",
            path: (*path).to_owned(),
            line: 0,
            text: format!("names no protocol, take it off the list of exceptions ({reason})"),
        })
        .collect()
}

fn named_protocols(file: &SourceFile) -> Vec<(usize, &'static str, &'static str)> {
    let mut found = Vec::new();
    for (folder, words) in PROTOCOLS {
        if file.crate_name == folder {
            continue;
        }
        for (index, line) in file.shipped_and_strings.lines().enumerate() {
            let line = line.to_lowercase();
            if let Some(word) = words.iter().find(|word| line.contains(**word)) {
                found.push((index + 1, *word, folder));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_named_elsewhere_is_refused() {
        let check = |path: &str, raw: &str, is_fine: bool| {
            let found = protocols_are_named_in_their_folder(&SourceFile::new(path, raw));
            assert_eq!(found.is_empty(), is_fine, "{path}: {raw}");
        };
        check("crates/session/src/drive.rs", "const X: &str = \"postgres\";\n", false);
        check("crates/session/src/drive.rs", "use corral_protocol_postgres::X;\n", false);
        check("crates/session/src/drive.rs", "struct PostgresThing;\n", false);
        check("crates/session/src/drive.rs", "/// As in PostgreSQL.\nfn f() {}\n", true);
        check("crates/session/src/x.rs", "#[cfg(test)]\nmod t { fn f() { postgres() } }\n", true);
        check("crates/session/tests/x.rs", "fn f() { postgres() }\n", true);
        check("crates/protocol-postgres/src/lib.rs", "struct Postgres;\n", true);
        check("crates/protocol-mysql/src/lib.rs", "struct Postgres;\n", false);
        check("crates/gateway/src/protocols.rs", "use corral_protocol_postgres::X;\n", true);
        check("crates/gateway/src/admit.rs", "use corral_protocol_postgres::X;\n", false);
    }

    #[test]
    fn an_exception_that_nothing_needs_is_refused() {
        let (path, _) = EXCEPTIONS[0];
        let used = SourceFile::new(path, "use corral_protocol_postgres::X;\n");
        let unused = SourceFile::new(path, "fn f() {}\n");
        assert!(!exceptions_are_used(&[used]).iter().any(|violation| violation.path == path));
        assert!(exceptions_are_used(&[unused]).iter().any(|violation| violation.path == path));
    }
}
