//! Messages that the gateway sends to a client, in the target's place.

use bytes::{BufMut, BytesMut};

/// How bad an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    Error,
    Fatal,
    Notice,
}

impl Severity {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
            Self::Notice => "NOTICE",
        }
    }
}

/// An error or notice of the gateway's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report<'a> {
    pub(crate) severity: Severity,
    pub(crate) code: &'a str,
    pub(crate) message: &'a str,
    pub(crate) detail: Option<&'a str>,
    /// In characters, from 1.
    pub(crate) position: Option<usize>,
}

/// Writes one message: tag, length, and what `body` writes.
pub(crate) fn put_message(out: &mut BytesMut, tag: u8, body: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u8(tag);
    out.put_u32(0);
    body(out);
    let length = u32::try_from(out.len() - start - 1).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(start + 1..start + 5) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}

/// Writes a text and its NUL; a NUL inside is left out.
pub(crate) fn put_text(out: &mut BytesMut, text: &str) {
    for part in text.split('\0') {
        out.put_slice(part.as_bytes());
    }
    out.put_u8(0);
}

fn put_field(out: &mut BytesMut, kind: u8, text: &str) {
    out.put_u8(kind);
    put_text(out, text);
}

pub(crate) fn put_report(out: &mut BytesMut, report: &Report<'_>) {
    let tag = if report.severity == Severity::Notice { b'N' } else { b'E' };
    put_message(out, tag, |out| {
        put_field(out, b'S', report.severity.name());
        put_field(out, b'V', report.severity.name());
        put_field(out, b'C', report.code);
        put_field(out, b'M', report.message);
        if let Some(detail) = report.detail {
            put_field(out, b'D', detail);
        }
        if let Some(position) = report.position {
            put_field(out, b'P', &position.to_string());
        }
        out.put_u8(0);
    });
}

/// An error of the target's without a word of its text.
pub(crate) fn put_reduced_error(
    out: &mut BytesMut,
    severity: &str,
    (code, condition): (&str, &str),
    position: Option<&str>,
) {
    put_message(out, b'E', |out| {
        put_field(out, b'S', severity);
        put_field(out, b'V', severity);
        put_field(out, b'C', code);
        put_field(out, b'M', condition);
        if let Some(position) = position {
            put_field(out, b'P', position);
        }
        out.put_u8(0);
    });
}

pub(crate) fn put_authentication_ok(out: &mut BytesMut) {
    put_message(out, b'R', |out| out.put_u32(0));
}

pub(crate) fn put_ask_password(out: &mut BytesMut) {
    put_message(out, b'R', |out| out.put_u32(3));
}

pub(crate) fn put_parameter_status(out: &mut BytesMut, name: &str, value: &str) {
    put_message(out, b'S', |out| {
        put_text(out, name);
        put_text(out, value);
    });
}

/// BackendKeyData: `key` starts with the four bytes of the process id.
pub(crate) fn put_key_data(out: &mut BytesMut, key: &[u8]) {
    put_message(out, b'K', |out| out.put_slice(key));
}

pub(crate) fn put_ready(out: &mut BytesMut, status: u8) {
    put_message(out, b'Z', |out| out.put_u8(status));
}

/// NegotiateProtocolVersion: what is spoken, and which options are not known.
pub(crate) fn put_negotiate_version(out: &mut BytesMut, minor: u16, unknown: &[&str]) {
    put_message(out, b'v', |out| {
        out.put_u16(3);
        out.put_u16(minor);
        out.put_u32(u32::try_from(unknown.len()).unwrap_or(u32::MAX));
        for name in unknown {
            put_text(out, name);
        }
    });
}

pub(crate) fn put_notification(out: &mut BytesMut, process: u32, channel: &[u8], payload: &[u8]) {
    put_message(out, b'A', |out| {
        out.put_u32(process);
        out.put_slice(channel);
        out.put_u8(0);
        out.put_slice(payload);
        out.put_u8(0);
    });
}
