//! A file's content as it passes: how much, and its digest while it passes in one piece.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// Which way content went through one handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// To the client.
    Read,
    /// To the target.
    Written,
}

/// What passed through one handle.
#[derive(Debug, Default)]
pub(crate) struct Content {
    pub(crate) bytes_read: u64,
    pub(crate) bytes_written: u64,
    start: Option<(Way, u64)>,
    next: u64,
    digest: Sha256,
    /// As the client set it.
    size: Option<u64>,
    /// Why there is no digest.
    gap: Option<&'static str>,
}

impl Content {
    pub(crate) fn passed(&mut self, way: Way, offset: u64, data: &[u8]) {
        let count = u64::try_from(data.len()).unwrap_or(u64::MAX);
        match way {
            Way::Read => self.bytes_read = self.bytes_read.saturating_add(count),
            Way::Written => self.bytes_written = self.bytes_written.saturating_add(count),
        }
        if self.gap.is_some() {
            return;
        }
        match self.start {
            None => {
                self.start = Some((way, offset));
                self.next = offset;
            }
            Some((before, _)) if before != way => return self.lose("read and written"),
            Some(_) if self.next != offset => return self.lose("not in one piece"),
            Some(_) => {}
        }
        self.next = self.next.saturating_add(count);
        self.digest.update(data);
    }

    /// What passes cannot be told by a digest.
    pub(crate) fn lose(&mut self, why: &'static str) {
        self.gap.get_or_insert(why);
    }

    /// The client sets the file's size.
    pub(crate) fn set_size(&mut self, size: u64) {
        self.size = Some(size);
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes_read.saturating_add(self.bytes_written)
    }

    /// SHA-256 in hexadecimal digits, and words for the record: which way, from where, and why
    /// there is no digest.
    pub(crate) fn finish(self) -> (Option<String>, String) {
        let way = match (self.bytes_read, self.bytes_written) {
            (0, 0) => "nothing moved",
            (_, 0) => "read",
            (0, _) => "written",
            (_, _) => "read and written",
        };
        let mut words = way.to_owned();
        if let Some(size) = self.size.filter(|size| *size != self.next) {
            let _ = write!(words, "; size set to {size}");
        }
        match (self.gap, self.start) {
            (Some(gap), _) => {
                let _ = write!(words, "; no digest: {gap}");
                (None, words)
            }
            (None, None) => (None, words),
            (None, Some((_, offset))) => {
                if offset != 0 {
                    let _ = write!(words, " from offset {offset}");
                }
                (Some(hex(&self.digest.finalize())), words)
            }
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(passed: &[(Way, u64, &str)], digest_of: Option<&str>, words: &str) {
        let mut content = Content::default();
        for (way, offset, data) in passed {
            content.passed(*way, *offset, data.as_bytes());
        }
        let bytes: usize = passed.iter().map(|(_, _, data)| data.len()).sum();
        assert_eq!(content.bytes(), bytes as u64);
        let expect = digest_of.map(|text| hex(&Sha256::digest(text.as_bytes())));
        assert_eq!(content.finish(), (expect, words.to_owned()));
    }

    #[test]
    fn the_digest_is_of_one_piece_or_absent_with_a_reason() {
        check(&[], None, "nothing moved");
        check(&[(Way::Read, 0, "ab"), (Way::Read, 2, "c")], Some("abc"), "read");
        check(&[(Way::Written, 7, "ab")], Some("ab"), "written from offset 7");
        check(
            &[(Way::Written, 0, "ab"), (Way::Written, 3, "c")],
            None,
            "written; no digest: not in one piece",
        );
        check(
            &[(Way::Read, 0, "ab"), (Way::Written, 2, "c")],
            None,
            "read and written; no digest: read and written",
        );
    }

    #[test]
    fn a_size_that_is_not_where_the_content_ends_is_told() {
        let mut content = Content::default();
        content.passed(Way::Written, 0, b"abc");
        content.set_size(3);
        content.set_size(2);
        assert_eq!(content.finish().1, "written; size set to 2");
        let mut content = Content::default();
        content.passed(Way::Written, 0, b"abc");
        content.set_size(3);
        assert_eq!(content.finish().1, "written");
    }

    #[test]
    fn a_digest_is_in_hexadecimal_digits() {
        let empty = hex(&Sha256::digest(b""));
        assert_eq!(empty, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
