//! Payloads of the gateway's chain that are not events: links to sessions, and checkpoints.

use std::io;

use corral_model::event::CloseReason;
use corral_model::ids::SessionId;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::format::{Hash, Head, hash_from_hex, hex};
use crate::key::{PublicKey, SIGNATURE_BYTES, SigningKey};

/// Written before a session's file exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OpenedLink {
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) time: OffsetDateTime,
    pub(crate) session: SessionId,
    /// The folder that holds the file: `2026-11-23`.
    pub(crate) day: String,
    /// Hash of the session's first entry.
    #[serde(with = "hash_text")]
    pub(crate) hash: Hash,
}

/// Written after a session's last entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClosedLink {
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) time: OffsetDateTime,
    pub(crate) session: SessionId,
    pub(crate) reason: CloseReason,
    /// 0 when the file could not be written: nothing acted on the session then.
    pub(crate) entries: u64,
    /// Hash of the last entry.
    #[serde(with = "hash_text")]
    pub(crate) hash: Hash,
}

/// Where an open session stood at a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SessionHead {
    pub(crate) session: SessionId,
    pub(crate) day: String,
    pub(crate) entries: u64,
    #[serde(with = "hash_text")]
    pub(crate) hash: Hash,
}

/// What a checkpoint signs beside the chain in front of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Checkpoint {
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) time: OffsetDateTime,
    /// The gateway's name.
    pub(crate) gateway: String,
    /// The name of its chain.
    pub(crate) chain: String,
    /// Whether every open session stands here (the first entry of a segment), or those only that
    /// changed since the checkpoint before.
    pub(crate) full: bool,
    pub(crate) sessions: Vec<SessionHead>,
}

const SIGNED_PREFIX: &[u8] = b"corral record v1 checkpoint\0";

/// Appends signature and JSON; `follows` is the head that the checkpoint's entry follows, with the
/// entry's own number.
pub(crate) fn encode_checkpoint(
    buffer: &mut Vec<u8>,
    checkpoint: &Checkpoint,
    at: Head,
    key: &SigningKey,
) -> io::Result<()> {
    let json = serde_json::to_vec(checkpoint)?;
    buffer.extend_from_slice(&key.sign(&signed_message(at, &json)));
    buffer.extend_from_slice(&json);
    Ok(())
}

/// Reads a checkpoint and checks its signature.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn decode_checkpoint(
    payload: &[u8],
    at: Head,
    key: &PublicKey,
) -> Result<Checkpoint, String> {
    let (signature, json) = payload
        .split_at_checked(SIGNATURE_BYTES)
        .ok_or_else(|| "the checkpoint is too short for a signature".to_owned())?;
    if !key.has_signed(&signed_message(at, json), signature) {
        return Err("the checkpoint's signature does not belong to this key".to_owned());
    }
    serde_json::from_slice(json).map_err(|error| format!("the checkpoint cannot be read: {error}"))
}

/// Reads what a checkpoint says without judging its signature.
pub(crate) fn peek_checkpoint(payload: &[u8]) -> Option<Checkpoint> {
    serde_json::from_slice(payload.get(SIGNATURE_BYTES..)?).ok()
}

fn signed_message(at: Head, json: &[u8]) -> Vec<u8> {
    [SIGNED_PREFIX, &at.hash, &at.seq.to_be_bytes(), json].concat()
}

mod hash_text {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::{Hash, hash_from_hex, hex};

    pub(super) fn serialize<S: Serializer>(hash: &Hash, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex(hash))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Hash, D::Error> {
        let text = String::deserialize(from)?;
        hash_from_hex(&text).ok_or_else(|| D::Error::custom("a hash has 64 hexadecimal digits"))
    }
}
