//! Golden bytes, and every split of them.

use proptest::prelude::*;

use super::*;

/// INIT, OPEN for writing with a mode, WRITE, CLOSE, SETSTAT, a rename extension, an unknown type.
const GOLDEN: &[u8] = b"\
    \x00\x00\x00\x05\x01\x00\x00\x00\x03\
    \x00\x00\x00\x17\x03\x00\x00\x00\x01\x00\x00\x00\x02/a\x00\x00\x00\x1a\x00\x00\x00\x04\x00\x00\x01\xa4\
    \x00\x00\x00\x1c\x06\x00\x00\x00\x02\x00\x00\x00\x04hhhh\x00\x00\x00\x00\x00\x00\x00\x09\x00\x00\x00\x03abc\
    \x00\x00\x00\x0a\x04\x00\x00\x00\x03\x00\x00\x00\x01h\
    \x00\x00\x00\x27\x09\x00\x00\x00\x04\x00\x00\x00\x02/a\x00\x00\x00\x0b\
        \x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00\x07\x00\x00\x00\x08\
    \x00\x00\x00\x2d\xc8\x00\x00\x00\x05\x00\x00\x00\x18posix-rename@openssh.com\x00\x00\x00\x02/a\x00\x00\x00\x02/b\
    \x00\x00\x00\x05\x63\x00\x00\x00\x06";

/// Every packet as one text.
fn read_all(pieces: &[&[u8]]) -> Vec<String> {
    let mut buffer: Vec<u8> = Vec::new();
    let mut texts: Vec<String> = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        while let Some(length) = frame_length(&buffer).expect("good lengths") {
            let packet = &buffer[LENGTH_BYTES..length];
            texts.push(match texts.is_empty() {
                true => format!("{:?}", Request::read_init(packet)),
                false => format!("{:?}", Request::read(packet)),
            });
            buffer.drain(..length);
        }
    }
    assert!(buffer.is_empty(), "everything was read");
    texts
}

#[test]
fn golden_bytes_are_read() {
    let none = Attributes::default();
    let requests = [
        Request::Open {
            path: b"/a",
            flags: OpenFlags(OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::TRUNCATE),
            attributes: Attributes { permissions: Some(0o644), ..none },
        },
        Request::Write { handle: b"hhhh", offset: 9, data: b"abc" },
        Request::Close { handle: b"h" },
        Request::Setstat {
            path: b"/a",
            attributes: Attributes {
                size: Some(5),
                owners: Some((1, 2)),
                times: Some((7, 8)),
                ..none
            },
        },
        Request::Extended {
            name: b"posix-rename@openssh.com",
            request: Extended::PosixRename { from: b"/a", to: b"/b" },
        },
        Request::Unknown { kind: 0x63 },
    ];
    let mut expect = vec!["Ok(3)".to_owned()];
    expect.extend((1_u32..).zip(requests).map(|request| format!("{:?}", Ok::<_, ()>(request))));
    assert_eq!(read_all(&[GOLDEN]), expect);
}

#[test]
fn every_split_reads_the_same() {
    let whole = read_all(&[GOLDEN]);
    for at in 0..=GOLDEN.len() {
        let (first, second) = GOLDEN.split_at(at);
        assert_eq!(read_all(&[first, second]), whole, "split at {at}");
    }
    let bytes: Vec<&[u8]> = GOLDEN.chunks(1).collect();
    assert_eq!(read_all(&bytes), whole);
}

#[test]
fn every_cut_of_a_packet_is_unreadable_or_without_an_id() {
    let mut rest = GOLDEN;
    while let Ok(Some(length)) = frame_length(rest) {
        let packet = &rest[LENGTH_BYTES..length];
        for cut in 0..packet.len() {
            match Request::read(&packet[..cut]) {
                Ok((_, Request::Unreadable { .. } | Request::Unknown { .. })) => {
                    assert!(cut >= 5);
                }
                Err(Malformed) => assert!(cut < 5),
                other => panic!("read from {cut} bytes: {other:?}"),
            }
        }
        let longer = [packet, b"x"].concat();
        if packet[0] != kind::INIT {
            let (_, request) = Request::read(&longer).expect("an id");
            let is_refused =
                matches!(request, Request::Unreadable { .. } | Request::Unknown { .. });
            assert!(is_refused, "a byte too many: {request:?}");
        }
        rest = &rest[length..];
    }
}

#[test]
fn lengths_are_refused_before_what_they_announce() {
    assert_eq!(frame_length(&[0, 0, 0]), Ok(None));
    assert_eq!(frame_length(&[0, 0, 0, 0]), Err(FrameError::Empty));
    let check = |announced: u32, is_fine: bool| {
        let found = frame_length(&announced.to_be_bytes());
        assert_eq!(found.is_ok(), is_fine, "{announced}: {found:?}");
    };
    check(257 * 1024, true);
    check(257 * 1024 + 1, false);
    check(u32::MAX, false);
}

