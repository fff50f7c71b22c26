//! Changing a record, and what `verify` says of it.

mod support;

use std::path::{Path, PathBuf};

use corral_gate::sha256_hex;
use corral_model::event::Origin;
use corral_record::format::{gateway_genesis, session_genesis};
use corral_record::{BadEntry, Reader, Verified, VerifyError, bundle, verify};
use support::*;

fn bad(result: Result<Verified, VerifyError>) -> BadEntry {
    let error = result.expect_err("a bad entry is named");
    let VerifyError::Bad(entry) = error else { unreachable!("not {error}") };
    *entry
}

fn record() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    make_record(dir.path());
    dir
}

#[test]
fn an_untouched_record_verifies() {
    let dir = record();
    let verified = check(dir.path()).expect("verified");
    // 2 sessions of 5 entries; 2 openings, 2 endings, 1 change, 3 checkpoints.
    let expect = Verified {
        entries: 10 + 8,
        sessions: 2,
        checkpoints: 3,
        sessions_open: 0,
        entries_unsigned: 0,
    };
    assert_eq!(verified, expect);
    assert_eq!(verified.to_string(), "ok: 18 entries, 2 sessions, 3 checkpoints");
}

#[test]
fn each_changed_byte_is_found_and_named() {
    let dir = record();
    let files = [
        (Some("s1"), session_path(dir.path(), "s1")),
        (Some("s2"), session_path(dir.path(), "s2")),
        (None, segment_path(dir.path())),
    ];
    for (session, path) in files {
        let pristine = std::fs::read(&path).expect("a file");
        let entries = entries_in(&pristine);
        for index in 0..pristine.len() {
            let mut bytes = pristine.clone();
            bytes[index] ^= 0x04;
            std::fs::write(&path, &bytes).expect("changed");
            let entry = bad(check(dir.path()));
            assert_eq!(entry.file, path, "byte {index}: {entry}");
            assert_eq!(entry.session.as_ref().map(|id| id.as_str()), session, "{entry}");
            let place = entries
                .iter()
                .position(|(start, length)| (*start..start + length).contains(&index));
            let (seq, offset) = match place {
                Some(place) => (place as u64 + 1, entries[place].0 as u64),
                None => (0, 0),
            };
            assert_eq!((entry.seq, entry.offset), (seq, offset), "byte {index}: {entry}");
        }
        std::fs::write(&path, &pristine).expect("put back");
    }
    check(dir.path()).expect("verified");
}

#[test]
fn removed_swapped_and_repeated_entries_are_found() {
    let dir = record();
    for path in [session_path(dir.path(), "s1"), segment_path(dir.path())] {
        let pristine = std::fs::read(&path).expect("a file");
        let entries = entries_in(&pristine);
        let part = |index: usize| {
            let (start, length) = entries[index];
            pristine[start..start + length].to_vec()
        };
        let file_of = |order: &[usize]| {
            let mut bytes = pristine[..72].to_vec();
            for index in order {
                bytes.extend(part(*index));
            }
            bytes
        };
        let all: Vec<usize> = (0..entries.len()).collect();
        for gone in 0..entries.len() - 1 {
            let order: Vec<usize> = all.iter().copied().filter(|index| *index != gone).collect();
            std::fs::write(&path, file_of(&order)).expect("removed");
            assert_eq!(bad(check(dir.path())).seq, gone as u64 + 1);
            let mut order = all.clone();
            order.swap(gone, gone + 1);
            std::fs::write(&path, file_of(&order)).expect("swapped");
            assert_eq!(bad(check(dir.path())).seq, gone as u64 + 1);
            let mut order = all.clone();
            order.insert(gone, gone);
            std::fs::write(&path, file_of(&order)).expect("repeated");
            assert_eq!(bad(check(dir.path())).seq, gone as u64 + 2);
        }
        std::fs::write(&path, &pristine).expect("put back");
    }
}

#[test]
fn a_session_cut_anywhere_is_found() {
    let dir = record();
    let path = session_path(dir.path(), "s1");
    let pristine = std::fs::read(&path).expect("a file");
    for (index, (start, _)) in entries_in(&pristine).into_iter().enumerate() {
        for more in [0, 1, 60] {
            std::fs::write(&path, &pristine[..start + more]).expect("cut");
            let entry = bad(check(dir.path()));
            assert_eq!((entry.seq, entry.offset), (index as u64 + 1, start as u64), "{entry}");
        }
    }
}

