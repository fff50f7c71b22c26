//! What `corral login` keeps: one sign-in, readable by its owner only.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use corral_api::WireSecret;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::failure::Failure;

/// One sign-in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedLogin {
    /// The gateway's address, as it was given.
    pub gateway: String,
    pub name: String,
    pub token: WireSecret,
    #[serde(with = "time::serde::rfc3339")]
    pub expires_at: OffsetDateTime,
    /// The authority that the gateway's certificate was checked with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
}

/// The directory of the command line's own files.
#[derive(Debug, Clone)]
pub(crate) struct ConfigDir(PathBuf);

impl ConfigDir {
    /// `$XDG_CONFIG_HOME/corral`, or `~/.config/corral`.
    #[must_use]
    pub(crate) fn of_environment() -> Option<Self> {
        let absolute = |name: &str| {
            std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
        };
        let base = absolute("XDG_CONFIG_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".config")))?;
        Some(Self(base.join("corral")))
    }

    #[cfg(test)]
    #[must_use]
    pub(crate) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    #[must_use]
    pub(crate) fn path(&self) -> PathBuf {
        self.0.clone()
    }

    fn login_path(&self) -> PathBuf {
        self.0.join("login.json")
    }

    /// The saved sign-in; None when there is none.
    ///
    /// # Errors
    /// When the file is there and cannot be read or understood.
    pub(crate) fn load(&self) -> Result<Option<SavedLogin>, Failure> {
        let path = self.login_path();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::io("read", &path, &error)),
        };
        // The text holds a token, so serde's words about it stay unsaid.
        let saved = serde_json::from_str(&text).map_err(|_| {
            Failure::failed(format!("{} is not a saved login", path.display()))
                .with_hint("sign in again with `corral login`")
        })?;
        Ok(Some(saved))
    }

    /// Replaces the saved sign-in.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn save(&self, login: &SavedLogin) -> Result<PathBuf, Failure> {
        let text = serde_json::to_string_pretty(login)
            .map_err(|error| Failure::failed(format!("cannot write the login: {error}")))?;
        self.write("login.json", &text)
    }

    /// Writes a file of the command line's own: mode 0600, replaced atomically.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf, Failure> {
        private_dir(&self.0)?;
        let path = self.0.join(name);
        let draft = self.0.join(format!(".{name}.{}", std::process::id()));
        write_private(&draft, text)?;
        fs::rename(&draft, &path).map_err(|error| Failure::io("write", &path, &error))?;
        Ok(path)
    }

    /// Removes the saved sign-in, if there is one.
    ///
    /// # Errors
    /// When it is there and cannot be removed.
    pub(crate) fn forget(&self) -> Result<(), Failure> {
        let path = self.login_path();
        match fs::remove_file(&path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Failure::io("remove", &path, &error)),
        }
    }
}

fn private_dir(path: &Path) -> Result<(), Failure> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| Failure::io("make the directory", path, &error))
}

/// Writes a file that only its owner may read.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<(), Failure> {
    let fail = |error: std::io::Error| Failure::io("write", path, &error);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(fail)?;
    // `mode` counts for a file that is made; one that was there keeps its own.
    file.set_permissions(fs::Permissions::from_mode(0o600)).map_err(fail)?;
    file.write_all(text.as_bytes()).map_err(fail)?;
    file.sync_all().map_err(fail)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn login() -> SavedLogin {
        SavedLogin {
            gateway: "https://127.0.0.1:1".to_owned(),
            name: "ada".to_owned(),
            token: WireSecret::new("crl_x".to_owned()),
            expires_at: datetime!(2026-01-01 00:00 UTC),
            ca_pem: None,
        }
    }

    #[test]
    fn a_saved_login_is_private_and_reads_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = ConfigDir::at(dir.path().join("corral"));
        assert_eq!(config.load(), Ok(None));
        let path = config.save(&login()).expect("is saved");
        let mode = fs::metadata(&path).expect("is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let dir_mode = fs::metadata(dir.path().join("corral")).expect("is there").permissions();
        assert_eq!(dir_mode.mode() & 0o777, 0o700);
        assert_eq!(config.load(), Ok(Some(login())));
        config.forget().expect("is forgotten");
        config.forget().expect("twice is no error");
        assert_eq!(config.load(), Ok(None));
    }

    #[test]
    fn a_broken_saved_login_is_not_quoted() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = ConfigDir::at(dir.path().to_owned());
        fs::write(dir.path().join("login.json"), "{\"token\": \"crl_secret\"").expect("writes");
        let failure = config.load().expect_err("is broken");
        assert!(!failure.to_string().contains("crl_secret"));
    }
}
