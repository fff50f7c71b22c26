//! Messages that the gateway sends to a target on its own behalf.

use bytes::{BufMut, BytesMut};

use super::server::{put_message, put_text};

/// What the gateway uses at the target for itself. Clients may not use it.
pub(crate) const RESERVED: &str = "corral.";
/// Statement and portal of the gateway's own questions.
const QUESTION: &str = "corral.question";
/// Never comes to exist: its text cannot be parsed.
const REFUSED: &str = "corral.refused";

pub(crate) fn put_ssl_request(out: &mut BytesMut) {
    out.put_u32(8);
    out.put_u32(80_877_103);
}

/// A startup packet of version 3.0.
pub(crate) fn put_startup(out: &mut BytesMut, parameters: &[(&str, &str)]) {
    let start = out.len();
    out.put_u32(0);
    out.put_u32(0x0003_0000);
    for (name, value) in parameters {
        put_text(out, name);
        put_text(out, value);
    }
    out.put_u8(0);
    let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}

/// The whole cancel request for a target's own key.
pub(crate) fn cancel_request(process: u32, key: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    out.put_u32(u32::try_from(key.len() + 12).unwrap_or(u32::MAX));
    out.put_u32(80_877_102);
    out.put_u32(process);
    out.put_slice(key);
    out.to_vec()
}

pub(crate) fn put_password(out: &mut BytesMut, password: &str) {
    put_message(out, b'p', |out| put_text(out, password));
}

pub(crate) fn put_sasl_initial(out: &mut BytesMut, mechanism: &str, message: &[u8]) {
    put_message(out, b'p', |out| {
        put_text(out, mechanism);
        out.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
        out.put_slice(message);
    });
}

pub(crate) fn put_sasl_response(out: &mut BytesMut, message: &[u8]) {
    put_message(out, b'p', |out| out.put_slice(message));
}

pub(crate) fn put_query(out: &mut BytesMut, text: &str) {
    put_message(out, b'Q', |out| put_text(out, text));
}

fn put_parse(out: &mut BytesMut, name: &str, text: &str) {
    put_message(out, b'P', |out| {
        put_text(out, name);
        put_text(out, text);
        out.put_u16(0);
    });
}

/// A Parse that cannot succeed.
pub(crate) fn put_refused_parse(out: &mut BytesMut, text: &str) {
    put_parse(out, REFUSED, text);
}

fn put_close_question(out: &mut BytesMut, kind: u8) {
    put_message(out, b'C', |out| {
        out.put_u8(kind);
        put_text(out, QUESTION);
    });
}

/// In which encoding a question's answer comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AnswerIn {
    /// The session's own, which is UTF-8.
    Session,
    /// UTF-8, whatever the session's is; letters that the session's encoding lacks are no error.
    Utf8,
}

/// One question of the gateway's own, which has eight columns of text. Six messages with one
/// answer each: Close, Parse, Bind, Execute, Close, Close. The first removes what an aborted one
/// left behind.
pub(crate) fn put_question(out: &mut BytesMut, text: &str, answer: AnswerIn) {
    put_close_question(out, b'S');
    match answer {
        AnswerIn::Session => put_parse(out, QUESTION, text),
        AnswerIn::Utf8 => {
            let columns: Vec<String> = ('a'..='h')
                .map(|column| format!("pg_catalog.convert_to({column}, 'UTF8')"))
                .collect();
            let columns = columns.join(", ");
            let text = format!("SELECT {columns} FROM ({text}) AS q(a, b, c, d, e, f, g, h)");
            put_parse(out, QUESTION, &text);
        }
    }
    put_message(out, b'B', |out| {
        put_text(out, QUESTION);
        put_text(out, QUESTION);
        out.put_u16(0);
        out.put_u16(0);
        match answer {
            AnswerIn::Session => out.put_u16(0),
            // Bytes as they are.
            AnswerIn::Utf8 => {
                out.put_u16(1);
                out.put_u16(1);
            }
        }
    });
    put_message(out, b'E', |out| {
        put_text(out, QUESTION);
        out.put_u32(0);
    });
    put_close_question(out, b'P');
    put_close_question(out, b'S');
}

pub(crate) fn put_describe_portal(out: &mut BytesMut, portal: &str) {
    put_message(out, b'D', |out| {
        out.put_u8(b'P');
        put_text(out, portal);
    });
}

pub(crate) fn put_sync(out: &mut BytesMut) {
    put_message(out, b'S', |_| {});
}

pub(crate) fn put_flush(out: &mut BytesMut) {
    put_message(out, b'H', |_| {});
}

pub(crate) fn put_terminate(out: &mut BytesMut) {
    put_message(out, b'X', |_| {});
}