#[test]
fn entries_behind_a_sessions_end_are_found() {
    let dir = record();
    let path = session_path(dir.path(), "s1");
    let mut bytes = std::fs::read(&path).expect("a file");
    append_entry(&mut bytes, br#"{"seq":6}"#);
    std::fs::write(&path, bytes).expect("longer");
    let entry = bad(check(dir.path()));
    assert_eq!(entry.seq, 6);
    assert!(entry.what.contains("end"), "{entry}");
}

#[test]
fn a_rewritten_session_is_found_although_its_hashes_are_right() {
    let dir = record();
    let path = session_path(dir.path(), "s1");
    let pristine = std::fs::read(&path).expect("a file");
    for changed in 0..entries_in(&pristine).len() {
        let mut bytes = pristine[..72].to_vec();
        for (index, (start, length)) in entries_in(&pristine).into_iter().enumerate() {
            let mut payload = pristine[start + 45..start + length - 32].to_vec();
            if index == changed {
                let text = String::from_utf8(payload).expect("JSON");
                payload = text.replace("gw-1", "gw-2").into_bytes();
            }
            append_entry(&mut bytes, &payload);
        }
        std::fs::write(&path, &bytes).expect("rewritten");
        let entry = bad(check(dir.path()));
        assert_eq!(entry.session, Some(session_id("s1")));
        // Named at the next entry whose hash the gateway's chain holds.
        assert!(entry.seq > changed as u64, "{entry}");
    }
}

#[test]
fn a_rewritten_gateway_chain_is_found_by_its_signatures() {
    let dir = record();
    let path = segment_path(dir.path());
    let pristine = std::fs::read(&path).expect("a file");
    let mut bytes = pristine[..72].to_vec();
    for (start, length) in entries_in(&pristine) {
        let payload = pristine[start + 45..start + length - 32].to_vec();
        let payload = match pristine[start + 4] {
            1 => String::from_utf8(payload).expect("JSON").replace("user/ada", "user/eve").into(),
            _ => payload,
        };
        append_entry_of(&mut bytes, pristine[start + 4], &payload);
    }
    std::fs::write(&path, &bytes).expect("rewritten");
    let entry = bad(check(dir.path()));
    assert!(entry.what.contains("signature"), "{entry}");
}

#[test]
fn missing_foreign_swapped_and_moved_files_are_found() {
    let dir = record();
    let (one, two) = (session_path(dir.path(), "s1"), session_path(dir.path(), "s2"));
    let (first, second) = (read(&one), read(&two));

    std::fs::remove_file(&one).expect("removed");
    let entry = bad(check(dir.path()));
    assert!(entry.what.contains("missing") && entry.session == Some(session_id("s1")), "{entry}");

    std::fs::write(&one, &second).expect("swapped");
    std::fs::write(&two, &first).expect("swapped");
    assert!(bad(check(dir.path())).what.contains("another session"));
    std::fs::write(&one, &first).expect("put back");
    std::fs::write(&two, &second).expect("put back");

    let foreign = session_path(dir.path(), "s3");
    std::fs::write(&foreign, &first).expect("a foreign file");
    assert!(bad(check(dir.path())).what.contains("no entry of the gateway's chain"));
    std::fs::remove_file(&foreign).expect("removed");

    let other_day = dir.path().join("record/sessions/2026-11-24");
    std::fs::create_dir(&other_day).expect("a folder");
    std::fs::write(other_day.join("s1.rec"), &first).expect("a second copy");
    assert!(bad(check(dir.path())).what.contains("2026-11-23"));
    std::fs::remove_dir_all(&other_day).expect("removed");

    check(dir.path()).expect("verified");
    std::fs::remove_file(segment_path(dir.path())).expect("removed");
    assert!(bad(check(dir.path())).seq <= 1);
}

#[test]
fn another_key_verifies_nothing() {
    let (ours, theirs) = (record(), record());
    let entry = bad(verify(&ours.path().join("record"), &key(theirs.path())));
    assert_eq!((entry.session, entry.seq), (None, 0));
    // A record that somebody else made and signed in our name.
    std::fs::remove_dir_all(ours.path().join("record")).expect("removed");
    copy_folder(&theirs.path().join("record"), &ours.path().join("record"));
    assert!(check(ours.path()).is_err());
}

#[test]
fn a_session_of_another_record_of_the_same_key_is_found() {
    let dir = record();
    let before = read(&session_path(dir.path(), "s1"));
    std::fs::remove_dir_all(dir.path().join("record")).expect("moved away");
    make_record(dir.path());
    check(dir.path()).expect("another record begins with the same key");
    let (recorder, _) = open(dir.path());
    assert!(!before.is_empty() && recorder.chain_name().starts_with("gw_"));
    drop(recorder);
    std::fs::write(session_path(dir.path(), "s1"), before).expect("exchanged");
    assert!(bad(check(dir.path())).what.contains("another session"));
}

#[test]
fn a_cut_of_what_was_not_signed_yet_shows_as_unsigned_at_most() {
    let dir = record();
    let path = segment_path(dir.path());
    let pristine = read(&path);
    let (last, _) = *entries_in(&pristine).last().expect("entries");
    std::fs::write(&path, &pristine[..last]).expect("cut");
    let verified = check(dir.path()).expect("the cut itself cannot be seen");
    assert!(verified.entries_unsigned > 0);
    // One more entry, and a session has no end: it counts as open.
    let (end, _) = entries_in(&pristine)[entries_in(&pristine).len() - 2];
    std::fs::write(&path, &pristine[..end]).expect("cut");
    assert_eq!(check(dir.path()).expect("open").sessions_open, 1);
}

#[test]
fn a_whole_older_copy_verifies_which_only_a_later_checkpoint_kept_elsewhere_shows() {
    let dir = record();
    let old = dir.path().join("old");
    copy_folder(&dir.path().join("record"), &old);
    let (recorder, _) = open(dir.path());
    recorder.append_gateway(at(9), &Origin::default(), &changed("user/b")).expect("written");
    recorder.stop().expect("stopped");
    verify(&old, &key(dir.path())).expect("nothing in it is wrong");
}

#[test]
fn a_record_that_is_written_verifies_and_its_bundle_too() {
    let dir = tempfile::tempdir().expect("a folder");
    let (recorder, _) = open(dir.path());
    let mut taps: Vec<_> = (0..4).map(|index| begin(&recorder, &format!("s{index}"))).collect();
    let writer = std::thread::spawn(move || {
        for seq in 1..=300 {
            for tap in &mut taps {
                say(tap, seq).expect("written");
            }
        }
        taps.iter_mut().for_each(close);
    });
    let mut round = 0;
    while !writer.is_finished() || round < 3 {
        check(dir.path()).expect("verified while it is written");
        let copy = dir.path().join(format!("copy-{round}"));
        bundle(&Reader::new(recorder.record_dir()), &copy).expect("copied");
        verify(&copy, &key(dir.path())).expect("the copy verifies");
        recorder.checkpoint().expect("signed");
        round += 1;
    }
    writer.join().expect("written");
    check(dir.path()).expect("verified");
}

#[test]
fn a_folder_without_a_record_is_named() {
    let dir = record();
    let empty = tempfile::tempdir().expect("a folder");
    let result = verify(empty.path(), &key(dir.path()));
    assert!(matches!(result, Err(VerifyError::NotARecord { .. })));
    verify(dir.path(), &key(dir.path())).expect("a data folder will do");
}

#[test]
fn a_genesis_binds_the_key_the_record_and_the_session() {
    let (a, b) = (session_id("s1"), session_id("s2"));
    let hashes = [
        session_genesis(b"key one", &[1; 16], &a),
        session_genesis(b"key one", &[1; 16], &b),
        session_genesis(b"key one", &[2; 16], &a),
        session_genesis(b"key two", &[1; 16], &a),
        gateway_genesis(b"key one", &[1; 16]),
    ];
    let different: std::collections::BTreeSet<_> = hashes.into_iter().collect();
    assert_eq!(different.len(), hashes.len());
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(PathBuf::from(path)).expect("a file")
}

/// Appends an event with a right number, link and hash, as whoever can write the files may.
fn append_entry(bytes: &mut Vec<u8>, payload: &[u8]) {
    append_entry_of(bytes, 1, payload);
}

fn append_entry_of(bytes: &mut Vec<u8>, kind: u8, payload: &[u8]) {
    let entries = entries_in(bytes);
    let follows: Vec<u8> = match entries.last() {
        Some((start, length)) => bytes[start + length - 32..start + length].to_vec(),
        None => bytes[24..56].to_vec(),
    };
    let mut frame = u32::try_from(payload.len()).expect("short").to_be_bytes().to_vec();
    frame.push(kind);
    frame.extend((entries.len() as u64 + 1).to_be_bytes());
    frame.extend(follows);
    frame.extend(payload);
    let hash = sha256_hex(&frame);
    for index in (0..64).step_by(2) {
        frame.push(u8::from_str_radix(&hash[index..index + 2], 16).expect("hexadecimal"));
    }
    bytes.extend(frame);
}
