//! The key that signs checkpoints, and its public half in a form that OpenSSL reads too.
//!
//! `record.key` is a PKCS #8 document and `record.pub` a SubjectPublicKeyInfo (RFC 8410), both in
//! PEM. `openssl pkey -pubin -in record.pub -text` shows the latter.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

pub(crate) const SIGNATURE_BYTES: usize = 64;
const PUBLIC_BYTES: usize = 32;
/// SubjectPublicKeyInfo of Ed25519 up to the key itself (RFC 8410 section 4).
const SPKI_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const PRIVATE_LABEL: &str = "PRIVATE KEY";
const PUBLIC_LABEL: &str = "PUBLIC KEY";

/// Why a key of the record cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("cannot {doing} {}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("{}: {what}", path.display())]
    Unusable { path: PathBuf, what: &'static str },
    #[error(
        "{} is missing, but there is a record that was signed with it; put it back, or move the \
         folder `record` away to start another record",
        path.display()
    )]
    Missing { path: PathBuf },
    #[error("this is not an Ed25519 public key in PEM (-----BEGIN PUBLIC KEY-----)")]
    NotAPublicKey,
}

/// Checks the signatures of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey([u8; PUBLIC_BYTES]);

impl PublicKey {
    /// Reads the text of a `record.pub`.
    ///
    /// # Errors
    /// [`KeyError::NotAPublicKey`]: whoever gave the text is to blame.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let der = decode_pem(text, PUBLIC_LABEL).ok_or(KeyError::NotAPublicKey)?;
        let key = der.strip_prefix(&SPKI_PREFIX).ok_or(KeyError::NotAPublicKey)?;
        Ok(Self(key.try_into().map_err(|_| KeyError::NotAPublicKey)?))
    }

    /// Reads a `record.pub`.
    ///
    /// # Errors
    /// [`KeyError`]: the file is to blame.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let text = fs::read_to_string(path).map_err(|source| KeyError::Io {
            doing: "read",
            path: path.to_owned(),
            source,
        })?;
        Self::from_pem(&text).map_err(|_| KeyError::Unusable {
            path: path.to_owned(),
            what: "this is not an Ed25519 public key in PEM (-----BEGIN PUBLIC KEY-----)",
        })
    }

    #[must_use]
    pub fn to_pem(&self) -> String {
        encode_pem(&[&SPKI_PREFIX[..], &self.0].concat(), PUBLIC_LABEL)
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(message, signature).is_ok()
    }
}

/// Signs checkpoints. Neither printed nor serialised.
pub(crate) struct SigningKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

/// Whether a record exists that was signed with the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Record {
    Absent,
    Present,
}

