//! Kubernetes' protobuf envelope, and the names in the metadata of every object.
//!
//! ```text
//! 'k' '8' 's' 0x00  Unknown { 1 typeMeta { 1 apiVersion, 2 kind }, 2 raw, 3 contentEncoding, 4 contentType }
//! raw: the object; in all kinds field 1 is ObjectMeta { 1 name, 2 generateName, 3 namespace, … }
//! ```
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding>

use serde_json::Value;

use super::BodyError;
use crate::kubernetes::wire::{Fields, once, write_bytes};

/// In front of every object.
pub(crate) const MAGIC: [u8; 4] = [0x6B, 0x38, 0x73, 0x00];

/// What an object says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ObjectName {
    /// Empty where it says nothing.
    pub(crate) api_version: String,
    pub(crate) kind: String,
    pub(crate) name: Option<String>,
    pub(crate) generate_name: Option<String>,
    pub(crate) namespace: Option<String>,
}

impl ObjectName {
    pub(crate) fn of_value(value: &Value) -> Self {
        let text = |pointer: &str| {
            let text = value.pointer(pointer).and_then(Value::as_str);
            text.filter(|text| !text.is_empty()).map(str::to_owned)
        };
        Self {
            api_version: text("/apiVersion").unwrap_or_default(),
            kind: text("/kind").unwrap_or_default(),
            name: text("/metadata/name"),
            generate_name: text("/metadata/generateName"),
            namespace: text("/metadata/namespace"),
        }
    }
}

/// An object in its envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Envelope<'a> {
    pub(crate) api_version: &'a str,
    pub(crate) kind: &'a str,
    /// The object itself.
    pub(crate) raw: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// Reads what stands around an object.
    ///
    /// # Errors
    /// When it is no envelope, has a field twice, or says that its content is encoded again.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, BodyError> {
        let unknown = bytes.strip_prefix(&MAGIC).ok_or(BodyError::Envelope)?;
        let (mut type_meta, mut raw) = (None, None);
        for field in Fields::of(unknown) {
            let field = field?;
            match field.number {
                1 => once(&mut type_meta, field.bytes()?)?,
                2 => once(&mut raw, field.bytes()?)?,
                // contentEncoding and contentType: empty, or the content is something else.
                3 | 4 if field.bytes()?.is_empty() => {}
                _ => return Err(BodyError::Envelope),
            }
        }
        let (mut api_version, mut kind) = (None, None);
        for field in Fields::of(type_meta.unwrap_or_default()) {
            let field = field?;
            match field.number {
                1 => once(&mut api_version, field.text()?)?,
                2 => once(&mut kind, field.text()?)?,
                _ => return Err(BodyError::Envelope),
            }
        }
        Ok(Self {
            api_version: api_version.unwrap_or_default(),
            kind: kind.unwrap_or_default(),
            raw: raw.unwrap_or_default(),
        })
    }

    pub(super) fn object_name(&self) -> Result<ObjectName, BodyError> {
        let mut metadata = None;
        for field in Fields::of(self.raw) {
            let field = field?;
            if field.number == 1 {
                once(&mut metadata, field)?;
            }
        }
        let (mut name, mut generate_name, mut namespace) = (None, None, None);
        // DeleteOptions, the one body without metadata, has a number in its place.
        let metadata = metadata.and_then(|field| field.bytes().ok()).unwrap_or_default();
        for field in Fields::of(metadata) {
            let field = field?;
            match field.number {
                1 => once(&mut name, field.text()?)?,
                2 => once(&mut generate_name, field.text()?)?,
                3 => once(&mut namespace, field.text()?)?,
                _ => {}
            }
        }
        let kept = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
        Ok(ObjectName {
            api_version: self.api_version.to_owned(),
            kind: self.kind.to_owned(),
            name: kept(name),
            generate_name: kept(generate_name),
            namespace: kept(namespace),
        })
    }
}

/// Puts an object into an envelope.
#[must_use]
pub(crate) fn write_envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let mut type_meta: Vec<u8> = Vec::new();
    write_bytes(&mut type_meta, 1, api_version.as_bytes());
    write_bytes(&mut type_meta, 2, kind.as_bytes());
    let mut out = MAGIC.to_vec();
    write_bytes(&mut out, 1, &type_meta);
    write_bytes(&mut out, 2, raw);
    // The target's own writer adds these two, empty.
    write_bytes(&mut out, 3, b"");
    write_bytes(&mut out, 4, b"");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::wire::WireError;
    use proptest::prelude::{any, proptest};

    #[test]
    fn an_envelope_is_read_as_it_was_written() {
        let written = write_envelope("apps/v1", "Deployment", b"\x0A\x00");
        let read = Envelope::read(&written).expect("reads");
        assert_eq!(
            (read.api_version, read.kind, read.raw),
            ("apps/v1", "Deployment", &b"\x0A\x00"[..])
        );
    }

    #[test]
    fn an_envelope_that_two_readers_could_read_differently_is_refused() {
        let once_written = write_envelope("v1", "Pod", b"");
        let mut twice = once_written.clone();
        write_bytes(&mut twice, 2, b"\x0A\x00");
        assert_eq!(Envelope::read(&twice), Err(BodyError::Protobuf(WireError::Repeated)));
        let mut packed = MAGIC.to_vec();
        write_bytes(&mut packed, 3, b"gzip");
        assert_eq!(Envelope::read(&packed), Err(BodyError::Envelope));
        assert_eq!(Envelope::read(b"{}"), Err(BodyError::Envelope));
        let mut more = once_written;
        write_bytes(&mut more, 9, b"");
        assert_eq!(Envelope::read(&more), Err(BodyError::Envelope));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_envelope_or_refused(mut bytes in any::<Vec<u8>>(), with_magic in any::<bool>()) {
            if with_magic {
                bytes.splice(0..0, MAGIC);
            }
            if let Ok(envelope) = Envelope::read(&bytes) {
                let _ = envelope.object_name();
            }
        }
    }
}
