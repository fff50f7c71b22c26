//! Messages that a client sends after the startup packet. Each decoder takes a whole frame.

use super::{CodecError, Reader};

/// What a name in Describe or Close names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    Statement,
    Portal,
}

/// A value, with whether it is in binary format; None is NULL.
pub type Value<'a> = (Option<&'a [u8]>, bool);

/// Parse: a text to prepare.
#[derive(Debug, PartialEq, Eq)]
pub struct Parse<'a> {
    pub name: &'a str,
    /// Not known to be UTF-8.
    pub text: &'a [u8],
    /// The types that the client gave; 0 leaves one to the target.
    pub types: Vec<u32>,
}

/// Bind: a statement with its values.
#[derive(Debug, PartialEq, Eq)]
pub struct Bind<'a> {
    pub portal: &'a str,
    pub statement: &'a str,
    pub values: Vec<Value<'a>>,
}

/// Execute: run a portal.
#[derive(Debug, PartialEq, Eq)]
pub struct Execute<'a> {
    pub portal: &'a str,
    /// 0: all.
    pub rows_max: i32,
}

/// The password of a PasswordMessage.
///
/// # Errors
/// [`CodecError`]: the client is to blame.
pub fn decode_password(frame: &[u8]) -> Result<&str, CodecError> {
    let mut reader = Reader::of_frame(frame);
    let password = reader.text()?;
    reader.finish()?;
    Ok(password)
}

/// The text of a Query. Not known to be UTF-8.
///
/// # Errors
/// [`CodecError`]: the client is to blame.
pub fn decode_query(frame: &[u8]) -> Result<&[u8], CodecError> {
    let mut reader = Reader::of_frame(frame);
    let text = reader.until_nul()?;
    reader.finish()?;
    Ok(text)
}

/// # Errors
/// [`CodecError`]: the client is to blame.
pub fn decode_parse(frame: &[u8]) -> Result<Parse<'_>, CodecError> {
    let mut reader = Reader::of_frame(frame);
    let name = reader.text()?;
    let text = reader.until_nul()?;
    let count = reader.u16()?;
    let mut types: Vec<u32> = Vec::new();
    for _ in 0..count {
        types.push(reader.u32()?);
    }
    reader.finish()?;
    Ok(Parse { name, text, types })
}

/// # Errors
/// [`CodecError`]: the client is to blame.
pub fn decode_bind(frame: &[u8]) -> Result<Bind<'_>, CodecError> {
    let mut reader = Reader::of_frame(frame);
    let portal = reader.text()?;
    let statement = reader.text()?;
    let values = values(&mut reader)?;
    formats(&mut reader)?;
    reader.finish()?;
    Ok(Bind { portal, statement, values })
}

/// Formats and values, each with whether it is in binary format.
fn values<'a>(reader: &mut Reader<'a>) -> Result<Vec<Value<'a>>, CodecError> {
    let mut formats = formats(reader)?;
    let count = reader.u16()?;
    let mut values: Vec<Value<'_>> = Vec::new();
    let shared_format = match formats.as_slice() {
        [] => Some(false),
        [one] => Some(*one),
        _ if formats.len() == usize::from(count) => None,
        _ => return Err(CodecError::Value),
    };
    let mut own_formats = formats.drain(..);
    for _ in 0..count {
        let is_binary = match shared_format {
            Some(format) => format,
            None => own_formats.next().unwrap_or(false),
        };
        values.push((reader.cell()?, is_binary));
    }
    Ok(values)
}

fn formats(reader: &mut Reader<'_>) -> Result<Vec<bool>, CodecError> {
    let count = reader.u16()?;
    let mut formats: Vec<bool> = Vec::new();
    for _ in 0..count {
        match reader.i16()? {
            0 => formats.push(false),
            1 => formats.push(true),
            _ => return Err(CodecError::Value),
        }
    }
    Ok(formats)
}

