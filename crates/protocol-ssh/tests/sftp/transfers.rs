//! Content as it moves: whole, in constant memory, with size and digest in the record.

use corral_gate::decision::{Denial, DenialKind};
use corral_model::event::{CloseReason, EventBody};
use corral_protocol_ssh::sftp::Ending;
use corral_session::Control;
use sha2::{Digest, Sha256};

use crate::gateway::{Completed, allow, until};
use crate::packets::*;
use crate::world::World;

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn noise(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + at / 251) as u8).collect()
}

fn done(tag: &str, content: &[u8]) -> Completed {
    Completed {
        code: "0".into(),
        tag: tag.into(),
        rows: 0,
        bytes: content.len() as u64,
        digest: Some(hex(content)),
    }
}

#[tokio::test]
async fn a_file_is_written_and_read_with_its_digest() {
    let mut world = World::new(allow).await;
    let content = noise(200_000);
    let client = &mut world.client;
    let handle = client.ask(&open(1, "a", WRITING)).await.value();
    assert_eq!(handle.len(), 8, "not the target's own");
    for (number, piece) in (0_u32..).zip(content.chunks(32_768)) {
        let offset = u64::from(number) * 32_768;
        assert_eq!(client.ask(&write(10 + number, &handle, offset, piece)).await.status(), 0);
    }
    assert_eq!(client.ask(&Packet::new(FSTAT, 2).str(&handle)).await.kind(), ATTRS);
    assert_eq!(client.ask(&extended(3, "fsync@openssh.com").str(&handle)).await.status(), 0);
    let statvfs = extended(4, "fstatvfs@openssh.com").str(&handle);
    assert_eq!(client.ask(&statvfs).await.kind(), EXTENDED_REPLY);
    assert_eq!(client.ask(&close(5, &handle)).await.status(), 0);
    let handle = client.ask(&open(6, "a", READING)).await.value();
    let mut got: Vec<u8> = Vec::new();
    loop {
        let answer = client.ask(&read(7, &handle, got.len() as u64, 50_000)).await;
        if answer.kind() == STATUS {
            assert_eq!(answer.status(), 1);
            break;
        }
        got.extend(answer.value());
    }
    assert_eq!(client.ask(&close(8, &handle)).await.status(), 0);
    assert!(got == content);
    assert!(std::fs::read(world.path("a")).unwrap() == content);
    let path = world.text("a");
    let (told, ending) = world.leave().await;
    assert!(matches!(ending, Ending::ClientLeft), "{ending:?}");
    let written = told.completed(&format!("open_write {path} create truncate"));
    assert_eq!(written, [done("written", &content)]);
    assert_eq!(told.completed(&format!("open_read {path}")), [done("read", &content)]);
    until("it is charged", || {
        let usage = told.usage();
        usage.bytes_to_client > 200_000 && usage.bytes_to_target > 200_000
    })
    .await;
}

#[tokio::test]
async fn a_digest_that_cannot_be_is_absent_with_a_reason() {
    let mut world = World::new(allow).await;
    std::fs::write(world.path("a"), b"abcdef").unwrap();
    let client = &mut world.client;
    let from = client.ask(&open(1, "a", READING)).await.value();
    client.ask(&read(2, &from, 4, 2)).await.value();
    client.ask(&read(3, &from, 0, 2)).await.value();
    let to = client.ask(&open(4, "b", WRITING)).await.value();
    client.ask(&write(5, &to, 0, b"x")).await;
    let copy = extended(6, "copy-data").str(&from).u64(0).u64(0).str(&to).u64(1);
    assert_eq!(client.ask(&copy).await.status(), 0);
    client.ask(&close(7, &from)).await;
    client.ask(&close(8, &to)).await;
    assert_eq!(std::fs::read(world.path("b")).unwrap(), b"xabcdef");
    let (a, b) = (world.text("a"), world.text("b"));
    let (told, _) = world.leave().await;
    let read = &told.completed(&format!("open_read {a}"))[0];
    assert_eq!((read.digest.clone(), read.bytes), (None, 4));
    assert_eq!(read.tag, "read; no digest: not in one piece");
    let written = &told.completed(&format!("open_write {b} create truncate"))[0];
    assert_eq!((written.digest.clone(), written.bytes), (None, 1));
    assert_eq!(written.tag, "written; no digest: copied by the target itself");
    let copied = format!("copy_data {a} {b} from=0 length=0 to=1");
    assert_eq!(told.completed(&copied)[0].code, "0");
}