impl SigningKey {
    /// Reads `record.key` of a data folder, or makes it when there is no record yet; writes
    /// `record.pub` beside it.
    ///
    /// # Errors
    /// [`KeyError`]: the gateway's files are to blame.
    pub(crate) fn load_or_make(data_dir: &Path, record: Record) -> Result<Self, KeyError> {
        let path = data_dir.join("record.key");
        let key = match fs::read_to_string(&path) {
            Ok(text) => Self::read(&path, &text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => match record {
                Record::Present => return Err(KeyError::Missing { path }),
                Record::Absent => Self::make(&path)?,
            },
            Err(source) => return Err(KeyError::Io { doing: "read", path, source }),
        };
        let public_path = data_dir.join("record.pub");
        let pem = key.public.to_pem();
        if fs::read_to_string(&public_path).ok().as_deref() != Some(pem.as_str()) {
            write_file(&public_path, pem.as_bytes(), 0o644)?;
        }
        Ok(key)
    }

    fn read(path: &Path, text: &str) -> Result<Self, KeyError> {
        let unusable = |what| KeyError::Unusable { path: path.to_owned(), what };
        let mode = fs::metadata(path).map_err(|source| KeyError::Io {
            doing: "read",
            path: path.to_owned(),
            source,
        })?;
        if mode.permissions().mode() & 0o077 != 0 {
            return Err(unusable("others may read the key that signs the record; chmod 600"));
        }
        let der = decode_pem(text, PRIVATE_LABEL)
            .ok_or_else(|| unusable("this is not a private key in PEM"))?;
        let pair = Ed25519KeyPair::from_pkcs8(&der)
            .map_err(|_| unusable("this is not an Ed25519 key in PKCS #8"))?;
        Self::of(pair).map_err(unusable)
    }

    fn make(path: &Path) -> Result<Self, KeyError> {
        let unusable = |what| KeyError::Unusable { path: path.to_owned(), what };
        let pair = Ed25519KeyPair::generate().map_err(|_| unusable("no key could be made"))?;
        let document = pair.to_pkcs8().map_err(|_| unusable("no key could be made"))?;
        write_file(path, encode_pem(document.as_ref(), PRIVATE_LABEL).as_bytes(), 0o600)?;
        Self::of(pair).map_err(unusable)
    }

    fn of(pair: Ed25519KeyPair) -> Result<Self, &'static str> {
        let public: [u8; PUBLIC_BYTES] =
            pair.public_key().as_ref().try_into().map_err(|_| "its public half is odd")?;
        Ok(Self { pair, public: PublicKey(public) })
    }

    pub(crate) fn public(&self) -> &PublicKey {
        &self.public
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        let mut bytes = [0; SIGNATURE_BYTES];
        bytes.copy_from_slice(self.pair.sign(message).as_ref());
        bytes
    }
}

/// Writes a file beside its place, syncs it and moves it there, so that it is whole or absent.
fn write_file(path: &Path, bytes: &[u8], mode: u32) -> Result<(), KeyError> {
    let failed = |source| KeyError::Io { doing: "write", path: path.to_owned(), source };
    let beside = path.with_extension("part");
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        // What a crash left may have another mode.
        _ => {}
    }
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&beside)
        .map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&beside, path).map_err(failed)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}

fn encode_pem(der: &[u8], label: &str) -> String {
    let text = STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        // Base64 is ASCII: every position is a boundary.
        let (line, tail) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = tail;
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

fn decode_pem(text: &str, label: &str) -> Option<Vec<u8>> {
    let body = text.trim().strip_prefix(&format!("-----BEGIN {label}-----"))?;
    let body = body.strip_suffix(&format!("-----END {label}-----"))?;
    let body: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    STANDARD.decode(body).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_once_and_read_again() {
        let dir = tempfile::tempdir().expect("a folder");
        let made = SigningKey::load_or_make(dir.path(), Record::Absent).expect("made");
        let read = SigningKey::load_or_make(dir.path(), Record::Present).expect("read");
        assert_eq!(made.public(), read.public());
        let public = PublicKey::read(&dir.path().join("record.pub")).expect("public");
        assert!(public.has_signed(b"message", &read.sign(b"message")));
        assert!(!public.has_signed(b"another", &read.sign(b"message")));
        let mode = fs::metadata(dir.path().join("record.key")).expect("there").permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
    }

    #[test]
    fn lost_or_open_keys_are_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let missing = SigningKey::load_or_make(dir.path(), Record::Present);
        assert!(matches!(missing, Err(KeyError::Missing { .. })));
        drop(SigningKey::load_or_make(dir.path(), Record::Absent).expect("made"));
        let path = dir.path().join("record.key");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("chmod");
        let open = SigningKey::load_or_make(dir.path(), Record::Present);
        assert!(matches!(open, Err(KeyError::Unusable { .. })));
    }

    #[test]
    fn texts_that_are_no_public_key_are_refused() {
        let bad =
            ["", "ssh-ed25519 AAAA", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"];
        for text in bad {
            assert!(PublicKey::from_pem(text).is_err(), "{text}");
        }
    }
}
