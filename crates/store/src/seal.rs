//! Seals credentials with AES-256-GCM under a key that is kept apart from the store.
//!
//! ```text
//! base64( nonce (12) | ciphertext | tag (16) )
//! associated data: "corral seal v1" NUL purpose NUL name
//! ```
//! The associated data binds a sealed text to what it is for: moved to another row it does not
//! open.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use corral_model::secret::Secret;
use zeroize::Zeroizing;

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;
const CHECK_PURPOSE: &str = "check";
const CHECK_TEXT: &str = "corral";

/// Why something could not be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Whoever set it is to blame.
    #[error("CORRAL_SEAL_KEY is not 32 bytes in base64; make one with: openssl rand -base64 32")]
    BadEnvironmentKey,
    /// Whoever wrote the file is to blame.
    #[error("{0}: not 32 bytes in base64; restore the key that this store was sealed with")]
    BadKeyFile(PathBuf),
    /// Whoever set the rights is to blame.
    #[error("{path}: mode {mode:04o} lets others read the key; run: chmod 600 {path}")]
    OpenToOthers { path: PathBuf, mode: u32 },
    /// Whoever moved the store is to blame.
    #[error("{0}: missing, but the store was sealed with a key; put that key back")]
    MissingKeyFile(PathBuf),
    /// Whoever changed the key is to blame.
    #[error("this is not the key that the store was sealed with; put that key back")]
    WrongKey,
    /// The row was damaged, or moved from another place.
    #[error("a sealed value does not open: it was changed, or belongs elsewhere")]
    DoesNotOpen,
    /// The machine is to blame.
    #[error("the system cannot seal: no random bytes")]
    CannotSeal,
    #[error("{path}: cannot {doing} the seal key: {source}")]
    File { path: PathBuf, doing: &'static str, source: io::Error },
}

/// The bytes of a key. Overwritten when dropped; shown nowhere.
#[derive(Clone)]
pub struct SealKey(Zeroizing<[u8; KEY_BYTES]>);

impl SealKey {
    #[must_use]
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    fn from_base64(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(STANDARD.decode(text.trim()).ok()?);
        let bytes: [u8; KEY_BYTES] = bytes.as_slice().try_into().ok()?;
        Some(Self::from_bytes(bytes))
    }

    fn generate() -> Result<Self, SealError> {
        let mut bytes = Zeroizing::new([0_u8; KEY_BYTES]);
        aws_lc_rs::rand::fill(bytes.as_mut_slice()).map_err(|_| SealError::CannotSeal)?;
        Ok(Self(bytes))
    }
}

impl std::fmt::Debug for SealKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealKey(…)")
    }
}

/// Where the key comes from.
#[derive(Debug, Clone)]
pub enum SealSource {
    Key(SealKey),
    /// A file of mode 0600; made at the first start.
    File(PathBuf),
}

impl SealSource {
    /// The value of `CORRAL_SEAL_KEY` when there is one, otherwise the file.
    ///
    /// # Errors
    /// [`SealError::BadEnvironmentKey`].
    pub fn choose(environment: Option<&str>, file: PathBuf) -> Result<Self, SealError> {
        match environment {
            Some(text) => {
                SealKey::from_base64(text).map(Self::Key).ok_or(SealError::BadEnvironmentKey)
            }
            None => Ok(Self::File(file)),
        }
    }
}

/// Whether the store already holds something sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreAge {
    New,
    Sealed,
}

/// Seals and opens. Never written, never shown.
pub(crate) struct Seal(RandomizedNonceKey);

impl Seal {
    pub(crate) fn new(key: &SealKey) -> Result<Self, SealError> {
        let key = RandomizedNonceKey::new(&AES_256_GCM, key.0.as_slice());
        key.map(Self).map_err(|_| SealError::CannotSeal)
    }

    pub(crate) fn load(source: &SealSource, age: StoreAge) -> Result<Self, SealError> {
        match source {
            SealSource::Key(key) => Self::new(key),
            SealSource::File(path) => Self::new(&load_key_file(path, age)?),
        }
    }

    pub(crate) fn seal(
        &self,
        purpose: &str,
        name: &str,
        secret: &Secret,
    ) -> Result<String, SealError> {
        // Room for the tag, so that the buffer does not move and leave a copy behind.
        let mut buffer = Zeroizing::new(Vec::with_capacity(secret.reveal().len() + 16));
        buffer.extend_from_slice(secret.reveal().as_bytes());
        let nonce = self
            .0
            .seal_in_place_append_tag(Aad::from(binding(purpose, name)), &mut *buffer)
            .map_err(|_| SealError::CannotSeal)?;
        let mut sealed = nonce.as_ref().to_vec();
        sealed.extend_from_slice(&buffer);
        Ok(STANDARD.encode(sealed))
    }