#[tokio::test]
async fn size_times_and_the_mode_of_the_open_are_part_of_writing() {
    let mut world = World::new(allow).await;
    let path = world.text("a");
    let client = &mut world.client;
    let opening = Packet::new(OPEN, 1).str("a").u32(WRITING).u32(4).u32(0o100_640);
    let handle = client.ask(&opening).await.value();
    client.ask(&write(2, &handle, 0, b"abc")).await;
    let set = |id: u32, flags: u32| Packet::new(FSETSTAT, id).str(&handle).u32(flags);
    assert_eq!(client.ask(&set(3, 0x1).u64(2)).await.status(), 0);
    assert_eq!(client.ask(&set(4, 0xc).u32(0o640).u32(1).u32(2)).await.status(), 0);
    assert_eq!(client.ask(&set(5, 0x4).u32(0o4640)).await.status(), 0);
    assert_eq!(client.ask(&set(6, 0x2).u32(0).u32(0)).await.status(), 0);
    client.ask(&close(7, &handle)).await;
    let (told, _) = world.leave().await;
    let opened = format!("open_write {path} create truncate mode=100640");
    let decided = [
        format!("allow {opened}"),
        format!("allow setstat {path} mode=4640"),
        format!("allow setstat {path} uid=0 gid=0"),
    ];
    assert_eq!(told.decided(), decided, "the others are decided by themselves");
    assert_eq!(told.completed(&opened)[0].tag, "written; size set to 2");
}

#[tokio::test]
async fn thousands_of_requests_ahead_are_held_back_and_all_answered() {
    let mut world = World::new(allow).await;
    let content = noise(5_000 * 4_096);
    std::fs::write(world.path("big"), &content).unwrap();
    let handle = world.client.ask(&open(1, "big", READING)).await.value();
    let path = world.text("big");
    let (mut reader, mut writer) = tokio::io::split(world.client.stream);
    let asked = handle.clone();
    let asking = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        for number in 0..5_000_u32 {
            let offset = u64::from(number) * 4_096;
            writer.write_all(&read(100 + number, &asked, offset, 4_096).framed()).await.unwrap();
        }
        writer.write_all(&close(2, &asked).framed()).await.unwrap();
        writer
    });
    let mut got: Vec<u8> = Vec::new();
    for number in 0..5_000 {
        use tokio::io::AsyncReadExt;
        let length = reader.read_u32().await.unwrap() as usize;
        let mut packet = vec![0; length];
        reader.read_exact(&mut packet).await.unwrap();
        let packet = Packet(packet);
        assert_eq!(packet.id(), 100 + number, "in order");
        got.extend(packet.value());
    }
    drop(asking.await.unwrap());
    assert!(got == content);
    until("it is recorded", || {
        world.told.completed(&format!("open_read {path}")) == [done("read", &content)]
    })
    .await;
}

