//! Takes known secrets out of recorded bytes, also where a secret is split over two pieces.
//!
//! Only exact occurrences are found: not in other encodings, and not broken by a terminal's line
//! wrap.

use std::sync::Arc;

use corral_model::limits::SECRET_BYTES_MIN;
use corral_model::resource::CredentialKind;

use crate::Credential;

/// What stands in a secret's place; its length says nothing about the secret's.
const BLANK: &[u8] = b"********";

/// The secrets that are looked for, shared by all streams of a session.
#[derive(Clone)]
pub struct Secrets {
    texts: Arc<[Box<[u8]>]>,
    /// Which bytes a secret starts with: most bytes of a stream start none.
    firsts: [bool; 256],
}

impl Default for Secrets {
    fn default() -> Self {
        Self::new(std::iter::empty())
    }
}

impl Secrets {
    /// The texts by which a credential would be recognised on a screen: a password as it is, a
    /// key's lines one by one. Shorter ones than [`SECRET_BYTES_MIN`] are not looked for.
    #[must_use]
    pub fn of(credential: &Credential) -> Self {
        let Some(secret) = &credential.secret else { return Self::default() };
        let text = secret.reveal();
        let texts: Vec<&str> = match credential.kind {
            CredentialKind::Password | CredentialKind::Token => vec![text.trim()],
            CredentialKind::PrivateKey | CredentialKind::ClientKey => {
                text.lines().map(str::trim).filter(|line| !line.starts_with("-----")).collect()
            }
        };
        Self::new(texts.into_iter().map(str::as_bytes))
    }

    /// Those of both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self::new(self.texts.iter().chain(other.texts.iter()).map(AsRef::as_ref))
    }

    fn new<'a>(texts: impl Iterator<Item = &'a [u8]>) -> Self {
        let long = texts.filter(|text| text.len() >= SECRET_BYTES_MIN);
        let texts: Arc<[Box<[u8]>]> = long.map(Box::from).collect();
        let mut firsts = [false; 256];
        for first in texts.iter().filter_map(|text| text.first()) {
            firsts[usize::from(*first)] = true;
        }
        Self { texts, firsts }
    }

    fn starting_at<'a>(&'a self, rest: &[u8]) -> Option<&'a [u8]> {
        let found = self.texts.iter().filter(|secret| rest.starts_with(secret));
        found.max_by_key(|secret| secret.len()).map(AsRef::as_ref)
    }

    /// Whether more bytes could make this a secret.
    fn may_start(&self, rest: &[u8]) -> bool {
        self.texts.iter().any(|secret| secret.len() > rest.len() && secret.starts_with(rest))
    }
}

/// The blanking of one stream.
pub struct Blanker {
    secrets: Secrets,
    /// Bytes that may be the start of a secret.
    kept: Vec<u8>,
}

impl Blanker {
    #[must_use]
    pub fn new(secrets: Secrets) -> Self {
        Self { secrets, kept: Vec::new() }
    }

    /// What may be recorded of these bytes and of what was kept back before them. What may be the
    /// start of a secret is kept back.
    pub fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        if self.secrets.texts.is_empty() {
            return bytes.to_vec();
        }
        let mut all = std::mem::take(&mut self.kept);
        all.extend_from_slice(bytes);
        let mut out = Vec::with_capacity(all.len());
        let mut rest = all.as_slice();
        while let Some((first, after)) = rest.split_first() {
            if !self.secrets.firsts[usize::from(*first)] {
                out.push(*first);
                rest = after;
                continue;
            }
            if self.secrets.may_start(rest) {
                self.kept = rest.to_vec();
                break;
            }
            rest = match self.secrets.starting_at(rest).and_then(|secret| rest.get(secret.len()..))
            {
                Some(after_secret) => {
                    out.extend_from_slice(BLANK);
                    after_secret
                }
                None => {
                    out.push(*first);
                    after
                }
            };
        }
        out
    }

    /// The stream is over: what was kept back is no secret.
    pub fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(secrets: &[&str], text: &str, expect: &str) {
        let secrets = Secrets::new(secrets.iter().map(|secret| secret.as_bytes()));
        for cut in 0..=text.len() {
            let (first, second) = text.as_bytes().split_at(cut);
            let mut blanker = Blanker::new(secrets.clone());
            let mut out = blanker.pass(first);
            out.extend(blanker.pass(second));
            out.extend(blanker.finish());
            assert_eq!(String::from_utf8_lossy(&out), expect, "cut at {cut}");
        }
    }

    #[test]
    fn secrets_are_blanked_wherever_a_piece_ends() {
        check(&["hunter2"], "is hunter2, or hunter2hunter", "is ********, or ********hunter");
        check(&["hunter2"], "hunter hunter", "hunter hunter");
        check(&["hunter2", "hunter2000"], "hunter2000!", "********!");
        check(&["hunter2", "hunter2000"], "hunter20!", "********0!");
        check(&["aaab"], "aaaaab", "aa********");
        check(&["abc"], "abcabc", "abcabc");
        check(&[], "anything", "anything");
    }

    #[test]
    fn a_secret_that_fills_the_stream_to_its_end_is_blanked() {
        let mut blanker = Blanker::new(Secrets::new([b"hunter2".as_slice()].into_iter()));
        assert_eq!(blanker.pass(b"hunter"), b"");
        assert_eq!(blanker.pass(b"2"), BLANK);
        assert_eq!(blanker.finish(), b"");
    }
}
