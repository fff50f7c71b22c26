//! Protobuf's wire format, as much of it as masking and names need. Reads borrow and allocate
//! nothing, so that a message costs what it weighs and no more.
//!
//! <https://protobuf.dev/programming-guides/encoding/>; groups (wire types 3 and 4), which
//! Kubernetes never writes, are refused.

/// Why bytes are no protobuf message. The sender is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    #[error("a protobuf field ends before its length")]
    Truncated,
    #[error("a protobuf number is longer than ten bytes or does not fit")]
    Varint,
    #[error("a protobuf field has number 0 or is too high")]
    FieldNumber,
    #[error("a protobuf field has a wire type that is not known")]
    WireType,
    #[error("a protobuf field that may stand once stands twice")]
    Repeated,
    #[error("a protobuf field is not of the type that its number says")]
    Kind,
    #[error("a protobuf text is not UTF-8")]
    Text,
}

/// A field's value by wire type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WireValue<'a> {
    Varint(u64),
    Fixed64(&'a [u8]),
    Bytes(&'a [u8]),
    Fixed32(&'a [u8]),
}

/// One field of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field<'a> {
    pub(crate) number: u32,
    pub(crate) value: WireValue<'a>,
}

impl<'a> Field<'a> {
    /// Its bytes.
    ///
    /// # Errors
    /// When it is a number.
    pub(crate) fn bytes(self) -> Result<&'a [u8], WireError> {
        match self.value {
            WireValue::Bytes(bytes) => Ok(bytes),
            WireValue::Varint(_) | WireValue::Fixed64(_) | WireValue::Fixed32(_) => {
                Err(WireError::Kind)
            }
        }
    }

    /// Its text.
    ///
    /// # Errors
    /// When it is no UTF-8 text.
    pub(crate) fn text(self) -> Result<&'a str, WireError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| WireError::Text)
    }
}

/// The fields of a message, in their order. Ends after the first error.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    #[must_use]
    pub(crate) fn of(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, WireError> {
        let mut value: u64 = 0;
        for shift in (0..70).step_by(7) {
            let byte = *self.take(1)?.first().ok_or(WireError::Truncated)?;
            let bits = u64::from(byte & 0x7F);
            // The tenth byte holds the last bit only.
            if shift == 63 && bits > 1 {
                return Err(WireError::Varint);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(WireError::Varint)
    }

    fn field(&mut self) -> Result<Field<'a>, WireError> {
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).map_err(|_| WireError::FieldNumber)?;
        // The highest number that the specification allows is 2^29 - 1.
        if number == 0 || number >= 1 << 29 {
            return Err(WireError::FieldNumber);
        }
        let value = match key & 0x7 {
            0 => WireValue::Varint(self.varint()?),
            1 => WireValue::Fixed64(self.take(8)?),
            2 => {
                let len = usize::try_from(self.varint()?).map_err(|_| WireError::Truncated)?;
                WireValue::Bytes(self.take(len)?)
            }
            5 => WireValue::Fixed32(self.take(4)?),
            _ => return Err(WireError::WireType),
        };
        Ok(Field { number, value })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// Keeps the value of a field that may stand once. Readers differ in what a second one means.
///
/// # Errors
/// When there is one already.
pub(crate) fn once<T>(place: &mut Option<T>, value: T) -> Result<(), WireError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(WireError::Repeated),
    }
}

fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let bits = (value & 0x7F).to_le_bytes()[0];
        value >>= 7;
        if value == 0 {
            out.push(bits);
            return;
        }
        out.push(bits | 0x80);
    }
}

/// Writes a field as it was read.
pub(crate) fn write_field(out: &mut Vec<u8>, field: Field<'_>) {
    let number = u64::from(field.number) << 3;
    match field.value {
        WireValue::Varint(value) => {
            write_varint(out, number);
            write_varint(out, value);
        }
        WireValue::Fixed64(bytes) => {
            write_varint(out, number | 1);
            out.extend_from_slice(bytes);
        }
        WireValue::Bytes(bytes) => write_bytes(out, field.number, bytes),
        WireValue::Fixed32(bytes) => {
            write_varint(out, number | 5);
            out.extend_from_slice(bytes);
        }
    }
}

/// Writes a text, byte string or message.
pub(crate) fn write_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    write_varint(out, u64::from(number) << 3 | 2);
    // A slice is never longer than a u64 counts.
    write_varint(out, u64::try_from(bytes.len()).unwrap_or(u64::MAX));
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    fn read(bytes: &[u8]) -> Result<Vec<Field<'_>>, WireError> {
        Fields::of(bytes).collect()
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let cases: [(&[u8], WireError); 9] = [
            (&[0x0A], WireError::Truncated),
            (&[0x0A, 5, 1], WireError::Truncated),
            (&[0x08, 0x80], WireError::Truncated),
            (&[0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2], WireError::Varint),
            (&[0x08, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 1], WireError::Varint),
            (&[0x02, 0], WireError::FieldNumber),
            (&[0x0B], WireError::WireType),
            (&[0x0C], WireError::WireType),
            // A length of 2^63.
            (&[0x0A, 128, 128, 128, 128, 128, 128, 128, 128, 128, 1], WireError::Truncated),
        ];
        for (bytes, expect) in cases {
            assert_eq!(read(bytes), Err(expect), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            number in 1_u32..(1 << 29), value in any::<u64>(), bytes in any::<Vec<u8>>(),
        ) {
            let fields = [
                Field { number, value: WireValue::Varint(value) },
                Field { number, value: WireValue::Bytes(&bytes) },
                Field { number, value: WireValue::Fixed32(&[1, 2, 3, 4]) },
                Field { number, value: WireValue::Fixed64(&[1, 2, 3, 4, 5, 6, 7, 8]) },
            ];
            let mut written: Vec<u8> = Vec::new();
            for field in fields {
                write_field(&mut written, field);
            }
            prop_assert_eq!(read(&written), Ok(fields.to_vec()));
        }

        #[test]
        fn no_bytes_make_it_read_beyond_them(bytes in any::<Vec<u8>>()) {
            let _ = read(&bytes);
        }
    }
}
