//! Messages that a target sends, as far as their inside matters. Each decoder takes a whole frame.

use std::borrow::Cow;

use super::{CodecError, Reader};

/// One column of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    pub name: String,
    /// 0 when it is no plain column of a table.
    pub table_oid: u32,
    pub attribute: i16,
    pub type_oid: u32,
    pub is_binary: bool,
}

/// Fields of an ErrorResponse or NoticeResponse.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ErrorFields<'a> {
    /// Not localised (V); S where the target is older.
    pub severity: &'a str,
    pub code: &'a str,
    pub message: &'a str,
    /// In characters, from 1.
    pub position: Option<&'a str>,
}

/// How a target wants the gateway to log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authentication<'a> {
    Ok,
    CleartextPassword,
    Md5Password {
        salt: [u8; 4],
    },
    /// Names of mechanisms.
    Sasl(Vec<&'a str>),
    SaslContinue(&'a [u8]),
    SaslFinal(&'a [u8]),
    /// Kerberos, GSSAPI, SSPI and what else there may be.
    Other(u32),
}

/// # Errors
/// [`CodecError`]: the target is to blame.
pub fn decode_row_description(frame: &[u8]) -> Result<Vec<Field>, CodecError> {
    let mut reader = Reader::of_frame(frame);
    let count = reader.u16()?;
    let mut fields: Vec<Field> = Vec::new();
    for _ in 0..count {
        // A column's name is data to the gateway: an odd byte in it must not end a session.
        let name = String::from_utf8_lossy(reader.until_nul()?).into_owned();
        let table_oid = reader.u32()?;
        let attribute = reader.i16()?;
        let type_oid = reader.u32()?;
        reader.bytes(6)?;
        let is_binary = match reader.i16()? {
            0 => false,
            1 => true,
            _ => return Err(CodecError::Value),
        };
        fields.push(Field { name, table_oid, attribute, type_oid, is_binary });
    }
    reader.finish()?;
    Ok(fields)
}

/// # Errors
/// [`CodecError`]: the target is to blame.
pub fn decode_error_fields(frame: &[u8]) -> Result<ErrorFields<'_>, CodecError> {
    let mut reader = Reader::of_frame(frame);
    let mut fields = ErrorFields::default();
    let mut localised = "";
    loop {
        let kind = reader.u8()?;
        if kind == 0 {
            break;
        }
        let value = std::str::from_utf8(reader.until_nul()?).unwrap_or_default();
        match kind {
            b'S' => localised = value,
            b'V' => fields.severity = value,
            b'C' => fields.code = value,
            b'M' => fields.message = value,
            b'P' => fields.position = Some(value),
            _ => {}
        }
    }
    reader.finish()?;
    if fields.severity.is_empty() {
        fields.severity = localised;
    }
    Ok(fields)
}

/// Name and value of a ParameterStatus.
///
/// # Errors
/// [`CodecError`]: the target is to blame.
pub fn decode_parameter_status(frame: &[u8]) -> Result<(&str, Cow<'_, str>), CodecError> {
    let mut reader = Reader::of_frame(frame);
    let name = reader.text()?;
    // Text of the client's own may be in its encoding.
    let value = String::from_utf8_lossy(reader.until_nul()?);
    reader.finish()?;
    Ok((name, value))
}

/// The tag of a CommandComplete.
///
/// # Errors
/// [`CodecError`]: the target is to blame.
pub fn decode_command_complete(frame: &[u8]) -> Result<&str, CodecError> {
    let mut reader = Reader::of_frame(frame);
    let tag = reader.text()?;
    reader.finish()?;
    Ok(tag)
}

/// The transaction state of a ReadyForQuery: `I`, `T` or `E`.
///
/// # Errors
/// [`CodecError`]: the target is to blame.
pub fn decode_ready(frame: &[u8]) -> Result<u8, CodecError> {
    let mut reader = Reader::of_frame(frame);
    let status = reader.u8()?;
    reader.finish()?;
    if matches!(status, b'I' | b'T' | b'E') { Ok(status) } else { Err(CodecError::Value) }
}

/// Process id and key of a BackendKeyData.
///
/// # Errors
/// [`CodecError`]: the target is to blame.
pub fn decode_key_data(frame: &[u8]) -> Result<(u32, &[u8]), CodecError> {
    let mut reader = Reader::of_frame(frame);
    let process = reader.u32()?;
    let key = reader.rest();
    if (4..=256).contains(&key.len()) { Ok((process, key)) } else { Err(CodecError::Length) }
}

/// Process id, channel and payload of a NotificationResponse.
///
/// # Errors
/// [`CodecError`]: the target is to blame.
pub fn decode_notification(frame: &[u8]) -> Result<(u32, &[u8], &[u8]), CodecError> {
    let mut reader = Reader::of_frame(frame);
    let process = reader.u32()?;
    let channel = reader.until_nul()?;
    let payload = reader.until_nul()?;
    reader.finish()?;
    Ok((process, channel, payload))
}

/// # Errors
/// [`CodecError`]: the target is to blame.
pub fn decode_authentication(frame: &[u8]) -> Result<Authentication<'_>, CodecError> {
    let mut reader = Reader::of_frame(frame);
    let authentication = match reader.u32()? {
        0 => Authentication::Ok,
        3 => Authentication::CleartextPassword,
        5 => {
            let salt = reader.bytes(4)?.try_into().map_err(|_| CodecError::Short)?;
            Authentication::Md5Password { salt }
        }
        10 => {
            let mut mechanisms: Vec<&str> = Vec::new();
            loop {
                let name = reader.text()?;
                if name.is_empty() {
                    break;
                }
                mechanisms.push(name);
            }
            Authentication::Sasl(mechanisms)
        }
        11 => Authentication::SaslContinue(reader.rest()),
        12 => Authentication::SaslFinal(reader.rest()),
        other => {
            reader.rest();
            Authentication::Other(other)
        }
    };
    reader.finish()?;
    Ok(authentication)
}

