//! Pure crates take time as an argument, give events back, and never log or open anything.

use super::Violation;
use super::edges::Package;
use super::source::{SourceFile, lines_with_word};

const PURE_CRATES: [&str; 7] =
    ["model", "gate", "protocol-postgres", "protocol-mysql", "api", "saml", "scim"];

/// Crates from elsewhere that a pure crate may use: none of them opens a file or a socket, or
/// starts a thread, unless it is asked to by a name that [`FORBIDDEN`] would find.
const PURE_DEPENDENCIES: [&str; 26] = [
    // Digests and signatures of what is given to it.
    "aws-lc-rs",
    "base64",
    // Canonical forms of an XML document that was parsed.
    "bergshamra-c14n",
    "bergshamra-xml",
    "bytes",
    "cedar-policy",
    // Message authentication codes, old digests and keys of what is given to them.
    "hmac",
    "md-5",
    "pbkdf2",
    "pg_query",
    "prost",
    "regex",
    // The grammar of filters alone; its models are off.
    "scim_v2",
    "serde",
    "serde-saphyr",
    "serde_json",
    "sha2",
    // Gives a deep recursion a larger stack on the same thread.
    "stacker",
    // Tables of Unicode.
    "stringprep",
    "subtle",
    "thiserror",
    "time",
    // Parses XML from a text.
    "uppsala",
    "utoipa",
    "x509-parser",
    "zeroize",
];

const FORBIDDEN: [(&str, &str); 21] = [
    ("tokio", "a pure crate has no runtime"),
    ("async", "a pure crate does not wait; give an output back and take an input"),
    (".await", "a pure crate does not wait"),
    ("std::fs", "a pure crate opens no files"),
    ("std::env", "a pure crate reads no environment"),
    ("std::process", "a pure crate starts nothing"),
    ("std::thread", "a pure crate starts nothing; give a Work back"),
    ("thread::spawn", "a pure crate starts nothing; give a Work back"),
    ("TcpStream", "a pure crate opens no sockets"),
    ("TcpListener", "a pure crate opens no sockets"),
    ("UdpSocket", "a pure crate opens no sockets"),
    ("UnixStream", "a pure crate opens no sockets"),
    ("UnixListener", "a pure crate opens no sockets"),
    ("ToSocketAddrs", "a pure crate resolves no names"),
    ("Instant::now", "take `now` as an argument"),
    ("SystemTime", "take `now` as an argument"),
    ("now_utc", "take `now` as an argument"),
    ("tracing", "a pure crate does not log; give an event back"),
    ("println", "a pure crate does not print"),
    ("eprintln", "a pure crate does not print"),
    ("std::io::stdin", "a pure crate reads nothing"),
];

/// The dependencies of a pure crate are on the list; those of its tests need not be.
pub(crate) fn pure_crates_depend_on_pure_crates(package: &Package) -> Vec<Violation> {
    if !PURE_CRATES.contains(&package.short_name()) {
        return vec![];
    }
    package
        .dependencies
        .iter()
        .filter(|dependency| dependency.kind.as_deref() != Some("dev"))
        .filter(|dependency| !dependency.name.starts_with("corral-"))
        .filter(|dependency| !PURE_DEPENDENCIES.contains(&dependency.name.as_str()))
        .map(|dependency| {
            let text = format!(
                "{} is not on the list of what a pure crate may use; say there why it does no I/O",
                dependency.name
            );
            package.violation("purity", text)
        })
        .collect()
}

/// No shipped line of a pure crate names I/O, a clock, a runtime or a log.
pub(crate) fn pure_crates_do_no_io(file: &SourceFile) -> Vec<Violation> {
    let is_source = file.path.contains("/src/");
    if !PURE_CRATES.contains(&file.crate_name.as_str()) || !is_source {
        return vec![];
    }
    let mut found: Vec<Violation> = Vec::new();
    for (word, instead) in FORBIDDEN {
        for line in lines_with_word(&file.shipped, word) {
            let text = format!("`{word}`: {instead}");
            found.push(Violation { rule: "purity", path: file.path.clone(), line, text });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::edges::package;
    use super::*;

    #[test]
    fn io_in_a_pure_crate_is_refused() {
        let check = |path: &str, raw: &str, expect: &[usize]| {
            let found = pure_crates_do_no_io(&SourceFile::new(path, raw));
            let lines: Vec<usize> = found.iter().map(|violation| violation.line).collect();
            assert_eq!(lines, expect, "{path}: {raw}");
        };
        let gate = "crates/gate/src/x.rs";
        check(gate, "use std::time::Instant;\nfn f(now: Instant) {}\n", &[]);
        check(gate, "use std::net::IpAddr;\nuse std::io::Error;\n", &[]);
        check(gate, "fn f() {\n    let t = Instant::now();\n}\n", &[2]);
        check(gate, "async fn f() {}\n", &[1]);
        check(gate, "//! No tokio, no async.\nconst X: &str = \"tokio\";\n", &[]);
        check(gate, "use std::fs::File;\n", &[1]);
        check(gate, "#[cfg(test)]\nmod tests {\n fn f() { std::env::var(\"X\"); }\n}\n", &[]);
        check("crates/gate/tests/x.rs", "use std::fs::File;\n", &[]);
        check("crates/gateway/src/x.rs", "use std::fs::File;\n", &[]);
        for (word, _) in FORBIDDEN {
            let raw =
                format!("fn f() {{ x{} {word} }}\n", if word.starts_with('.') { "" } else { ";" });
            let found = pure_crates_do_no_io(&SourceFile::new(gate, &raw.replace("x .", "x.")));
            assert!(!found.is_empty(), "{word} is not found");
        }
    }

    #[test]
    fn a_pure_crate_with_a_runtime_is_refused() {
        let check = |name: &str, dependency: (&str, Option<&str>), is_fine: bool| {
            let found = pure_crates_depend_on_pure_crates(&package(name, &[dependency]));
            assert_eq!(found.is_empty(), is_fine, "{name} -> {dependency:?}");
        };
        check("corral-gate", ("tokio", None), false);
        check("corral-gate", ("tokio", Some("dev")), true);
        check("corral-gate", ("cc", Some("build")), false);
        check("corral-gate", ("bytes", None), true);
        check("corral-session", ("tokio", None), true);
    }
}
