//! Which gateway, with which token, trusted by which authority.
//!
//! In this order: what a flag says, `--data` (that gateway's ready.json, as its administrator),
//! `CORRAL_GATEWAY`, `CORRAL_TOKEN`, `CORRAL_CA_FILE`, what `corral login` saved. A saved token
//! is only ever sent to the gateway that it was saved for.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use corral_api::ReadyFile;
use corral_model::{Secret, limits};

use crate::failure::{Exit, Failure};
use crate::saved::{ConfigDir, SavedLogin};

/// What the command line says of the gateway.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flags {
    pub gateway: Option<String>,
    pub token_file: Option<PathBuf>,
    pub ca_file: Option<PathBuf>,
    pub data: Option<PathBuf>,
}

/// What the environment says of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    pub gateway: Option<String>,
    pub token: Option<Secret>,
    pub ca_file: Option<PathBuf>,
    pub config: Option<ConfigDir>,
}

impl Environment {
    #[must_use]
    pub(crate) fn of_process() -> Self {
        let text = |name: &str| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(|value: OsString| value.to_string_lossy().into_owned())
        };
        Self {
            gateway: text("CORRAL_GATEWAY"),
            token: text("CORRAL_TOKEN").map(Secret::new),
            ca_file: text("CORRAL_CA_FILE").map(PathBuf::from),
            config: ConfigDir::of_environment(),
        }
    }
}

/// Whom the gateway's certificate is checked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Authority {
    /// In this file, and nobody else.
    File { path: PathBuf, pem: String },
    /// This, and nobody else.
    Pem(String),
    /// Whom the system trusts.
    System,
}

/// A gateway that was found.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// `https://host:port`, without a slash at the end.
    pub gateway: String,
    pub token: Option<Secret>,
    pub authority: Authority,
}

/// Finds the gateway.
///
/// # Errors
/// When nothing names one, or a file that is named cannot be read.
pub(crate) fn discover(flags: &Flags, environment: &Environment) -> Result<Found, Failure> {
    let ready = flags.data.as_deref().map(ready_file).transpose()?;
    let saved = match &environment.config {
        Some(config) => config.load()?,
        None => None,
    };
    let gateway = flags
        .gateway
        .clone()
        .or_else(|| ready.as_ref().map(|ready| ready.api.clone()))
        .or_else(|| environment.gateway.clone())
        .or_else(|| saved.as_ref().map(|saved| saved.gateway.clone()))
        .ok_or_else(no_gateway)?;
    let gateway = checked_address(&gateway)?;
    let saved = saved.filter(|saved| saved.gateway == gateway);
    let token = token(flags, ready.as_ref(), environment, saved.as_ref())?;
    let authority = authority(flags, ready.as_ref(), environment, saved)?;
    Ok(Found { gateway, token, authority })
}

fn no_gateway() -> Failure {
    Failure::new(Exit::Usage, "no gateway is named").with_hint(
        "pass --gateway URL or --data DIR, set CORRAL_GATEWAY, or sign in with `corral login`",
    )
}

fn checked_address(gateway: &str) -> Result<String, Failure> {
    let trimmed = gateway.trim_end_matches('/');
    let host = trimmed.strip_prefix("https://").unwrap_or_default();
    let is_plain = !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ']);
    if !is_plain {
        return Err(Failure::usage(format!(
            "'{gateway}' is not a gateway's address; write https://HOST:PORT"
        )));
    }
    Ok(trimmed.to_owned())
}

fn token(
    flags: &Flags,
    ready: Option<&ReadyFound>,
    environment: &Environment,
    saved: Option<&SavedLogin>,
) -> Result<Option<Secret>, Failure> {
    if let Some(path) = &flags.token_file {
        return read_token(path).map(Some);
    }
    if let Some(ready) = ready {
        return read_token(&ready.admin_token_file).map(Some);
    }
    Ok(environment.token.clone().or_else(|| saved.map(|saved| saved.token.secret().clone())))
}

