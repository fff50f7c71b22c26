//! Texts as events carry them.

use corral_model::event::EventText;
use corral_model::limits;
use sha2::{Digest, Sha256};

/// A statement's text for an event: whole, or its digest and length when it is longer than
/// [`limits::EVENT_TEXT_BYTES_MAX`].
#[must_use]
pub fn event_text(text: &str) -> EventText {
    if text.len() <= limits::EVENT_TEXT_BYTES_MAX {
        return EventText::Whole(text.to_owned());
    }
    EventText::Digest { sha256: sha256_hex(text.as_bytes()), bytes: text.len() as u64 }
}

/// SHA-256 as lower-case hexadecimal text.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_become_digests() {
        let longest = "x".repeat(limits::EVENT_TEXT_BYTES_MAX);
        assert_eq!(event_text(&longest), EventText::Whole(longest.clone()));
        let longer = format!("{longest}x");
        let EventText::Digest { sha256, bytes } = event_text(&longer) else {
            unreachable!("longer texts are digested")
        };
        assert_eq!(bytes, longer.len() as u64);
        assert_eq!(sha256, sha256_hex(longer.as_bytes()));
    }

    #[test]
    fn digests_are_written_in_hexadecimal() {
        let expect = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256_hex(b"abc"), expect);
    }
}
