//! Masks Secrets in protobuf, by writing their messages again with the fields that are known.
//!
//! ```text
//! Secret                     { 1 metadata, 2 data map<string, bytes>, 3 type, 4 stringData map<string, string>, 5 immutable }
//! SecretList                 { 1 metadata, 2 items }
//! PartialObjectMetadata      { 1 metadata }
//! PartialObjectMetadataList  { 1 metadata, 2 items }
//! Status                     { 1 metadata, 2 status, 3 message, 4 reason, 5 details, 6 code }
//! WatchEvent                 { 1 type, 2 object { 1 raw: an object in its envelope } }
//! ObjectMeta                 { …, 12 annotations map<string, string>, … }
//! map entry                  { 1 key, 2 value }
//! stream of events           length, 4 bytes, big end first; WatchEvent; …
//! ```
//! Field numbers: generated.proto of k8s.io/api/core/v1 and k8s.io/apimachinery/pkg/apis/meta/v1.
//! A field that is not known here is left out: a later version may keep values in it.

use std::sync::Arc;

use corral_model::limits::{ANSWER_OBJECT_BYTES_MAX, TARGET_MESSAGE_BYTES_MAX};
use serde_json::{Value, json};

use super::object::ObjectMasker;
use super::{COPIES, MASK_TEXT, MaskError, MaskPlan, status};
use crate::kubernetes::body::{Envelope, MAGIC, write_envelope};
use crate::kubernetes::wire::{Field, Fields, WireValue, once, write_bytes, write_field};

const ANNOTATIONS: u32 = 12;

/// Masks an answer that is one protobuf object or list. Its length stands in front, so it is
/// held whole.
#[derive(Debug)]
pub(super) struct ProtobufMasker {
    plan: Arc<MaskPlan>,
    buffer: Vec<u8>,
    masked: u64,
}

impl ProtobufMasker {
    pub(super) fn new(plan: Arc<MaskPlan>) -> Self {
        Self { plan, buffer: Vec::new(), masked: 0 }
    }

    pub(super) fn masked(&self) -> u64 {
        self.masked
    }

    pub(super) fn push(&mut self, piece: &[u8]) -> Result<(), MaskError> {
        if self.buffer.len() + piece.len() > TARGET_MESSAGE_BYTES_MAX {
            return Err(MaskError::TooLarge { limit: TARGET_MESSAGE_BYTES_MAX });
        }
        self.buffer.extend_from_slice(piece);
        Ok(())
    }

    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), MaskError> {
        let held = std::mem::take(&mut self.buffer);
        if held.is_empty() {
            return Ok(());
        }
        let mut messages = Messages { plan: &self.plan, masked: 0 };
        out.extend_from_slice(&messages.enveloped(&held)?);
        self.masked += messages.masked;
        Ok(())
    }
}

/// Masks a stream of events, each behind its length.
#[derive(Debug)]
pub(super) struct ProtobufWatchMasker {
    plan: Arc<MaskPlan>,
    buffer: Vec<u8>,
    masked: u64,
}

impl ProtobufWatchMasker {
    pub(super) fn new(plan: Arc<MaskPlan>) -> Self {
        Self { plan, buffer: Vec::new(), masked: 0 }
    }

    pub(super) fn masked(&self) -> u64 {
        self.masked
    }

    pub(super) fn push(&mut self, mut piece: &[u8], out: &mut Vec<u8>) -> Result<(), MaskError> {
        loop {
            let wanted = match self.buffer.first_chunk::<4>() {
                None => 4,
                Some(len) => {
                    let len = usize::try_from(u32::from_be_bytes(*len)).unwrap_or(usize::MAX);
                    if len > ANSWER_OBJECT_BYTES_MAX {
                        return Err(MaskError::TooLarge { limit: ANSWER_OBJECT_BYTES_MAX });
                    }
                    4 + len
                }
            };
            if self.buffer.len() >= 4 && self.buffer.len() >= wanted {
                self.event(out)?;
                continue;
            }
            if piece.is_empty() {
                return Ok(());
            }
            let missing = wanted.saturating_sub(self.buffer.len());
            let (taken, rest) = piece.split_at(missing.min(piece.len()));
            self.buffer.extend_from_slice(taken);
            piece = rest;
        }
    }

