//! Manifests from files, directories and standard input, with everything that they point to read.
//!
//! The gateway gets secrets as values and texts inline; it never opens a file of this machine.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use corral_model::limits;
use corral_model::resource::manifest;
use corral_model::resource::{
    CredentialSpec, ProviderSecret, Resource, SecretSource, TextSource, WorkloadSecret,
};

use crate::discover::read_bounded;
use crate::failure::Failure;

/// Where standard input is meant instead of a file.
const STDIN: &str = "-";

/// A resource and the file that it came from.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    pub resource: Resource,
    pub file: PathBuf,
}

/// Reads environment variables; a parameter, so that tests need none.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Environment variables of this process.
#[must_use]
pub(crate) fn process_variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Reads manifests and all that they point to. A directory stands for its `*.yaml` and `*.yml`
/// files, in the order of their names; `-` for standard input.
///
/// # Errors
/// Everything that is wrong with all of them, a line each.
pub(crate) fn load(paths: &[PathBuf], lookup: Lookup<'_>) -> Result<Vec<Loaded>, Failure> {
    let mut problems: Vec<String> = Vec::new();
    let mut all: Vec<Loaded> = Vec::new();
    for file in files(paths)? {
        let text = if file == Path::new(STDIN) { read_stdin()? } else { read_bounded(&file)? };
        let shown = if file == Path::new(STDIN) {
            "standard input".to_owned()
        } else {
            file.display().to_string()
        };
        match manifest::parse(&text, &shown) {
            Ok(resources) => {
                all.extend(
                    resources.into_iter().map(|resource| Loaded { resource, file: file.clone() }),
                );
            }
            Err(found) => problems.extend(found.iter().map(ToString::to_string)),
        }
    }
    problems.extend(duplicates(&all));
    for loaded in &mut all {
        resolve(loaded, lookup, &mut problems);
    }
    if problems.is_empty() { Ok(all) } else { Err(Failure::failed(problems.join("\n"))) }
}

fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files: Vec<PathBuf> = Vec::new();
    for path in paths {
        if path == Path::new(STDIN) || !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let found = files_in(path, &["yaml", "yml"])?;
        if found.is_empty() {
            return Err(Failure::failed(format!(
                "{} holds no manifest; manifests are called *.yaml or *.yml",
                path.display()
            )));
        }
        files.extend(found);
    }
    Ok(files)
}

/// The files of a directory with one of these extensions, in the order of their names.
///
/// # Errors
/// When the directory cannot be read.
pub(crate) fn files_in(directory: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>, Failure> {
    let fail = |error: std::io::Error| Failure::io("read", directory, &error);
    let mut found: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(directory).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if extension.is_some_and(|extension| extensions.contains(&extension)) && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn read_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    let bytes_max = u64::try_from(limits::MANIFEST_BYTES_MAX).unwrap_or(u64::MAX);
    // One byte more than is allowed, so that the parser sees that it is too long.
    std::io::stdin()
        .lock()
        .take(bytes_max + 1)
        .read_to_string(&mut text)
        .map_err(|error| Failure::failed(format!("cannot read standard input: {error}")))?;
    Ok(text)
}

fn duplicates(all: &[Loaded]) -> Vec<String> {
    let mut seen: BTreeMap<(&str, &str), &Path> = BTreeMap::new();
    let mut problems: Vec<String> = Vec::new();
    for loaded in all {
        let key = (loaded.resource.kind(), loaded.resource.name());
        if let Some(first) = seen.insert(key, &loaded.file) {
            problems.push(format!(
                "{}: {} '{}' stands in {} as well; name it once",
                loaded.file.display(),
                key.0,
                key.1,
                first.display()
            ));
        }
    }
    problems
}

/// Reads what one resource points to, relative to its manifest.
fn resolve(loaded: &mut Loaded, lookup: Lookup<'_>, problems: &mut Vec<String>) {
    let shown = format!(
        "{}: {} '{}'",
        loaded.file.display(),
        loaded.resource.kind(),
        loaded.resource.name()
    );
    let base = match loaded.file.parent() {
        Some(parent) if loaded.file != Path::new(STDIN) => parent.to_path_buf(),
        Some(_) | None => PathBuf::new(),
    };
    let mut reader = Reader { base, shown, lookup, problems };
    match &mut loaded.resource {
        Resource::Target(target) => {
            reader.credential("credential", target.credential.as_mut());
            reader.credential("masked_credential", target.masked_credential.as_mut());
            if let Some(ca_file) = target.tls.as_mut().and_then(|tls| tls.ca_file.as_mut())
                && let Some(pem) = reader.file("tls.ca_file", ca_file)
            {
                *ca_file = pem;
            }
        }
        Resource::User(user) => reader.secret("password", user.password.as_mut()),
        Resource::Workload(workload) => {
            reader.secret("secret", workload.secret.as_mut());
            for which in WorkloadSecret::ALL {
                let secret = workload.secret_of_mut(which).and_then(Option::as_mut);
                reader.secret(which.key(), secret);
            }
        }
        Resource::Policy(policy) => {
            if let TextSource::File { file } = &policy.cedar
                && let Some(text) = reader.file("cedar", file)
            {
                policy.cedar = TextSource::Inline(text);
            }
        }
        Resource::IdentityProvider(provider) => {
            for which in ProviderSecret::ALL {
                let secret = provider.secret_mut(which).and_then(Option::as_mut);
                reader.secret(which.key(), secret);
            }
            if let Some(ca_file) = provider.oidc.as_mut().and_then(|oidc| oidc.ca_file.as_mut())
                && let Some(pem) = reader.file("oidc.ca_file", ca_file)
            {
                *ca_file = pem;
            }
            if let Some(saml) = &mut provider.saml
                && let TextSource::File { file } = &saml.metadata
                && let Some(text) = reader.file("saml.metadata", file)
            {
                saml.metadata = TextSource::Inline(text);
            }
        }
        Resource::Limit(_) | Resource::Command(_) | Resource::Relay(_) => {}
    }
}

struct Reader<'a> {
    base: PathBuf,
    shown: String,
    lookup: Lookup<'a>,
    problems: &'a mut Vec<String>,
}