    pub(crate) fn open(
        &self,
        purpose: &str,
        name: &str,
        sealed: &str,
    ) -> Result<Secret, SealError> {
        let bytes = STANDARD.decode(sealed).map_err(|_| SealError::DoesNotOpen)?;
        let (nonce, ciphertext) =
            bytes.split_at_checked(NONCE_BYTES).ok_or(SealError::DoesNotOpen)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::DoesNotOpen)?;
        let mut buffer = Zeroizing::new(ciphertext.to_vec());
        let plain = self
            .0
            .open_in_place(nonce, Aad::from(binding(purpose, name)), &mut buffer)
            .map_err(|_| SealError::DoesNotOpen)?;
        let text = std::str::from_utf8(plain).map_err(|_| SealError::DoesNotOpen)?;
        Ok(Secret::new(text.to_owned()))
    }

    /// A value that shows at the next start whether the key is still the same.
    pub(crate) fn check_value(&self, gateway_id: &str) -> Result<String, SealError> {
        self.seal(CHECK_PURPOSE, gateway_id, &Secret::new(CHECK_TEXT.to_owned()))
    }

    pub(crate) fn check(&self, gateway_id: &str, check_value: &str) -> Result<(), SealError> {
        match self.open(CHECK_PURPOSE, gateway_id, check_value) {
            Ok(text) if text.reveal() == CHECK_TEXT => Ok(()),
            Ok(_) | Err(_) => Err(SealError::WrongKey),
        }
    }
}

fn binding(purpose: &str, name: &str) -> Vec<u8> {
    // Neither a purpose nor a name holds a NUL, so no two pairs give the same bytes.
    format!("corral seal v1\0{purpose}\0{name}").into_bytes()
}

fn load_key_file(path: &Path, age: StoreAge) -> Result<SealKey, SealError> {
    let file = |doing: &'static str| {
        move |source: io::Error| SealError::File { path: path.to_owned(), doing, source }
    };
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match age {
                StoreAge::New => make_key_file(path).map_err(file("write"))?,
                StoreAge::Sealed => Err(SealError::MissingKeyFile(path.to_owned())),
            };
        }
        Err(error) => return Err(file("read")(error)),
    };
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SealError::OpenToOthers { path: path.to_owned(), mode });
    }
    let text = Zeroizing::new(fs::read_to_string(path).map_err(file("read"))?);
    SealKey::from_base64(&text).ok_or_else(|| SealError::BadKeyFile(path.to_owned()))
}

/// Writes the key beside its place, syncs it and moves it there: a crash leaves a whole key or
/// none, and nothing was sealed before.
fn make_key_file(path: &Path) -> io::Result<Result<SealKey, SealError>> {
    let key = match SealKey::generate() {
        Ok(key) => key,
        Err(error) => return Ok(Err(error)),
    };
    let text = Zeroizing::new(format!("{}\n", STANDARD.encode(key.0.as_slice())));
    let beside = path.with_extension("key.new");
    match fs::remove_file(&beside) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut file: File =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    if let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        File::open(directory)?.sync_all()?;
    }
    Ok(Ok(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(byte: u8) -> Seal {
        Seal::new(&SealKey::from_bytes([byte; KEY_BYTES])).expect("a key")
    }

    #[test]
    fn a_sealed_value_opens_only_where_it_belongs() {
        let seal = seal(1);
        let secret = Secret::new("hunter2".into());
        let sealed = seal.seal("credential", "orders-db", &secret).expect("seals");
        assert!(!sealed.contains("hunter2"));
        let opened = seal.open("credential", "orders-db", &sealed).expect("opens");
        assert_eq!(opened.reveal(), "hunter2");
        for (purpose, name) in [("credential", "other-db"), ("masked_credential", "orders-db")] {
            assert!(matches!(seal.open(purpose, name, &sealed), Err(SealError::DoesNotOpen)));
        }
    }

    #[test]
    fn a_changed_or_foreign_value_does_not_open() {
        let sealed = seal(1).seal("p", "n", &Secret::new("x".into())).expect("seals");
        assert!(matches!(seal(2).open("p", "n", &sealed), Err(SealError::DoesNotOpen)));
        let mut bytes = STANDARD.decode(&sealed).expect("base64");
        for index in 0..bytes.len() {
            bytes[index] ^= 1;
            let changed = STANDARD.encode(&bytes);
            assert!(seal(1).open("p", "n", &changed).is_err(), "byte {index}");
            bytes[index] ^= 1;
        }
        for text in ["", "AAAA", "not base64!"] {
            assert!(matches!(seal(1).open("p", "n", text), Err(SealError::DoesNotOpen)));
        }
    }

    #[test]
    fn sealing_twice_gives_different_texts() {
        let secret = Secret::new("same".into());
        let one = seal(1).seal("p", "n", &secret).expect("seals");
        let other = seal(1).seal("p", "n", &secret).expect("seals");
        assert_ne!(one, other);
    }

    #[test]
    fn the_environment_key_must_be_32_bytes_in_base64() {
        let file = PathBuf::from("seal.key");
        let good = STANDARD.encode([7_u8; 32]);
        assert!(matches!(SealSource::choose(Some(&good), file.clone()), Ok(SealSource::Key(_))));
        assert!(matches!(SealSource::choose(None, file.clone()), Ok(SealSource::File(_))));
        for text in ["", "short", &STANDARD.encode([7_u8; 31])] {
            let chosen = SealSource::choose(Some(text), file.clone());
            assert!(matches!(chosen, Err(SealError::BadEnvironmentKey)), "{text}");
        }
    }
}