#[tokio::test]
async fn pipelined_writes_of_the_largest_packets_arrive() {
    let mut world = World::new(allow).await;
    let content = noise(60 * 261_120);
    let handle = world.client.ask(&open(1, "big", WRITING)).await.value();
    let (mut reader, mut writer) = tokio::io::split(world.client.stream);
    let (asked, pieces) = (handle.clone(), content.clone());
    let asking = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        for (number, piece) in (0_u32..).zip(pieces.chunks(261_120)) {
            let offset = u64::from(number) * 261_120;
            let packet = write(100 + number, &asked, offset, piece);
            writer.write_all(&packet.framed()).await.unwrap();
        }
        writer.write_all(&close(2, &asked).framed()).await.unwrap();
        writer
    });
    for _ in 0..61 {
        use tokio::io::AsyncReadExt;
        let length = reader.read_u32().await.unwrap() as usize;
        let mut packet = vec![0; length];
        reader.read_exact(&mut packet).await.unwrap();
        assert_eq!(Packet(packet).status(), 0);
    }
    drop(asking.await.unwrap());
    assert!(std::fs::read(world.directory.path().join("big")).unwrap() == content);
}

#[tokio::test]
async fn a_killed_session_ends_the_transfer_and_says_how_far_it_came() {
    let mut world = World::new(allow).await;
    let path = world.text("a");
    let client = &mut world.client;
    let handle = client.ask(&open(1, "a", WRITING)).await.value();
    client.ask(&write(2, &handle, 0, &[7; 1_000])).await;
    // Half a packet: what is cut off never reaches the target.
    let half = write(3, &handle, 1_000, &[8; 1_000]).framed();
    client.send_bytes(&half[..500]).await;
    let denial = Denial::new(DenialKind::Ended, "killed by grace");
    world.told.control(Control::End { reason: CloseReason::Killed, denial }).await;
    let ending = world.ending().await;
    assert!(matches!(ending, Ending::SessionEnded(_)), "{ending:?}");
    assert_eq!(world.client.try_receive().await, None, "the stream is cut");
    assert_eq!(std::fs::read(world.path("a")).unwrap(), [7; 1_000]);
    let statement = format!("open_write {path} create truncate");
    until("its completion is recorded", || !world.told.completed(&statement).is_empty()).await;
    let completed = world.told.completed(&statement);
    let expect = Completed {
        code: "aborted".into(),
        tag: "written; not closed".into(),
        ..done("", &[7; 1_000])
    };
    assert_eq!(completed, [expect]);
    let cut = world.told.events().into_iter().find_map(|event| match event {
        EventBody::StreamCut { detail, .. } => Some(detail),
        _ => None,
    });
    let expect = format!(
        "{path} was cut after 1000 bytes were sent and 0 read; the file stays at the target as it is"
    );
    assert_eq!(cut, Some(expect));
}

#[tokio::test]
async fn who_waits_for_an_answer_is_told_why_there_is_none() {
    let (mut world, mut target) = World::scripted(allow).await;
    target.greet(&[]).await;
    world.client.send(&init()).await;
    world.client.receive().await;
    world.client.send(&on(STAT, 5, "/a")).await;
    target.receive().await;
    let denial = Denial::new(DenialKind::Ended, "killed by grace");
    world.told.control(Control::End { reason: CloseReason::Killed, denial }).await;
    let answer = world.client.receive().await;
    assert_eq!((answer.id(), answer.status()), (5, 4));
    assert_eq!(answer.text(), "corral: killed by grace");
    until("it is recorded as aborted", || {
        world.told.completed("stat /a").iter().any(|done| done.code == "aborted")
    })
    .await;
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_target_and_its_files_are_accounted() {
    let mut world = World::new(allow).await;
    let path = world.text("a");
    let handle = world.client.ask(&open(1, "a", WRITING)).await.value();
    world.client.send(&write(2, &handle, 0, b"abc")).await;
    let (told, ending) = world.leave().await;
    assert!(matches!(ending, Ending::ClientLeft), "{ending:?}");
    let statement = format!("open_write {path} create truncate");
    until("it is recorded", || !told.completed(&statement).is_empty()).await;
    let completed = &told.completed(&statement)[0];
    assert_eq!((completed.code.as_str(), completed.bytes), ("aborted", 3));
}