impl Reader<'_> {
    fn credential(&mut self, key: &str, credential: Option<&mut CredentialSpec>) {
        let Some(credential) = credential else { return };
        for (kind, source) in credential.secrets_mut() {
            self.secret(&format!("{key}.{}", kind.word()), Some(source));
        }
        if let Some(path) = credential.client_certificate.as_mut()
            && let Some(pem) = self.file(&format!("{key}.client_certificate"), path)
        {
            *path = pem;
        }
    }

    fn secret(&mut self, key: &str, source: Option<&mut SecretSource>) {
        let Some(source) = source else { return };
        let value = match source {
            SecretSource::Value(_) => return,
            SecretSource::Env(name) => match (self.lookup)(name) {
                Some(value) if !value.is_empty() => value,
                Some(_) => {
                    self.problem(key, &format!("the environment variable {name} is empty"));
                    return;
                }
                None => {
                    self.problem(key, &format!("the environment variable {name} is not set"));
                    return;
                }
            },
            SecretSource::File(path) => match self.file(key, path) {
                Some(text) => without_last_break(text),
                None => return,
            },
        };
        *source = SecretSource::Value(value);
    }

    fn file(&mut self, key: &str, path: &str) -> Option<String> {
        match read_bounded(&self.base.join(path)) {
            Ok(text) => Some(text),
            Err(failure) => {
                self.problem(key, &failure.message);
                None
            }
        }
    }

    fn problem(&mut self, key: &str, text: &str) {
        self.problems.push(format!("{}: {key}: {text}", self.shown));
    }
}

fn without_last_break(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_text(files: &[(&str, &str)], lookup: Lookup<'_>) -> Result<Vec<Loaded>, Failure> {
        let dir = tempfile::tempdir().expect("a directory");
        for (name, text) in files {
            fs::write(dir.path().join(name), text).expect("writes");
        }
        load(&[dir.path().to_owned()], lookup)
    }

    fn nothing(_: &str) -> Option<String> {
        None
    }

    const USER: &str = "kind: User\nname: ada@example.com\npassword: {env: ADA_PASSWORD}\n";

    #[test]
    fn a_secret_of_the_environment_becomes_a_value() {
        let lookup = |name: &str| (name == "ADA_PASSWORD").then(|| "hunter2".to_owned());
        let loaded = load_text(&[("a.yaml", USER)], &lookup).expect("is read");
        let Resource::User(user) = &loaded[0].resource else { panic!("not a user") };
        assert_eq!(user.password, Some(SecretSource::Value("hunter2".to_owned())));
    }

    #[test]
    fn a_secret_of_a_file_loses_its_last_line_break_only() {
        let target = "kind: Target\nname: t\nprotocol: postgres\naddress: db:5432\n\
                      credential: {username: u, password: {file: pw}}\n";
        let files = [("a.yaml", target), ("pw", " x \n\n")];
        let loaded = load_text(&files, &nothing).expect("is read");
        let Resource::Target(target) = &loaded[0].resource else { panic!("not a target") };
        let password = target.credential.as_ref().and_then(|c| c.password.clone());
        assert_eq!(password, Some(SecretSource::Value(" x \n".to_owned())));
    }

    #[test]
    fn policies_and_authorities_are_read_beside_their_manifest() {
        let text = "kind: Policy\nname: shop\ncedar: {file: shop.cedar}\n---\nkind: Target\n\
                    name: t\nprotocol: postgres\naddress: db:5432\n\
                    tls: {mode: verify-full, ca_file: ca.pem}\n";
        let files = [
            ("a.yaml", text),
            ("shop.cedar", "permit (principal, action, resource);"),
            ("ca.pem", "PEM"),
        ];
        let loaded = load_text(&files, &nothing).expect("is read");
        let Resource::Policy(policy) = &loaded[0].resource else { panic!("not a policy") };
        assert!(matches!(&policy.cedar, TextSource::Inline(text) if text.starts_with("permit")));
        let Resource::Target(target) = &loaded[1].resource else { panic!("not a target") };
        let ca = target.tls.as_ref().and_then(|tls| tls.ca_file.as_deref());
        assert_eq!(ca, Some("PEM"));
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let other = "kind: Policy\nname: shop\ncedar: {file: missing.cedar}\n";
        let files = [("a.yaml", USER), ("b.yaml", other), ("c.yaml", USER)];
        let failure = load_text(&files, &nothing).expect_err("is refused");
        for words in ["ADA_PASSWORD is not set", "missing.cedar", "stands in"] {
            assert!(failure.message.contains(words), "{words}: {}", failure.message);
        }
    }

    #[test]
    fn an_unknown_key_is_told_with_its_place() {
        let failure = load_text(&[("a.yaml", "kind: User\nname: ada\npasword: x\n")], &nothing)
            .expect_err("is refused");
        assert!(failure.message.contains("a.yaml:3:"), "{}", failure.message);
    }

    #[test]
    fn a_directory_without_manifests_is_refused() {
        assert!(load_text(&[("notes.txt", "x")], &nothing).is_err());
    }
}
