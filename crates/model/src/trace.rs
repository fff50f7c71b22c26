//! W3C Trace Context: what a client says of the trace that it belongs to. A claim: it is kept for
//! people and their tracing, and decides nothing.

use std::fmt;

use serde::{Deserialize, Serialize};

/// `00-<trace id>-<parent id>-<flags>`, in bytes.
const LEN: usize = 55;
/// How sqlcommenter writes it in a comment; the value is in single quotes.
const COMMENT_KEY: &str = "traceparent='";

/// A `traceparent` that has the form of the standard (W3C Trace Context, section 3.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TraceParent(String);

impl TraceParent {
    /// Reads one; None for everything that the standard calls invalid. Of a later version, the
    /// part that every version has is kept.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (known, rest) = text.split_at_checked(LEN)?;
        let mut parts = known.split('-');
        let (version, trace, parent, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let has_form = parts.next().is_none()
            && is_hex(version, 2)
            && is_hex(trace, 32)
            && is_hex(parent, 16)
            && is_hex(flags, 2);
        let is_somebody = [trace, parent].iter().all(|id| id.bytes().any(|digit| digit != b'0'));
        let is_whole = match version {
            "ff" => false,
            "00" => rest.is_empty(),
            _ => rest.is_empty() || rest.starts_with('-'),
        };
        (has_form && is_somebody && is_whole).then(|| Self(known.to_owned()))
    }

    /// The one that a comment in a statement names, as sqlcommenter writes it:
    /// `/*traceparent='00-…-01'*/`. The last one counts, because that is where it is added.
    #[must_use]
    pub fn in_comment(statement: &str) -> Option<Self> {
        // Looking for one byte is much faster than looking for a text, and most have none.
        if !statement.as_bytes().contains(&b'*') {
            return None;
        }
        let comment = statement.rfind("/*").and_then(|start| statement.get(start..))?;
        let start = comment.find(COMMENT_KEY)?.checked_add(COMMENT_KEY.len())?;
        let (value, _) = comment.get(start..)?.split_once('\'')?;
        Self::parse(value)
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its parts as bytes.
    #[must_use]
    pub fn context(&self) -> Option<TraceContext<'_>> {
        let mut parts = self.0.split('-').skip(1);
        let trace_id_text = parts.next()?;
        let trace_id = bytes(trace_id_text)?;
        let span_id = bytes(parts.next()?)?;
        let [flags] = bytes(parts.next()?)?;
        Some(TraceContext { trace_id_text, trace_id, span_id, flags })
    }
}

/// What a [`TraceParent`] names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext<'a> {
    /// In hexadecimal digits.
    pub trace_id_text: &'a str,
    pub trace_id: [u8; 16],
    /// The caller's span.
    pub span_id: [u8; 8],
    pub flags: u8,
}

/// How a protocol's statements are called in traces, which others read than the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceNames {
    /// Of a database: `db.system.name` and its name in OpenTelemetry's conventions.
    pub system: Option<(&'static str, &'static str)>,
    /// Attribute of the code with which a statement ended.
    pub code: &'static str,
    /// The codes of success.
    pub successes: &'static [&'static str],
    /// Attribute of the number of rows, where it has rows.
    pub rows: Option<&'static str>,
    pub objects: TracedObjects,
}

/// What traces say of the objects that a statement touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TracedObjects {
    /// Their names: they belong to a schema, as those of tables do.
    Names,
    /// What stands in front of a slash: the type without the one object's name.
    Types,
    /// Their names are data.
    Nothing,
}

fn bytes<const LEN: usize>(hex: &str) -> Option<[u8; LEN]> {
    let mut bytes = [0; LEN];
    for (index, byte) in bytes.iter_mut().enumerate() {
        let digits = hex.get(index * 2..index * 2 + 2)?;
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(bytes)
}

fn is_hex(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

impl TryFrom<String> for TraceParent {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("not a traceparent (W3C Trace Context, section 3.2)")
    }
}

impl From<TraceParent> for String {
    fn from(trace: TraceParent) -> Self {
        trace.0
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn only_what_the_standard_calls_valid_is_kept() {
        let check = |text: &str, is_good: bool| {
            assert_eq!(TraceParent::parse(text).is_some(), is_good, "{text}");
        };
        check(GOOD, true);
        check(&GOOD.replacen("00", "cc", 1), true);
        check(&format!("{}-what-comes-later", GOOD.replacen("00", "01", 1)), true);
        check(&format!("{GOOD}-more"), false);
        check(&format!("{}more", GOOD.replacen("00", "01", 1)), false);
        check(&GOOD.replacen("00", "ff", 1), false);
        check(&GOOD.to_uppercase(), false);
        check(&GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)), false);
        check(&GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)), false);
        check(&GOOD.replace("-00f0", "00-f0"), false);
        check("", false);
        check(&"ä".repeat(40), false);
        check(&GOOD.replace("01", "é"), false);
    }

    #[test]
    fn its_parts_are_bytes() {
        let trace = TraceParent::parse(GOOD).expect("valid");
        let context = trace.context().expect("has parts");
        assert_eq!(context.trace_id_text, "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!((context.trace_id[0], context.trace_id[15]), (0x4b, 0x36));
        assert_eq!(
            (context.span_id, context.flags),
            ([0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 2, 0xb7], 1)
        );
    }

    #[test]
    fn a_comment_in_a_statement_may_name_it() {
        let check = |statement: &str, expect: Option<&str>| {
            let found = TraceParent::in_comment(statement);
            assert_eq!(found.as_ref().map(TraceParent::as_str), expect, "{statement}");
        };
        check(&format!("select 1 /*traceparent='{GOOD}'*/"), Some(GOOD));
        check(&format!("select 1 /*db='x',traceparent='{GOOD}',a='b'*/;"), Some(GOOD));
        check(&format!("select 'traceparent=''{GOOD}'''"), None);
        check(&format!("select 1 /*traceparent={GOOD}*/"), None);
        check("select 1 /*traceparent='", None);
        check("select 1", None);
    }
}
