//! Messages of the agent protocol. Pure: bytes in, bytes out.
//!
//! ```text
//! length u32 | type u8 | contents        string = length u32 | bytes
//! 11 REQUEST_IDENTITIES  -
//! 12 IDENTITIES_ANSWER   count u32, count × (string key, string comment)
//! 13 SIGN_REQUEST        string key, string data, u32 flags
//! 14 SIGN_RESPONSE       string signature
//!  5 FAILURE             -
//! ```

const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request<'a> {
    Identities,
    Sign {
        key: &'a [u8],
        data: &'a [u8],
    },
    /// Anything else, and what cannot be read.
    Other,
}

impl<'a> Request<'a> {
    /// Reads a message without its length.
    #[must_use]
    pub(crate) fn read(message: &'a [u8]) -> Self {
        match message.split_first() {
            Some((&REQUEST_IDENTITIES, [])) => Self::Identities,
            Some((&SIGN_REQUEST, contents)) => Self::read_sign(contents).unwrap_or(Self::Other),
            Some(_) | None => Self::Other,
        }
    }

    fn read_sign(contents: &'a [u8]) -> Option<Self> {
        let (key, contents) = string(contents)?;
        let (data, flags) = string(contents)?;
        // The flags choose among the hashes of RSA; an Ed25519 key has one.
        (flags.len() == 4).then_some(Self::Sign { key, data })
    }
}

fn string(contents: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = contents.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    rest.split_at_checked(length)
}

/// What a client is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer<'a> {
    /// The one identity; None when there is none at the moment.
    Identities(Option<&'a [u8]>),
    Signature(Vec<u8>),
    Failure,
}

impl Answer<'_> {
    /// The message with its length.
    #[must_use]
    pub(crate) fn write(&self) -> Vec<u8> {
        let mut contents: Vec<u8> = Vec::new();
        match self {
            Self::Identities(None) => {
                contents.push(IDENTITIES_ANSWER);
                contents.extend(0_u32.to_be_bytes());
            }
            Self::Identities(Some(key)) => {
                contents.push(IDENTITIES_ANSWER);
                contents.extend(1_u32.to_be_bytes());
                push_string(&mut contents, key);
                push_string(&mut contents, COMMENT);
            }
            Self::Signature(signature) => {
                contents.push(SIGN_RESPONSE);
                push_string(&mut contents, signature);
            }
            Self::Failure => contents.push(FAILURE),
        }
        let mut message: Vec<u8> = Vec::with_capacity(contents.len() + 4);
        push_string(&mut message, &contents);
        message
    }
}

/// What `ssh-add -l` shows beside the key.
const COMMENT: &[u8] = b"corral";

fn push_string(message: &mut Vec<u8>, bytes: &[u8]) {
    // Nothing that is written here comes near four gigabytes.
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    message.extend(length.to_be_bytes());
    message.extend(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sign_request(key: &[u8], data: &[u8], flags: &[u8]) -> Vec<u8> {
        let mut message = vec![SIGN_REQUEST];
        push_string(&mut message, key);
        push_string(&mut message, data);
        message.extend(flags);
        message
    }

    #[test]
    fn requests_are_read_and_everything_else_is_other() {
        let check = |message: &[u8], expect: Request<'_>| {
            assert_eq!(Request::read(message), expect, "{message:?}");
        };
        check(&[11], Request::Identities);
        check(&[11, 0], Request::Other);
        let fine = sign_request(b"key", b"data", &[0; 4]);
        check(&fine, Request::Sign { key: b"key", data: b"data" });
        check(&sign_request(b"key", b"data", &[0; 3]), Request::Other);
        check(&sign_request(b"key", b"data", &[0; 5]), Request::Other);
        for end in 0..fine.len() {
            check(&fine[..end], Request::Other);
        }
        check(&[13, 0xff, 0xff, 0xff, 0xff, 1], Request::Other);
        // Adding, removing, locking, extensions.
        for kind in [1, 9, 17, 18, 19, 20, 22, 25, 26, 27, 255] {
            check(&[kind], Request::Other);
        }
    }

    #[test]
    fn answers_have_their_length_in_front() {
        assert_eq!(Answer::Failure.write(), [0, 0, 0, 1, 5]);
        assert_eq!(Answer::Identities(None).write(), [0, 0, 0, 5, 12, 0, 0, 0, 0]);
        let one = Answer::Identities(Some(b"k")).write();
        let expect = b"\0\0\0\x14\x0c\0\0\0\x01\0\0\0\x01k\0\0\0\x06corral";
        assert_eq!(one, expect);
        let signature = Answer::Signature(b"s".to_vec()).write();
        assert_eq!(signature, b"\0\0\0\x06\x0e\0\0\0\x01s");
    }
}
