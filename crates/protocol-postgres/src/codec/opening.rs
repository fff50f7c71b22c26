//! What a client may send first: requests for encryption, a cancel request, or a startup packet.

use super::{CodecError, Reader};

/// The first message of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    SslRequest,
    GssEncRequest,
    /// Process id and key together, as [`super::server::put_key_data`] handed them out.
    CancelRequest(Vec<u8>),
    Startup(StartupPacket),
}

/// A startup packet of version 3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartupPacket {
    pub minor: u16,
    /// In the client's order.
    pub parameters: Vec<(String, String)>,
}

/// Why the first message is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpeningError {
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("the first message has {0} bytes, which is more than is allowed")]
    TooLarge(u32),
    #[error("protocol version {major}.{minor} is not supported; use 3.0 to 3.2")]
    Version { major: u16, minor: u16 },
}

const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;
/// A cancel key has at most this many bytes since version 3.2, process id not counted.
const CANCEL_KEY_BYTES_MAX: usize = 256;

/// The length of the first message, itself included; None when it has not arrived.
///
/// # Errors
/// [`OpeningError`] when it is not between 8 and `max`.
pub fn opening_len(bytes: &[u8], max: usize) -> Result<Option<usize>, OpeningError> {
    let Some((length, _)) = bytes.split_first_chunk() else { return Ok(None) };
    let length = u32::from_be_bytes(*length);
    match usize::try_from(length) {
        Ok(count) if (8..=max).contains(&count) => Ok(Some(count)),
        Ok(0..8) => Err(OpeningError::Codec(CodecError::Length)),
        _ => Err(OpeningError::TooLarge(length)),
    }
}

/// Decodes a whole first message, length field included.
///
/// # Errors
/// [`OpeningError`]: the client is to blame.
pub fn decode_opening(message: &[u8]) -> Result<Opening, OpeningError> {
    let mut reader = Reader::new(message);
    reader.u32()?;
    let code = reader.u32()?;
    match code {
        SSL_REQUEST => reader.finish().map(|()| Opening::SslRequest).map_err(Into::into),
        GSSENC_REQUEST => reader.finish().map(|()| Opening::GssEncRequest).map_err(Into::into),
        CANCEL_REQUEST => {
            let key = reader.rest();
            if !(8..=4 + CANCEL_KEY_BYTES_MAX).contains(&key.len()) {
                return Err(CodecError::Length.into());
            }
            Ok(Opening::CancelRequest(key.to_vec()))
        }
        version => startup(version, reader),
    }
}

fn startup(version: u32, mut reader: Reader<'_>) -> Result<Opening, OpeningError> {
    let [a, b, c, d] = version.to_be_bytes();
    let (major, minor) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    if major != 3 {
        return Err(OpeningError::Version { major, minor });
    }
    let mut parameters: Vec<(String, String)> = Vec::new();
    loop {
        let name = reader.text()?;
        if name.is_empty() {
            break;
        }
        let value = reader.text()?;
        parameters.push((name.to_owned(), value.to_owned()));
    }
    reader.finish()?;
    Ok(Opening::Startup(StartupPacket { minor, parameters }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(code: u32, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 8).expect("short");
        [&length.to_be_bytes(), &code.to_be_bytes(), body].concat()
    }

    #[test]
    fn first_messages_are_told_apart() {
        let key = [7_u8; 8];
        assert_eq!(decode_opening(&message(SSL_REQUEST, b"")), Ok(Opening::SslRequest));
        assert_eq!(decode_opening(&message(GSSENC_REQUEST, b"")), Ok(Opening::GssEncRequest));
        assert_eq!(
            decode_opening(&message(CANCEL_REQUEST, &key)),
            Ok(Opening::CancelRequest(key.to_vec()))
        );
        assert_eq!(
            decode_opening(&message(0x0003_0002, b"user\0ada\0database\0orders\0\0")),
            Ok(Opening::Startup(StartupPacket {
                minor: 2,
                parameters: vec![
                    ("user".into(), "ada".into()),
                    ("database".into(), "orders".into())
                ],
            }))
        );
    }

    #[test]
    fn first_messages_that_lie_are_refused() {
        let cases = [
            message(SSL_REQUEST, b"x"),
            message(CANCEL_REQUEST, b"1234567"),
            message(0x0003_0000, b"user\0ada\0"),
            message(0x0003_0000, b"user\0ada\0\0more"),
            message(0x0003_0000, b"user\0\xff\0\0"),
            message(0x0002_0000, b""),
        ];
        for case in cases {
            assert!(decode_opening(&case).is_err(), "{case:?}");
        }
        assert!(opening_len(&[0, 0, 0, 7], 10_000).is_err());
        assert!(opening_len(&[0x16, 3, 1, 2], 10_000).is_err());
        assert_eq!(opening_len(&[0, 0, 0], 10_000), Ok(None));
    }
}