/// The cells of a DataRow, one after the other.
///
/// # Errors
/// [`CodecError`]: the target is to blame.
pub(crate) fn row_cells(frame: &[u8]) -> Result<(usize, Reader<'_>), CodecError> {
    let mut reader = Reader::of_frame(frame);
    let count = reader.u16()?;
    Ok((usize::from(count), reader))
}

/// The cells of a DataRow as text, for the gateway's own questions. What is not UTF-8 is an
/// error: names that cannot be read must not be guessed.
///
/// # Errors
/// [`CodecError`]: the target is to blame.
pub fn decode_text_row(frame: &[u8]) -> Result<Vec<Option<String>>, CodecError> {
    let (count, mut reader) = row_cells(frame)?;
    let mut cells: Vec<Option<String>> = Vec::with_capacity(count);
    for _ in 0..count {
        let text = match reader.cell()? {
            Some(bytes) => {
                Some(std::str::from_utf8(bytes).map_err(|_| CodecError::Utf8)?.to_owned())
            }
            None => None,
        };
        cells.push(text);
    }
    reader.finish()?;
    Ok(cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_fields_prefer_the_severity_that_is_not_localised() {
        let frame = b"E\0\0\0\0SFEHLER\0VERROR\0C22012\0Mdivision by zero\0P8\0\0";
        let fields = decode_error_fields(frame).expect("an error");
        assert_eq!((fields.severity, fields.code), ("ERROR", "22012"));
        assert_eq!(fields.position, Some("8"));
    }

    #[test]
    fn answers_with_lying_counts_are_refused() {
        assert!(decode_row_description(b"T\0\0\0\0\0\x02id\0").is_err());
        assert!(decode_text_row(b"D\0\0\0\0\0\x01\0\0\0\x09ab").is_err());
        assert!(decode_text_row(b"D\0\0\0\0\0\x01\0\0\0\x01\xff").is_err());
        assert!(decode_error_fields(b"E\0\0\0\0SERROR\0").is_err());
        assert!(decode_ready(b"Z\0\0\0\0X").is_err());
        assert!(decode_key_data(b"K\0\0\0\0\0\0\0\x01").is_err());
    }
}
