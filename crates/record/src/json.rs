//! The few pieces of JSON that a line is made of, written straight behind what is in a buffer.
//! They are byte for byte what `serde_json` writes.

use std::io;

/// A name or text in quotes.
///
/// # Errors
/// None that can happen: a text is always JSON, and memory takes it.
pub(crate) fn put_text(buffer: &mut Vec<u8>, text: &str) -> io::Result<()> {
    if is_plain(text.as_bytes()) {
        buffer.reserve(text.len() + 2);
        buffer.push(b'"');
        buffer.extend_from_slice(text.as_bytes());
        buffer.push(b'"');
        return Ok(());
    }
    serde_json::to_writer(buffer, text).map_err(io::Error::from)
}

/// Whether JSON writes it as it is. Without a branch for each byte, so that many are looked at
/// at once.
fn is_plain(bytes: &[u8]) -> bool {
    let is_escaped = |byte: &u8| (*byte < 0x20) | (*byte == b'"') | (*byte == b'\\');
    !bytes.iter().fold(false, |found, byte| found | is_escaped(byte))
}

pub(crate) fn put_number(buffer: &mut Vec<u8>, number: u64) {
    buffer.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

pub(crate) fn put_bool(buffer: &mut Vec<u8>, is_so: bool) {
    buffer.extend_from_slice(if is_so { b"true" } else { b"false" });
}

/// An optional text: null where there is none.
///
/// # Errors
/// As for [`put_text`].
pub(crate) fn put_text_or_null(buffer: &mut Vec<u8>, text: Option<&str>) -> io::Result<()> {
    match text {
        Some(text) => put_text(buffer, text),
        None => {
            buffer.extend_from_slice(b"null");
            Ok(())
        }
    }
}

/// `,"NAME":`, of a name that JSON writes as it is.
pub(crate) fn put_name(buffer: &mut Vec<u8>, name: &'static str) {
    buffer.extend_from_slice(b",\"");
    buffer.extend_from_slice(name.as_bytes());
    buffer.extend_from_slice(b"\":");
}

/// An array; `put` writes one item.
///
/// # Errors
/// Those of `put`.
pub(crate) fn put_list<T>(
    buffer: &mut Vec<u8>,
    items: impl IntoIterator<Item = T>,
    mut put: impl FnMut(&mut Vec<u8>, T) -> io::Result<()>,
) -> io::Result<()> {
    buffer.push(b'[');
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            buffer.push(b',');
        }
        put(buffer, item)?;
    }
    buffer.push(b']');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_as_serde_json_writes_them() {
        let every = (0..=0x2ff).filter_map(char::from_u32);
        let texts =
            every.flat_map(|odd| [format!("{odd}"), format!("plain {odd} and long enough")]);
        for text in texts.chain([String::new()]) {
            let mut buffer = b"before".to_vec();
            put_text(&mut buffer, &text).expect("a text");
            let expect = format!("before{}", serde_json::to_string(&text).expect("a text"));
            assert_eq!(String::from_utf8_lossy(&buffer), expect);
        }
    }

    #[test]
    fn numbers_are_in_digits() {
        for number in [0, 7, 10, 4_294_967_296, u64::MAX] {
            let mut buffer = Vec::new();
            put_number(&mut buffer, number);
            assert_eq!(String::from_utf8_lossy(&buffer), number.to_string());
        }
    }
}
