//! No bytes make a decoder panic: the fuzzers' corpus, and bytes that proptest makes up.

use std::fs;
use std::path::Path;

use corral_protocol_postgres::codec::client::{decode_bind, decode_query};
use corral_protocol_postgres::codec::{any, head};
use proptest::prelude::*;

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files = fs::read_dir(&folder).expect("the corpus is committed");
    let mut found: Vec<(String, Vec<u8>)> = files
        .map(|file| {
            let path = file.expect("a file").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            (name, fs::read(&path).expect("a readable file"))
        })
        .collect();
    found.sort();
    assert!(!found.is_empty(), "{target} has a corpus");
    found
}

#[test]
fn the_corpus_is_decoded_or_refused() {
    for (_, bytes) in corpus("opening") {
        let _ = any::opening(&bytes);
    }
    for (_, bytes) in corpus("client") {
        let _ = any::client(&bytes);
    }
    for (_, bytes) in corpus("answer") {
        let _ = any::answer(&bytes);
    }
}

#[test]
fn what_is_named_a_lie_is_refused() {
    for (name, bytes) in corpus("client").into_iter().chain(corpus("answer")) {
        let is_refused = any::client(&bytes).is_err() || any::answer(&bytes).is_err();
        if name.contains("lies") || name.contains("short") || name.contains("unfinished") {
            assert!(is_refused, "{name}");
        }
    }
}

proptest! {
    #[test]
    fn bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256), tag in any::<u8>()) {
        let _ = any::opening(&bytes);
        let length = u32::try_from(bytes.len() + 4).expect("short");
        let frame = [&[tag], length.to_be_bytes().as_slice(), &bytes].concat();
        let _ = any::client(&frame);
        let _ = any::answer(&frame);
        let found = head(&frame).expect("a true length").expect("a whole head");
        prop_assert_eq!((found.tag, found.frame_len), (tag, frame.len()));
    }

    #[test]
    fn texts_and_values_come_back_as_they_were_sent(
        text in "[^\0]{0,80}",
        values in proptest::collection::vec(proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40)), 0..8),
    ) {
        let body = [text.as_bytes(), b"\0"].concat();
        let frame = [b"Q\0\0\0\0".as_slice(), &body].concat();
        prop_assert_eq!(decode_query(&frame), Ok(text.as_bytes()));

        let mut frame = b"B\0\0\0\0p\0s\0\0\0".to_vec();
        frame.extend_from_slice(&u16::try_from(values.len()).expect("few").to_be_bytes());
        for value in &values {
            match value {
                Some(bytes) => {
                    let length = u32::try_from(bytes.len()).expect("short");
                    frame.extend_from_slice(&length.to_be_bytes());
                    frame.extend_from_slice(bytes);
                }
                None => frame.extend_from_slice(&[0xff; 4]),
            }
        }
        frame.extend_from_slice(&[0, 0]);
        let bind = decode_bind(&frame).expect("a Bind");
        let found: Vec<Option<Vec<u8>>> =
            bind.values.iter().map(|(value, _)| value.map(<[u8]>::to_vec)).collect();
        prop_assert_eq!(found, values);
    }
}
