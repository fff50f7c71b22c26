//! Messages of a client, and what it reads, as text.

use bytes::BytesMut;

pub(crate) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("short");
    [&[tag], length.to_be_bytes().as_slice(), body].concat()
}

pub(crate) fn first(code: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 8).expect("short");
    [&length.to_be_bytes(), code.to_be_bytes().as_slice(), body].concat()
}

pub(crate) fn startup(minor: u16, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in parameters {
        body.extend_from_slice(name.as_bytes());
        body.push(0);
        body.extend_from_slice(value.as_bytes());
        body.push(0);
    }
    body.push(0);
    first(0x0003_0000 | u32::from(minor), &body)
}

pub(crate) fn ssl_request() -> Vec<u8> {
    first(80_877_103, b"")
}

fn text(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}

pub(crate) fn password(token: &str) -> Vec<u8> {
    message(b'p', &text(token))
}

pub(crate) fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &text(sql))
}

pub(crate) fn parse(name: &str, sql: &str) -> Vec<u8> {
    message(b'P', &[text(name), text(sql), vec![0, 0]].concat())
}

/// Parse with types for its parameters.
pub(crate) fn parse_typed(name: &str, sql: &str, types: &[u32]) -> Vec<u8> {
    let count = u16::try_from(types.len()).expect("few");
    let types: Vec<u8> = types.iter().flat_map(|oid| oid.to_be_bytes()).collect();
    message(b'P', &[text(name), text(sql), count.to_be_bytes().to_vec(), types].concat())
}

pub(crate) fn bind(portal: &str, statement: &str, values: &[Option<&str>]) -> Vec<u8> {
    bind_formats(portal, statement, values, &[])
}

pub(crate) fn bind_formats(
    portal: &str,
    statement: &str,
    values: &[Option<&str>],
    formats: &[u16],
) -> Vec<u8> {
    let count = u16::try_from(values.len()).expect("few");
    let mut body = [text(portal), text(statement), vec![0, 0]].concat();
    body.extend_from_slice(&count.to_be_bytes());
    for value in values {
        match value {
            Some(value) => {
                let length = u32::try_from(value.len()).expect("short");
                body.extend_from_slice(&length.to_be_bytes());
                body.extend_from_slice(value.as_bytes());
            }
            None => body.extend_from_slice(&[0xff; 4]),
        }
    }
    body.extend_from_slice(&u16::try_from(formats.len()).expect("few").to_be_bytes());
    for format in formats {
        body.extend_from_slice(&format.to_be_bytes());
    }
    message(b'B', &body)
}

pub(crate) fn describe(kind: u8, name: &str) -> Vec<u8> {
    message(b'D', &[vec![kind], text(name)].concat())
}

pub(crate) fn close(kind: u8, name: &str) -> Vec<u8> {
    message(b'C', &[vec![kind], text(name)].concat())
}

pub(crate) fn execute(portal: &str, rows_max: i32) -> Vec<u8> {
    message(b'E', &[text(portal), rows_max.to_be_bytes().to_vec()].concat())
}

pub(crate) fn sync() -> Vec<u8> {
    message(b'S', b"")
}

pub(crate) fn flush() -> Vec<u8> {
    message(b'H', b"")
}

pub(crate) fn terminate() -> Vec<u8> {
    message(b'X', b"")
}

/// Parse, Bind, Describe, Execute of the unnamed statement, as libpq's PQexecParams does.
pub(crate) fn extended(sql: &str) -> Vec<u8> {
    [parse("", sql), bind("", "", &[]), describe(b'P', ""), execute("", 0)].concat()
}

/// Splits off one message and says what it is.
pub(crate) fn next_line(got: &mut BytesMut) -> Option<String> {
    let first = *got.first()?;
    if matches!(first, b'S' | b'N') && got.len() == 1 {
        got.clear();
        return Some(format!("{}", first as char));
    }
    let length = got.get(1..5)?;
    let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
    if got.len() < length + 1 {
        return None;
    }
    let frame = got.split_to(length + 1);
    Some(line(&frame))
}

fn line(frame: &[u8]) -> String {
    let body = &frame[5..];
    let name = frame[0] as char;
    match frame[0] {
        b'E' | b'N' => format!("{name} {}", fields(body)),
        b'D' => format!("D {}", cells(body)),
        b'Z' => format!("Z {}", body[0] as char),
        b'T' => format!("T {}", u16::from_be_bytes([body[0], body[1]])),
        b'R' => format!("R {}", u32::from_be_bytes(body[..4].try_into().expect("four bytes"))),
        b'C' | b'S' | b'd' | b'A' => {
            format!("{name} {}", String::from_utf8_lossy(body).replace('\0', " ").trim_end())
        }
        b'V' => format!("V {}", String::from_utf8_lossy(&body[4..])),
        b'K' | b'v' => format!("{name} {body:?}"),
        _ => format!("{name}"),
    }
}

fn fields(body: &[u8]) -> String {
    let mut code = String::new();
    let mut message = String::new();
    let mut rest = String::new();
    let mut severity = String::new();
    for field in body.split(|byte| *byte == 0).filter(|field| !field.is_empty()) {
        let value = String::from_utf8_lossy(&field[1..]).into_owned();
        match field[0] {
            b'V' => severity = value,
            b'S' => {}
            b'C' => code = value,
            b'M' => message = value,
            kind => rest.push_str(&format!(" {}={value}", kind as char)),
        }
    }
    let severity = if severity == "FATAL" { "FATAL " } else { "" };
    format!("{severity}{code} {message}{rest}")
}

fn cells(body: &[u8]) -> String {
    let count = u16::from_be_bytes([body[0], body[1]]);
    let mut at = 2;
    let mut cells = Vec::new();
    for _ in 0..count {
        let length = i32::from_be_bytes(body[at..at + 4].try_into().expect("four bytes"));
        at += 4;
        match usize::try_from(length) {
            Ok(length) => {
                let value = &body[at..at + length];
                at += length;
                let is_text = value.iter().all(|byte| (0x20..0x7f).contains(byte));
                cells.push(if is_text {
                    String::from_utf8_lossy(value).into_owned()
                } else {
                    format!("{value:?}")
                });
            }
            Err(_) => cells.push("NULL".into()),
        }
    }
    assert_eq!(at, body.len(), "a row's length lies");
    cells.join("|")
}