    pub(super) fn finish(&self) -> Result<(), MaskError> {
        match self.buffer.is_empty() {
            true => Ok(()),
            false => Err(MaskError::Truncated),
        }
    }

    fn event(&mut self, out: &mut Vec<u8>) -> Result<(), MaskError> {
        let held = std::mem::take(&mut self.buffer);
        let mut messages = Messages { plan: &self.plan, masked: 0 };
        let event = messages.event(held.get(4..).unwrap_or_default())?;
        self.masked += messages.masked;
        // Masked, an event is hardly longer than it was; four bytes count to 4 GiB.
        let len = u32::try_from(event.len())
            .map_err(|_| MaskError::TooLarge { limit: ANSWER_OBJECT_BYTES_MAX })?;
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(&event);
        Ok(())
    }
}

/// Writes messages again.
struct Messages<'a> {
    plan: &'a MaskPlan,
    masked: u64,
}

impl Messages<'_> {
    fn event(&mut self, event: &[u8]) -> Result<Vec<u8>, MaskError> {
        let (mut kind, mut object) = (None, None);
        for field in Fields::of(event) {
            let field = field?;
            match field.number {
                1 => once(&mut kind, field.text()?)?,
                2 => once(&mut object, field.bytes()?)?,
                _ => {}
            }
        }
        let mut raw = None;
        for field in Fields::of(object.unwrap_or_default()) {
            let field = field?;
            if field.number == 1 {
                once(&mut raw, field.bytes()?)?;
            }
        }
        let mut out: Vec<u8> = Vec::new();
        write_bytes(&mut out, 1, kind.unwrap_or_default().as_bytes());
        let mut extension: Vec<u8> = Vec::new();
        write_bytes(&mut extension, 1, &self.enveloped(raw.unwrap_or_default())?);
        write_bytes(&mut out, 2, &extension);
        Ok(out)
    }

    /// An object in its envelope; of another kind than expected, it is refused.
    fn enveloped(&mut self, bytes: &[u8]) -> Result<Vec<u8>, MaskError> {
        if !bytes.starts_with(&MAGIC) {
            return Err(MaskError::Shape);
        }
        let envelope = Envelope::read(bytes)?;
        let is_meta = envelope.api_version.starts_with("meta.k8s.io/");
        let raw = match (envelope.api_version, envelope.kind) {
            ("v1", "Secret") => self.secret(envelope.raw)?,
            ("v1", "SecretList") => self.list(envelope.raw, Self::secret)?,
            ("v1", "Status") => self.status(envelope.raw)?,
            (_, "PartialObjectMetadata") if is_meta => self.partial(envelope.raw)?,
            (_, "PartialObjectMetadataList") if is_meta => {
                self.list(envelope.raw, Self::partial)?
            }
            _ => return Err(MaskError::Shape),
        };
        Ok(write_envelope(envelope.api_version, envelope.kind, &raw))
    }

    fn list(
        &mut self,
        list: &[u8],
        item: fn(&mut Self, &[u8]) -> Result<Vec<u8>, MaskError>,
    ) -> Result<Vec<u8>, MaskError> {
        let mut out: Vec<u8> = Vec::with_capacity(list.len());
        for field in Fields::of(list) {
            let field = field?;
            match field.number {
                1 => write_bytes(&mut out, 1, field.bytes()?),
                2 => write_bytes(&mut out, 2, &item(self, field.bytes()?)?),
                _ => {}
            }
        }
        Ok(out)
    }

    fn partial(&mut self, partial: &[u8]) -> Result<Vec<u8>, MaskError> {
        let mut out: Vec<u8> = Vec::new();
        for field in Fields::of(partial) {
            let field = field?;
            if field.number == 1 {
                write_bytes(&mut out, 1, &self.metadata(field.bytes()?)?);
            }
        }
        Ok(out)
    }

    fn secret(&mut self, secret: &[u8]) -> Result<Vec<u8>, MaskError> {
        let mut out: Vec<u8> = Vec::with_capacity(secret.len());
        for field in Fields::of(secret) {
            let field = field?;
            match field.number {
                1 => write_bytes(&mut out, 1, &self.metadata(field.bytes()?)?),
                2 | 4 => {
                    let (key, _) = map_entry(field.bytes()?)?;
                    self.masked += 1;
                    write_bytes(&mut out, field.number, &written_entry(key, MASK_TEXT.as_bytes()));
                }
                3 => write_bytes(&mut out, 3, field.bytes()?),
                5 => match field.value {
                    WireValue::Varint(value) => {
                        let value = WireValue::Varint(value.min(1));
                        write_field(&mut out, Field { number: 5, value });
                    }
                    WireValue::Fixed64(_) | WireValue::Bytes(_) | WireValue::Fixed32(_) => {
                        return Err(MaskError::Shape);
                    }
                },
                _ => {}
            }
        }
        Ok(out)
    }

    fn metadata(&mut self, metadata: &[u8]) -> Result<Vec<u8>, MaskError> {
        let mut out: Vec<u8> = Vec::with_capacity(metadata.len());
        for field in Fields::of(metadata) {
            let field = field?;
            if field.number != ANNOTATIONS {
                write_field(&mut out, field);
                continue;
            }
            let (key, value) = map_entry(field.bytes()?)?;
            let is_copy = COPIES.iter().any(|copy| key.eq_ignore_ascii_case(copy.as_bytes()));
            let value = if is_copy { self.copied(key, value) } else { value.to_vec() };
            write_bytes(&mut out, ANNOTATIONS, &written_entry(key, &value));
        }
        Ok(out)
    }

    /// A copy is JSON in protobuf, too.
    fn copied(&mut self, key: &[u8], value: &[u8]) -> Vec<u8> {
        let key = String::from_utf8_lossy(key).into_owned();
        let text = String::from_utf8_lossy(value).into_owned();
        let mut object = json!({"metadata": {"annotations": { key.as_str(): text }}});
        let mut masker = ObjectMasker::new(self.plan);
        masker.object(&mut object);
        self.masked += masker.masked;
        let annotations = object.pointer("/metadata/annotations");
        let masked = annotations.and_then(|annotations| annotations.get(&key));
        masked.and_then(Value::as_str).unwrap_or(MASK_TEXT).as_bytes().to_vec()
    }

    fn status(&mut self, bytes: &[u8]) -> Result<Vec<u8>, MaskError> {
        let mut status = json!({"kind": "Status", "apiVersion": "v1"});
        for field in Fields::of(bytes) {
            let field = field?;
            match (field.number, field.value) {
                (2, _) => status["status"] = field.text()?.into(),
                (4, _) => status["reason"] = field.text()?.into(),
                (6, WireValue::Varint(code)) => status["code"] = code.into(),
                _ => {}
            }
        }
        status::mask(self.plan, &mut status);
        let text =
            |pointer: &str| status.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let mut details: Vec<u8> = Vec::new();
        write_bytes(&mut details, 1, text("/details/name").as_bytes());
        write_bytes(&mut details, 3, text("/details/kind").as_bytes());
        let mut out: Vec<u8> = Vec::new();
        write_bytes(&mut out, 1, b"");
        write_bytes(&mut out, 2, text("/status").as_bytes());
        write_bytes(&mut out, 3, text("/message").as_bytes());
        write_bytes(&mut out, 4, text("/reason").as_bytes());
        write_bytes(&mut out, 5, &details);
        let code = status.get("code").and_then(Value::as_u64).unwrap_or_default();
        write_field(&mut out, Field { number: 6, value: WireValue::Varint(code) });
        Ok(out)
    }
}

/// Key and value; of a key that stands twice, nobody can say which one counts.
fn map_entry(entry: &[u8]) -> Result<(&[u8], &[u8]), MaskError> {
    let (mut key, mut value) = (None, None);
    for field in Fields::of(entry) {
        let field = field?;
        match field.number {
            1 => once(&mut key, field.bytes()?)?,
            2 => once(&mut value, field.bytes()?)?,
            _ => return Err(MaskError::Shape),
        }
    }
    Ok((key.unwrap_or_default(), value.unwrap_or_default()))
}

fn written_entry(key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut entry: Vec<u8> = Vec::new();
    write_bytes(&mut entry, 1, key);
    write_bytes(&mut entry, 2, value);
    entry
}