/// Describe or Close.
///
/// # Errors
/// [`CodecError`]: the client is to blame.
pub fn decode_named(frame: &[u8]) -> Result<(Named, &str), CodecError> {
    let mut reader = Reader::of_frame(frame);
    let named = match reader.u8()? {
        b'S' => Named::Statement,
        b'P' => Named::Portal,
        _ => return Err(CodecError::Value),
    };
    let name = reader.text()?;
    reader.finish()?;
    Ok((named, name))
}

/// # Errors
/// [`CodecError`]: the client is to blame.
pub fn decode_execute(frame: &[u8]) -> Result<Execute<'_>, CodecError> {
    let mut reader = Reader::of_frame(frame);
    let portal = reader.text()?;
    let rows_max = reader.i32()?;
    reader.finish()?;
    Ok(Execute { portal, rows_max })
}

/// FunctionCall: a function by its OID.
#[derive(Debug, PartialEq, Eq)]
pub struct FunctionCall<'a> {
    pub function: u32,
    pub values: Vec<Value<'a>>,
}

/// # Errors
/// [`CodecError`]: the client is to blame.
pub fn decode_function_call(frame: &[u8]) -> Result<FunctionCall<'_>, CodecError> {
    let mut reader = Reader::of_frame(frame);
    let function = reader.u32()?;
    let values = values(&mut reader)?;
    if !matches!(reader.i16()?, 0 | 1) {
        return Err(CodecError::Value);
    }
    reader.finish()?;
    Ok(FunctionCall { function, values })
}

/// Sync, Flush, Terminate, CopyDone: nothing inside.
///
/// # Errors
/// [`CodecError::Trailing`] when there is something.
pub fn decode_empty(frame: &[u8]) -> Result<(), CodecError> {
    Reader::of_frame(frame).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(body: &[u8]) -> Vec<u8> {
        [b"?\0\0\0\0".as_slice(), body].concat()
    }

    #[test]
    fn bind_gives_each_value_its_format() {
        let body = b"p\0s\0\0\x02\0\x01\0\0\0\x02\0\0\0\x01a\xff\xff\xff\xff\0\0";
        let decoded = frame(body);
        let bind = decode_bind(&decoded).expect("a Bind");
        assert_eq!(bind.values, [(Some(b"a".as_slice()), true), (None, false)]);
        assert_eq!((bind.portal, bind.statement), ("p", "s"));
    }

    #[test]
    fn a_function_call_names_its_function_and_values() {
        let body = b"\0\0\x03\xb8\0\x01\0\x01\0\x02\0\0\0\x01a\xff\xff\xff\xff\0\x01";
        let decoded = frame(body);
        let call = decode_function_call(&decoded).expect("a FunctionCall");
        assert_eq!(call.function, 952);
        assert_eq!(call.values, [(Some(b"a".as_slice()), true), (None, true)]);
        for wrong in [b"\0\0\x03\xb8\0\0\0\0\0\x02".as_slice(), b"\0\0\x03\xb8\0\0\0\x01\0\x01"] {
            assert!(decode_function_call(&frame(wrong)).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn messages_with_wrong_counts_are_refused() {
        let binds: [&[u8]; 5] = [
            b"p\0s\0\0\x02\0\0\0\0\0\x01\0\0\0\0\0\0",
            b"p\0s\0\0\0\0\x01\0\0\0\x05ab\0\0",
            b"p\0s\0\0\0\0\x01\xff\xff\xff\xfe\0\0",
            b"p\0s\0\0\x01\0\x07\0\0\0\0",
            b"p\0s\0\0\0\0\0\0\0rest",
        ];
        for body in binds {
            assert!(decode_bind(&frame(body)).is_err(), "{body:?}");
        }
        assert!(decode_query(&frame(b"select 1\0x\0")).is_err());
        assert!(decode_query(&frame(b"select 1")).is_err());
        assert!(decode_parse(&frame(b"\0select 1\0\xff\xff\0\0\0\x01")).is_err());
        assert!(decode_named(&frame(b"Xname\0")).is_err());
        assert!(decode_execute(&frame(b"p\0\0\0")).is_err());
    }
}
