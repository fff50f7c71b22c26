//! Decodes a message by its tag and forgets it: one entry for fuzzers and for their corpus.

use super::answers::{
    decode_authentication, decode_command_complete, decode_error_fields, decode_key_data,
    decode_notification, decode_parameter_status, decode_ready, decode_row_description,
    decode_text_row,
};
use super::client::{
    decode_bind, decode_empty, decode_execute, decode_named, decode_parse, decode_password,
    decode_query,
};
use super::opening::{OpeningError, decode_opening};
use super::{CodecError, HEAD_BYTES, head};

/// A whole frame at the front, if its head says that it is whole.
fn whole(bytes: &[u8]) -> Result<Option<(u8, &[u8])>, CodecError> {
    let Some(found) = head(bytes)? else { return Ok(None) };
    debug_assert!(found.frame_len >= HEAD_BYTES, "a head counts itself");
    Ok(bytes.get(..found.frame_len).map(|frame| (found.tag, frame)))
}

/// A client's first message.
///
/// # Errors
/// [`OpeningError`]: whoever wrote the bytes is to blame.
pub fn opening(bytes: &[u8]) -> Result<(), OpeningError> {
    decode_opening(bytes).map(drop)
}

/// A client's message.
///
/// # Errors
/// [`CodecError`]: whoever wrote the bytes is to blame.
pub fn client(bytes: &[u8]) -> Result<(), CodecError> {
    let Some((tag, frame)) = whole(bytes)? else { return Ok(()) };
    match tag {
        b'p' => decode_password(frame).map(drop),
        b'Q' => decode_query(frame).map(drop),
        b'P' => decode_parse(frame).map(drop),
        b'B' => decode_bind(frame).map(drop),
        b'D' | b'C' => decode_named(frame).map(drop),
        b'E' => decode_execute(frame).map(drop),
        _ => decode_empty(frame),
    }
}

/// A target's message.
///
/// # Errors
/// [`CodecError`]: whoever wrote the bytes is to blame.
pub fn answer(bytes: &[u8]) -> Result<(), CodecError> {
    let Some((tag, frame)) = whole(bytes)? else { return Ok(()) };
    match tag {
        b'T' => decode_row_description(frame).map(drop),
        b'E' | b'N' => decode_error_fields(frame).map(drop),
        b'S' => decode_parameter_status(frame).map(drop),
        b'C' => decode_command_complete(frame).map(drop),
        b'Z' => decode_ready(frame).map(drop),
        b'K' => decode_key_data(frame).map(drop),
        b'A' => decode_notification(frame).map(drop),
        b'R' => decode_authentication(frame).map(drop),
        b'D' => decode_text_row(frame).map(drop),
        _ => Ok(()),
    }
}
