//! What a process is called among runs, and its arguments without what may be secret.

use std::path::Path;

use corral_model::{Process, limits};

use super::process::Seen;

/// Longest name of a run, in bytes, as the gateway has it.
const NAME_BYTES_MAX: usize = limits::ID_BYTES_MAX;
/// One argument, in bytes; a longer one is cut.
const ARGUMENT_BYTES_MAX: usize = 256;
/// What stands for a secret.
const HIDDEN: &str = "***";
/// Programs that run another one, which is what people call the process by.
const INTERPRETERS: [&str; 14] = [
    "python", "pypy", "node", "nodejs", "deno", "bun", "ruby", "perl", "php", "java", "sh", "bash",
    "dash", "zsh",
];
/// An option or variable of such a name holds a secret.
const SECRET_NAMES: [&str; 10] = [
    "password",
    "passwd",
    "pwd",
    "secret",
    "token",
    "apikey",
    "api-key",
    "api_key",
    "credential",
    "auth",
];
/// What begins like this is one.
const SECRET_STARTS: [&str; 9] =
    ["crl_", "ghp_", "gho_", "ghs_", "github_pat_", "glpat-", "sk-", "xox", "eyj"];
/// A word of letters of both cases and digits that is as long is taken for a key.
const KEY_BYTES_MIN: usize = 24;

/// What the gateway is told of a process.
pub(crate) fn process_of(seen: &Seen) -> Process {
    Process {
        pid: seen.id.pid,
        start_ticks: seen.id.start_ticks,
        program: plain(&seen.program, limits::PROCESS_PROGRAM_BYTES_MAX),
        arguments: without_secrets(seen.words.get(1..).unwrap_or_default()),
        parent_pid: seen.parent_pid,
    }
}

/// `executor.py-4242`: what it runs, and which one of those it is.
pub(crate) fn name_of(process: &Process) -> String {
    let program = file_name(&process.program);
    let what = script_of(program, &process.arguments).unwrap_or(program);
    let ending = format!("-{}", process.pid);
    let is_fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let name: String = what
        .chars()
        .map(|c| if is_fine(c) { c } else { '-' })
        .take(NAME_BYTES_MAX - ending.len())
        .collect();
    if name.is_empty() { format!("process{ending}") } else { format!("{name}{ending}") }
}

fn file_name(path: &str) -> &str {
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// The script, module, class or archive that an interpreter runs.
fn script_of<'a>(program: &str, arguments: &'a [String]) -> Option<&'a str> {
    let bare = program.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    if !INTERPRETERS.contains(&bare) {
        return None;
    }
    let mut words = arguments.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "-m" | "-jar" => return words.next().map(file_name_or_whole),
            // A text that is given as an argument has no name.
            "-c" | "-e" | "--eval" => return None,
            "-cp" | "-classpath" | "-W" | "-X" | "-r" | "-O" => drop(words.next()),
            word if word.starts_with('-') => {}
            word => return Some(file_name_or_whole(word)),
        }
    }
    None
}

fn file_name_or_whole(word: &str) -> &str {
    let name = file_name(word);
    if name.is_empty() { word } else { name }
}

/// The arguments, cut to what is kept.
fn without_secrets(words: &[String]) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    let mut bytes = 0;
    let mut hides_next = false;
    for word in words.iter().take(limits::PROCESS_ARGUMENTS_MAX) {
        let is_option = word.starts_with('-');
        let text = if hides_next && !is_option {
            HIDDEN.to_owned()
        } else {
            plain(&hide_in(word), ARGUMENT_BYTES_MAX)
        };
        hides_next = is_option && !word.contains('=') && is_secret_name(word);
        bytes += text.len();
        if bytes > limits::PROCESS_ARGUMENTS_BYTES_MAX {
            break;
        }
        kept.push(text);
    }
    kept
}

/// One argument, which may be a whole script.
fn hide_in(argument: &str) -> String {
    let mut text = String::with_capacity(argument.len());
    let mut hides_next = false;
    for piece in argument.split_inclusive(char::is_whitespace) {
        let word = piece.trim_end_matches(char::is_whitespace);
        match hides_next && !word.is_empty() {
            true => text.push_str(HIDDEN),
            false => text.push_str(&hide_word(word)),
        }
        text.push_str(piece.get(word.len()..).unwrap_or_default());
        hides_next = announces_secret(word) || (hides_next && word.is_empty());
    }
    text
}

/// `Authorization:`, `--token`, `Bearer`: the next word is one.
fn announces_secret(word: &str) -> bool {
    let name = word.trim_end_matches([':', '=']);
    let is_scheme = ["bearer", "basic"].contains(&word.to_ascii_lowercase().as_str());
    is_scheme || ((name.len() < word.len() || word.starts_with("--")) && is_secret_name(name))
}

