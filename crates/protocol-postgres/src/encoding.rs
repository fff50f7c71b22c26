//! Texts of clients that do not speak UTF-8, as the target will read them.
//!
//! What is not ASCII is read in encodings of single bytes only, by the tables that PostgreSQL
//! itself converts with. In all others a text has to be ASCII, which means the same in each of
//! them: the second byte of a letter may be a quote or a backslash there, and a letter that were
//! read in another way than by the target could be another name.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::OnceLock;

const TABLE: &str = include_str!("encoding.txt");

/// Names that a client may ask for, as PostgreSQL compares them: without case and punctuation.
/// The first of each line is in `pg_encoding_to_char`, the others are its aliases. Sorted.
const KNOWN: &[&str] = &[
    "abc",
    "alt",
    "big5",
    "euccn",
    "eucjis2004",
    "eucjp",
    "euckr",
    "euctw",
    "gb18030",
    "gbk",
    "iso88591",
    "iso885910",
    "iso885913",
    "iso885914",
    "iso885915",
    "iso885916",
    "iso88592",
    "iso88593",
    "iso88594",
    "iso88595",
    "iso88596",
    "iso88597",
    "iso88598",
    "iso88599",
    "johab",
    "koi8",
    "koi8r",
    "koi8u",
    "latin1",
    "latin10",
    "latin2",
    "latin3",
    "latin4",
    "latin5",
    "latin6",
    "latin7",
    "latin8",
    "latin9",
    "mskanji",
    "muleinternal",
    "shiftjis",
    "shiftjis2004",
    "sjis",
    "sqlascii",
    "tcvn",
    "tcvn5712",
    "uhc",
    "unicode",
    "utf8",
    "vscii",
    "win",
    "win1250",
    "win1251",
    "win1252",
    "win1253",
    "win1254",
    "win1255",
    "win1256",
    "win1257",
    "win1258",
    "win866",
    "win874",
    "win932",
    "win936",
    "win949",
    "win950",
    "windows1250",
    "windows1251",
    "windows1252",
    "windows1253",
    "windows1254",
    "windows1255",
    "windows1256",
    "windows1257",
    "windows1258",
    "windows866",
    "windows874",
    "windows932",
    "windows936",
    "windows949",
    "windows950",
];

/// A name as PostgreSQL compares it.
pub(crate) fn folded(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase()
}

/// Whether PostgreSQL has an encoding of this name.
pub(crate) fn is_known(name: &str) -> bool {
    KNOWN.binary_search(&folded(name).as_str()).is_ok()
}

/// Whether it is UTF-8 by one of its names.
pub(crate) fn is_utf8(name: &str) -> bool {
    matches!(folded(name).as_str(), "utf8" | "unicode")
}

/// A text that is not ASCII, as the target reads it. `client` and `server` are encodings as the
/// target names them.
///
/// # Errors
/// The sentence for the client, when it cannot be told how the target reads it.
pub(crate) fn decode<'a>(
    text: &'a [u8],
    client: &str,
    server: &str,
) -> Result<Cow<'a, str>, String> {
    // The target takes the bytes of such a client as its own.
    let encoding = if client == "SQL_ASCII" { server } else { client };
    if encoding == "UTF8" {
        return match std::str::from_utf8(text) {
            Ok(text) => Ok(Cow::Borrowed(text)),
            Err(error) => {
                Err(format!("the statement is not UTF-8 at byte {}", error.valid_up_to() + 1))
            }
        };
    }
    let Some(table) = tables().get(encoding) else {
        return Err(format!(
            "with client_encoding {client} a statement has to be ASCII; send other letters as \
             parameters, or set client_encoding to UTF8"
        ));
    };
    let mut decoded = String::with_capacity(text.len() * 2);
    for (at, byte) in text.iter().enumerate() {
        let letter = match byte {
            0..0x80 => Some(char::from(*byte)),
            high => table.get(usize::from(high - 0x80)).copied().flatten(),
        };
        let Some(letter) = letter else {
            return Err(format!("the statement is not {encoding} at byte {}", at + 1));
        };
        decoded.push(letter);
    }
    Ok(Cow::Owned(decoded))
}

/// The letters of bytes 0x80 to 0xFF.
type Table = Vec<Option<char>>;

fn tables() -> &'static HashMap<&'static str, Table> {
    static TABLES: OnceLock<HashMap<&'static str, Table>> = OnceLock::new();
    TABLES.get_or_init(|| {
        let lines = TABLE.lines().filter(|line| !line.starts_with('#'));
        lines
            .filter_map(|line| {
                let (name, letters) = line.split_once(' ')?;
                Some((name, letters.split(' ').map(letter).collect()))
            })
            .collect()
    })
}

fn letter(digits: &str) -> Option<char> {
    u32::from_str_radix(digits, 16).ok().filter(|code| *code != 0).and_then(char::from_u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_tables_are_whole() {
        assert!(KNOWN.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(tables().len(), 27);
        assert!(tables().values().all(|table| table.len() == 128));
        assert!(tables().keys().all(|name| is_known(name)), "{:?}", tables().keys());
        for name in ["UTF-8", "utf_8", "Unicode", "latin-1", "ISO 8859-1", "KOI8", "win1252"] {
            assert!(is_known(name), "{name}");
        }
        assert!(is_utf8("utf-8") && !is_utf8("latin1") && !is_known("utf16"));
    }

    #[track_caller]
    fn check(text: &[u8], client: &str, server: &str, expect: Option<&str>) {
        assert_eq!(decode(text, client, server).ok().as_deref(), expect);
    }

    #[test]
    fn a_text_is_read_as_the_target_reads_it() {
        check("é".as_bytes(), "UTF8", "UTF8", Some("é"));
        check(b"'\xe9'", "LATIN1", "UTF8", Some("'é'"));
        check(b"'\xa4'", "LATIN1", "UTF8", Some("'¤'"));
        check(b"'\xa4'", "LATIN9", "UTF8", Some("'€'"));
        check(b"'\x80'", "WIN1252", "UTF8", Some("'€'"));
        check(b"'\xc0'", "KOI8R", "UTF8", Some("'ю'"));
        // The target's own encoding.
        check("é".as_bytes(), "SQL_ASCII", "UTF8", Some("é"));
        check(b"\xe9", "SQL_ASCII", "LATIN1", Some("é"));
    }

    #[test]
    fn what_cannot_be_told_is_refused() {
        check(b"'\xe9'", "UTF8", "UTF8", None);
        check(b"'\x81'", "WIN1252", "UTF8", None);
        check(b"\xe9", "SQL_ASCII", "SQL_ASCII", None);
        // Their letters may end in a backslash or a quote.
        for client in ["SJIS", "BIG5", "GBK", "UHC", "GB18030", "JOHAB", "SHIFT_JIS_2004"] {
            check(b"'\x83\x5c'", client, "UTF8", None);
        }
        for client in ["EUC_JP", "EUC_CN", "EUC_KR", "EUC_TW", "EUC_JIS_2004", "MULE_INTERNAL"] {
            check(b"'\xa4\xa2'", client, "UTF8", None);
        }
        check(b"'\xe9'", "an encoding of tomorrow", "UTF8", None);
    }
}