fn authority(
    flags: &Flags,
    ready: Option<&ReadyFound>,
    environment: &Environment,
    saved: Option<SavedLogin>,
) -> Result<Authority, Failure> {
    let file = flags
        .ca_file
        .clone()
        .or_else(|| ready.map(|ready| ready.ca_file.clone()))
        .or_else(|| environment.ca_file.clone());
    if let Some(path) = file {
        let path = std::path::absolute(&path).unwrap_or(path);
        let pem = read_bounded(&path)?;
        return Ok(Authority::File { path, pem });
    }
    Ok(saved.and_then(|saved| saved.ca_pem).map_or(Authority::System, Authority::Pem))
}

/// A ready.json whose files can be opened from here.
struct ReadyFound {
    api: String,
    ca_file: PathBuf,
    admin_token_file: PathBuf,
}

fn ready_file(data: &Path) -> Result<ReadyFound, Failure> {
    let path = data.join("ready.json");
    let text = fs::read_to_string(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::new(
            Exit::Unreachable,
            format!("no gateway runs in {}: there is no ready.json", data.display()),
        )
        .with_hint(format!("start one with `corral up --data {}`", data.display())),
        _ => Failure::io("read", &path, &error),
    })?;
    let ready: ReadyFile = serde_json::from_str(&text).map_err(|error| {
        Failure::failed(format!("{} is not a gateway's ready.json: {error}", path.display()))
    })?;
    Ok(ReadyFound {
        api: ready.api,
        ca_file: beside(data, &ready.ca_file),
        admin_token_file: beside(data, &ready.admin_token_file),
    })
}

/// A gateway that was started with a relative directory writes relative paths, which mean
/// nothing from here; its files are in that directory.
fn beside(data: &Path, written: &str) -> PathBuf {
    let path = PathBuf::from(written);
    match path.file_name() {
        Some(name) if path.is_relative() => data.join(name),
        _ => path,
    }
}

/// Reads a file that holds a token and nothing else.
///
/// # Errors
/// When it cannot be read or holds no token.
pub(crate) fn read_token(path: &Path) -> Result<Secret, Failure> {
    let text = read_bounded(path)?;
    let token = text.trim();
    if token.is_empty() || token.contains(char::is_whitespace) {
        return Err(Failure::failed(format!(
            "{} holds no token; it should hold one and nothing else",
            path.display()
        )));
    }
    Ok(Secret::new(token.to_owned()))
}