fn hide_word(word: &str) -> String {
    let named = word.split_once(['=', ':']);
    if let Some((name, _)) = named.filter(|(name, value)| !value.is_empty() && is_secret_name(name))
    {
        let sign = word.get(name.len()..=name.len()).unwrap_or_default();
        return format!("{name}{sign}{HIDDEN}");
    }
    if let Some((scheme, rest)) = word.split_once("://") {
        let (authority, path) = match rest.find(['/', '?', '#']) {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let host = authority.rsplit_once('@').map(|(_, host)| host);
        let authority = host.map_or(authority.to_owned(), |host| format!("{HIDDEN}@{host}"));
        // What follows a question mark may be anything.
        let path =
            path.split_once('?').map_or(path.to_owned(), |(path, _)| format!("{path}?{HIDDEN}"));
        return format!("{scheme}://{authority}{path}");
    }
    let is_edge = |c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '-');
    let is_secret = word.split(is_edge).any(is_key);
    if is_secret { HIDDEN.to_owned() } else { word.to_owned() }
}

fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_NAMES.iter().any(|secret| name.contains(secret))
        || name.trim_start_matches('-').split(['-', '_', '.']).any(|part| part == "key")
}

fn is_key(word: &str) -> bool {
    let lower = word.to_ascii_lowercase();
    if SECRET_STARTS.iter().any(|start| lower.starts_with(start) && lower.len() > start.len() + 8) {
        return true;
    }
    let has = |is: fn(&u8) -> bool| word.as_bytes().iter().any(is);
    word.len() >= KEY_BYTES_MIN
        && has(u8::is_ascii_digit)
        && has(u8::is_ascii_lowercase)
        && has(u8::is_ascii_uppercase)
}

/// At most so many bytes, and nothing that drives a terminal.
fn plain(text: &str, bytes_max: usize) -> String {
    let mut kept = String::new();
    for c in text.chars() {
        let c = if c.is_control() { ' ' } else { c };
        if kept.len() + c.len_utf8() > bytes_max {
            break;
        }
        kept.push(c);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &[&str]) -> Vec<String> {
        text.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_process_is_named_after_what_it_runs() {
        let check = |program: &str, arguments: &[&str], name: &str| {
            let process = Process {
                pid: 42,
                start_ticks: 1,
                program: program.to_owned(),
                arguments: words(arguments),
                parent_pid: 1,
            };
            assert_eq!(name_of(&process), name);
        };
        check("/usr/bin/python3.13", &["executor.py", "--shard", "3"], "executor.py-42");
        check("/usr/bin/python3", &["-u", "/opt/a/executor.py"], "executor.py-42");
        check("/usr/bin/python3", &["-m", "pkg.worker"], "pkg.worker-42");
        check("/usr/bin/python3", &["-c", "import os"], "python3-42");
        check("/usr/bin/psql", &["-c", "select 1"], "psql-42");
        check("/usr/bin/java", &["-cp", "a.jar", "Main", "x"], "Main-42");
        check("/usr/bin/java", &["-jar", "/opt/x.jar"], "x.jar-42");
        check("/opt/my tool (deleted)", &[], "my-tool-42");
        check("", &[], "process-42");
        check(&format!("/bin/{}", "x".repeat(99)), &[], &format!("{}-42", "x".repeat(60)));
    }

    #[test]
    fn secrets_are_taken_out_of_arguments() {
        let check = |arguments: &[&str], expect: &[&str]| {
            assert_eq!(without_secrets(&words(arguments)), words(expect));
        };
        check(&["--password", "hunter2", "-v"], &["--password", "***", "-v"]);
        check(&["--password=hunter2"], &["--password=***"]);
        check(&["--api-key", "x", "--db-key=y"], &["--api-key", "***", "--db-key=***"]);
        check(&["--keys", "3", "--monkey", "a"], &["--keys", "3", "--monkey", "a"]);
        check(&["PGPASSWORD=a", "TOKEN=b", "SHARD=3"], &["PGPASSWORD=***", "TOKEN=***", "SHARD=3"]);
        check(&["postgres://u:pw@db:5432/shop?password=x"], &["postgres://***@db:5432/shop?***"]);
        check(&["https://host/path"], &["https://host/path"]);
        check(&["-H", "Authorization: Bearer abc"], &["-H", "Authorization: *** ***"]);
        check(&["crl_0123456789abcdef"], &["***"]);
        check(&["AKIA1234abcdEFGH5678ijklMNOP"], &["***"]);
        check(&["-c", "export X_SECRET=1; run"], &["-c", "export X_SECRET=*** run"]);
        check(
            &["0123456789abcdef0123456789abcdef01234567"],
            &["0123456789abcdef0123456789abcdef01234567"],
        );
        check(&["-c", "psql --password x -h y"], &["-c", "psql --password *** -h y"]);
        check(&["a\u{1b}[2Jb"], &["a [2Jb"]);
    }

    #[test]
    fn what_is_kept_of_arguments_is_bounded() {
        let many = without_secrets(&vec!["x".repeat(1000); 1000]);
        assert!(many.len() <= limits::PROCESS_ARGUMENTS_MAX);
        assert!(many.iter().map(String::len).sum::<usize>() <= limits::PROCESS_ARGUMENTS_BYTES_MAX);
        assert!(many.iter().all(|word| word.len() == ARGUMENT_BYTES_MAX));
    }
}