#[test]
fn what_a_packet_lacks_is_bounded() {
    assert_eq!(missing(&[0, 0, 1]), None);
    assert_eq!(missing(&[0, 0, 0, 2, 9]), Some(1));
    assert_eq!(missing(&[0, 0, 0, 2, 9, 9]), None);
    assert_eq!(missing(&[0, 0, 0, 2, 9, 9, 9]), None);
    assert_eq!(missing(&[0xff; 4]), Some(257 * 1024));
}

#[test]
fn unknown_flags_and_attributes_are_unreadable() {
    let open = |flags: u32, attributes: u32| {
        Builder::new(kind::OPEN, 1).string(b"/a").number(flags).number(attributes).into_packet()
    };
    let is_readable = |packet: Vec<u8>| {
        let (_, request) = Request::read(&packet[LENGTH_BYTES..]).expect("an id");
        !matches!(request, Request::Unreadable { .. })
    };
    assert!(is_readable(open(0x3f, 0)));
    assert!(!is_readable(open(0x40, 0)));
    assert!(!is_readable(open(0x01, 0x8000_0000)));
    assert!(!is_readable(open(0x01, 0x10)));
}

#[test]
fn a_file_is_read_and_changed_as_its_flags_make_servers_do() {
    let check = |flags: u32, reads: bool, writes: bool| {
        let flags = OpenFlags(flags);
        assert_eq!((flags.reads(), flags.writes()), (reads, writes), "{flags:?}");
    };
    check(0, true, false);
    check(OpenFlags::READ, true, false);
    check(OpenFlags::WRITE, false, true);
    check(OpenFlags::READ | OpenFlags::WRITE, true, true);
    check(OpenFlags::READ | OpenFlags::TRUNCATE, true, true);
    check(OpenFlags::CREATE, true, true);
    check(OpenFlags::APPEND | OpenFlags::WRITE, false, true);
}

#[test]
fn attributes_are_written_as_they_were_read() {
    let attributes = Attributes {
        size: Some(u64::MAX),
        owners: Some((0, 1)),
        permissions: Some(0o4755),
        times: Some((2, 3)),
    };
    let builder = Builder::new(kind::SETSTAT, 1).string(b"/a");
    let packet = attributes.write(builder).into_packet();
    let (_, request) = Request::read(&packet[LENGTH_BYTES..]).expect("an id");
    assert_eq!(request, Request::Setstat { path: b"/a", attributes });
    assert_eq!(
        attributes.words(),
        " size=18446744073709551615 uid=0 gid=1 mode=4755 atime=2 mtime=3"
    );
}

#[test]
fn answers_are_read() {
    let status = Builder::new(kind::STATUS, 7).number(2).into_packet();
    let read = |packet: &'static [u8]| Reply::read(packet).map(|(_, reply)| reply);
    assert_eq!(Reply::read(&status[LENGTH_BYTES..]), Ok((7, Reply::Status(Status(2)))));
    assert_eq!(read(b"\x66\0\0\0\x01\0\0\0\x02hh"), Ok(Reply::Handle(b"hh")));
    assert_eq!(read(b"\x67\0\0\0\x01\0\0\0\x02hhx"), Err(Malformed));
    assert_eq!(read(b"\x67\0\0\0\x01\0\0\0\x03hh"), Err(Malformed));
    let names = Reply::Names { count: 1, first: b"/a" };
    assert_eq!(read(b"\x68\0\0\0\x01\0\0\0\x01\0\0\0\x02/a\0\0\0\0\0\0\0\0"), Ok(names));
    assert_eq!(read(b"\x03\0\0\0\x01"), Err(Malformed));
    let version = Version::read(b"\x02\0\0\0\x03\0\0\0\x01a\0\0\0\x011").expect("a version");
    assert_eq!(version, Version { version: 3, extensions: vec![(b"a", b"1")] });
    assert_eq!(Version::read(b"\x02\0\0\0\x03\0\0\0\x01a"), Err(Malformed));
}

proptest! {
    #[test]
    fn nothing_that_is_read_panics(
        kind in prop_oneof![1..21_u8, 101..106_u8, 200..202_u8, any::<u8>()],
        content in prop::collection::vec(prop_oneof![Just(0_u8), 0..9_u8, any::<u8>()], 0..80),
    ) {
        let packet = [&[kind], &content[..]].concat();
        let _ = Request::read_init(&packet);
        let _ = Reply::read(&packet);
        let _ = Version::read(&packet);
        let _ = read_limits(&content);
        let _ = frame_length(&content);
        let _ = missing(&content);
        prop_assert_eq!(Request::read(&packet).is_err(), packet.len() < 5);
    }
}