/// Reads a small text file.
///
/// # Errors
/// When it cannot be read, is not text, or is larger than [`limits::MANIFEST_BYTES_MAX`].
pub(crate) fn read_bounded(path: &Path) -> Result<String, Failure> {
    use std::io::Read as _;
    let fail = |error: std::io::Error| Failure::io("read", path, &error);
    let file = fs::File::open(path).map_err(fail)?;
    let mut text = String::new();
    let bytes_max = u64::try_from(limits::MANIFEST_BYTES_MAX).unwrap_or(u64::MAX);
    file.take(bytes_max + 1).read_to_string(&mut text).map_err(fail)?;
    if text.len() > limits::MANIFEST_BYTES_MAX {
        return Err(Failure::failed(format!(
            "{} is larger than {} bytes",
            path.display(),
            limits::MANIFEST_BYTES_MAX
        )));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use corral_api::WireSecret;
    use time::macros::datetime;

    use super::*;

    struct Fixture {
        dir: tempfile::TempDir,
    }

    impl Fixture {
        fn new() -> Self {
            let dir = tempfile::tempdir().expect("a directory");
            let write = |name: &str, text: &str| {
                fs::write(dir.path().join(name), text).expect("writes");
            };
            write("flag.token", "crl_flag\n");
            write("admin.token", "crl_admin\n");
            write("ca.pem", "CA\n");
            write(
                "ready.json",
                r#"{"version":"0.1.0","pid":1,"api":"https://127.0.0.1:1","ca_file":"data/ca.pem",
                    "admin_token_file":"data/admin.token","listeners":{}}"#,
            );
            Self { dir }
        }

        fn environment(&self) -> Environment {
            let config = ConfigDir::at(self.dir.path().join("config"));
            let login = SavedLogin {
                gateway: "https://saved:1".to_owned(),
                name: "ada".to_owned(),
                token: WireSecret::new("crl_saved".to_owned()),
                expires_at: datetime!(2026-01-01 00:00 UTC),
                ca_pem: Some("SAVED CA".to_owned()),
            };
            config.save(&login).expect("is saved");
            Environment { config: Some(config), ..Environment::default() }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }
    }

    fn found(flags: &Flags, environment: &Environment) -> (String, Option<String>) {
        let found = discover(flags, environment).expect("a gateway is found");
        (found.gateway, found.token.map(|token| token.reveal().to_owned()))
    }

    #[test]
    fn flags_win_over_data_environment_and_saved_login() {
        let fixture = Fixture::new();
        let mut environment = fixture.environment();
        environment.gateway = Some("https://env:1".to_owned());
        environment.token = Some(Secret::new("crl_env".to_owned()));
        let owned = |gateway: &str, token: &str| (gateway.to_owned(), Some(token.to_owned()));

        let mut flags = Flags::default();
        assert_eq!(found(&flags, &environment), owned("https://env:1", "crl_env"));
        flags.data = Some(fixture.dir.path().to_owned());
        assert_eq!(found(&flags, &environment), owned("https://127.0.0.1:1", "crl_admin"));
        flags.token_file = Some(fixture.path("flag.token"));
        assert_eq!(found(&flags, &environment), owned("https://127.0.0.1:1", "crl_flag"));
        flags.gateway = Some("https://flag:1/".to_owned());
        assert_eq!(found(&flags, &environment), owned("https://flag:1", "crl_flag"));
    }

    #[test]
    fn a_saved_token_goes_to_its_own_gateway_only() {
        let fixture = Fixture::new();
        let environment = fixture.environment();
        let own = discover(&Flags::default(), &environment).expect("the saved gateway");
        assert_eq!(own.authority, Authority::Pem("SAVED CA".to_owned()));
        assert!(own.token.is_some());

        let flags = Flags { gateway: Some("https://other:1".to_owned()), ..Flags::default() };
        let other = discover(&flags, &environment).expect("the other gateway");
        assert!(other.token.is_none());
        assert_eq!(other.authority, Authority::System);
    }

    #[test]
    fn files_of_a_relative_data_directory_are_found_from_anywhere() {
        let fixture = Fixture::new();
        let flags = Flags { data: Some(fixture.dir.path().to_owned()), ..Flags::default() };
        let found = discover(&flags, &Environment::default()).expect("a gateway is found");
        assert_eq!(
            found.authority,
            Authority::File { path: fixture.path("ca.pem"), pem: "CA\n".to_owned() }
        );
    }

    #[test]
    fn failures_say_what_would_be_right() {
        let fixture = Fixture::new();
        let check = |flags: Flags, exit: u8, words: &str| {
            let failure = discover(&flags, &Environment::default()).expect_err(words);
            assert_eq!(failure.exit.code(), exit, "{failure}");
            assert!(failure.to_string().contains(words), "{failure}");
        };
        check(Flags::default(), 2, "--data DIR");
        let gateway = |text: &str| Flags { gateway: Some(text.to_owned()), ..Flags::default() };
        check(gateway("http://127.0.0.1:1"), 2, "https://HOST:PORT");
        check(gateway("https://user@host"), 2, "https://HOST:PORT");
        let data = Flags { data: Some(fixture.path("nowhere")), ..Flags::default() };
        check(data, 5, "corral up --data");
        let mut flags = gateway("https://h:1");
        flags.token_file = Some(fixture.path("ready.json"));
        check(flags, 1, "holds no token");
    }
}
