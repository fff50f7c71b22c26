//! Clients that break the protocol, or try what no honest one does.

use corral_protocol_ssh::sftp::Ending;

use crate::gateway::{allow, until};
use crate::packets::*;
use crate::world::{Client, World};

#[tokio::test]
async fn handles_that_are_closed_foreign_or_invented_mean_nothing() {
    let mut world = World::new(allow).await;
    let mut other = World::new(allow).await;
    std::fs::write(world.path("a"), b"abc").unwrap();
    std::fs::write(other.path("a"), b"abc").unwrap();
    let closed = world.client.ask(&open(1, "a", READING)).await.value();
    world.client.ask(&close(2, &closed)).await;
    let foreign = other.client.ask(&open(1, "a", READING)).await.value();
    let client = &mut world.client;
    let invented: [&[u8]; 4] = [b"", b"\0\0\0\0", &[0xff; 8], &[7; 300]];
    let mut id = 100;
    for handle in invented.into_iter().chain([&closed[..], &foreign[..]]) {
        let requests = [
            read(id, handle, 0, 10),
            write(id + 1, handle, 0, b"x"),
            close(id + 2, handle),
            Packet::new(READDIR, id + 3).str(handle),
            Packet::new(FSETSTAT, id + 4).str(handle).u32(0),
            extended(id + 5, "fsync@openssh.com").str(handle),
        ];
        id += 10;
        for request in requests {
            let answer = client.ask(&request).await;
            assert_eq!(answer.status(), 4);
            let text = "corral: the handle is not open in this channel (decision d)";
            assert_eq!(answer.text(), text);
        }
    }
    let decided = world.told.decided();
    assert_eq!(decided.iter().filter(|text| text.starts_with("deny ")).count(), 36);
    assert_eq!(decided[1], "deny read with a wrong handle");
    assert_eq!(other.client.ask(&read(2, &foreign, 0, 10)).await.value(), b"abc", "unharmed");
}

#[tokio::test]
async fn a_handle_serves_only_what_it_was_opened_for() {
    let mut world = World::new(allow).await;
    std::fs::write(world.path("a"), b"abc").unwrap();
    let client = &mut world.client;
    let reading = client.ask(&open(1, "a", READING)).await.value();
    let writing = client.ask(&open(2, "b", WRITING)).await.value();
    let listing = client.ask(&on(OPENDIR, 3, ".")).await.value();
    assert_eq!(client.ask(&write(4, &reading, 0, b"x")).await.status(), 4);
    assert_eq!(client.ask(&read(5, &writing, 0, 1)).await.status(), 4);
    assert_eq!(client.ask(&read(6, &listing, 0, 1)).await.status(), 4);
    assert_eq!(client.ask(&Packet::new(READDIR, 7).str(&reading)).await.status(), 4);
    let copy = |id: u32, from: &[u8], to: &[u8]| {
        extended(id, "copy-data").str(from).u64(0).u64(0).str(to).u64(0)
    };
    assert_eq!(client.ask(&copy(8, &writing, &writing)).await.status(), 4);
    assert_eq!(client.ask(&copy(9, &reading, &reading)).await.status(), 4);
    assert_eq!(client.ask(&copy(10, &reading, &writing)).await.status(), 0);
    assert_eq!(std::fs::read(world.path("b")).unwrap(), b"abc");
}

async fn refused(client: &mut Client, bytes: &[u8]) {
    client.send_bytes(bytes).await;
    while let Some(packet) = client.try_receive().await {
        assert!(packet.text().starts_with("corral: "), "only a farewell");
    }
}

async fn check_refused(bytes: &[u8], statement: &str, reason: &str) {
    let mut world = World::new(allow).await;
    let mut other = World::new(allow).await;
    refused(&mut world.client, bytes).await;
    match world.ending().await {
        Ending::Refused(denial) => assert_eq!(denial.client_text, reason),
        ending => panic!("{statement}: {ending:?}"),
    }
    assert_eq!(world.told.decided(), [format!("deny {statement}")]);
    assert_eq!(other.client.ask(&on(STAT, 1, ".")).await.kind(), ATTRS, "others are unharmed");
}

#[tokio::test]
async fn a_packet_that_is_too_large_ends_the_channel_before_it_is_read() {
    let reason = "a packet of 263169 bytes is larger than 263168";
    let statement = "packet with a wrong length";
    check_refused(&263_169_u32.to_be_bytes(), statement, reason).await;
    let reason = "a packet of 4294967295 bytes is larger than 263168";
    check_refused(&[0xff; 40], statement, reason).await;
    check_refused(&[0; 4], statement, "a packet has no type").await;
}

#[tokio::test]
async fn the_largest_packet_passes_wherever_it_is_split() {
    for left in 1..=5 {
        let (mut world, mut target) = World::scripted(allow).await;
        target.greet(&[]).await;
        world.client.send(&init()).await;
        world.client.receive().await;
        world.client.send(&open(1, "/a", WRITING)).await;
        target.receive().await;
        target.send(&Packet::new(HANDLE, 1).str("8 bytes!")).await;
        let handle = world.client.receive().await.value();
        let largest = write(2, &handle, 0, &vec![7; 263_168 - 29]).framed();
        assert_eq!(largest.len(), 263_172);
        let (first, last) = largest.split_at(largest.len() - left);
        world.client.send_bytes(first).await;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        world.client.send_bytes(last).await;
        assert_eq!(target.receive().await.0.len(), 263_168, "{left} bytes came later");
    }
}

#[tokio::test]
async fn a_packet_without_an_id_ends_the_channel() {
    let reason = "a packet is too short";
    check_refused(b"\0\0\0\x03\x05\0\0", "packet without an id", reason).await;
}

#[tokio::test]
async fn a_second_request_with_the_same_id_ends_the_channel() {
    let (mut world, mut target) = World::scripted(allow).await;
    target.greet(&[]).await;
    world.client.send(&init()).await;
    world.client.receive().await;
    world.client.send(&on(STAT, 7, "/a")).await;
    world.client.send(&on(STAT, 7, "/b")).await;
    assert!(matches!(world.ending().await, Ending::Refused(_)));
    assert_eq!(target.receive().await, on(STAT, 7, "/a"));
    assert_eq!(target.try_receive().await, None, "the second one was not sent");
    assert_eq!(world.told.decided(), ["allow stat /a", "deny request with a number in use"]);
}

#[tokio::test]
async fn the_first_packet_must_be_an_init_of_version_3() {
    for (packet, statement) in [
        (on(STAT, 1, "/a"), "no init"),
        (Packet::new(1, 2), "init with an old version"),
        (Packet(vec![1, 0]), "no init"),
    ] {
        let mut world = World::unopened(allow).await;
        refused(&mut world.client, &packet.framed()).await;
        assert!(matches!(world.ending().await, Ending::Refused(_)));
        assert_eq!(world.told.decided(), [format!("deny {statement}")]);
    }
}

#[tokio::test]
async fn a_later_version_gets_version_3() {
    let mut world = World::unopened(allow).await;
    world.client.send(&Packet::new(1, 6)).await;
    assert_eq!(world.client.receive().await.number(1), 3);
}

#[tokio::test]
async fn what_cannot_be_read_or_is_not_known_is_refused_and_recorded() {
    let mut world = World::new(allow).await;
    let client = &mut world.client;
    let check = async |client: &mut Client, packet: Packet, status: u32| {
        let answer = client.ask(&packet).await;
        assert_eq!(answer.status(), status, "{packet:?}");
        assert!(answer.text().starts_with("corral: "), "{}", answer.text());
    };
    check(client, extended(1, "space-available").str("/"), 8).await;
    check(client, extended(2, "md5-hash@x\n").str("/"), 8).await;
    check(client, Packet::new(21, 3).str("/"), 8).await;
    check(client, Packet::new(STAT, 4).u32(9).u32(0), 5).await;
    check(client, on(STAT, 5, "/a").u32(0), 5).await;
    check(client, open(6, "/a", 0x40), 5).await;
    check(client, on(SETSTAT, 7, "/a").u32(0x8000_0000).u32(1).str("acl").str("x"), 5).await;
    check(client, Packet::new(STAT, 8).str(b"/a\0b"), 3).await;
    check(client, Packet::new(STAT, 9).str(b"/a\xffb"), 3).await;
    check(client, on(STAT, 10, &"/a".repeat(65)), 3).await;
    check(client, on(STAT, 11, &"a".repeat(4_097)), 3).await;
    check(client, on(RENAME, 12, "/a").str(b"/b\0"), 3).await;
    check(client, on(SYMLINK, 13, "/a\0").str("/b"), 3).await;
    let decided = world.told.decided();
    assert_eq!(decided.len(), 13);
    assert!(decided.iter().all(|text| text.starts_with("deny ")), "{decided:?}");
    assert_eq!(decided[0], "deny extended space-available");
    assert_eq!(decided[1], "deny extended \"md5-hash@x\\n\"");
}

#[tokio::test]
async fn too_many_faults_end_the_channel() {
    let mut world = World::new(allow).await;
    for id in 0..65 {
        world.client.send(&read(id, b"none", 0, 1)).await;
    }
    for id in 0..65 {
        assert_eq!(world.client.receive().await.id(), id);
    }
    assert!(matches!(world.ending().await, Ending::Refused(_)));
    assert_eq!(world.told.decided().len(), 65);
}

#[tokio::test]
async fn open_handles_are_counted() {
    let mut world = World::new(allow).await;
    std::fs::write(world.path("a"), b"abc").unwrap();
    let mut first = Vec::new();
    for id in 0..512 {
        first = world.client.ask(&open(id, "a", READING)).await.value();
    }
    let answer = world.client.ask(&open(600, "a", READING)).await;
    assert_eq!(answer.status(), 4);
    assert_eq!(answer.text(), "corral: no more than 512 files can be open at once (decision d)");
    world.client.ask(&close(601, &first)).await;
    world.client.ask(&open(602, "a", READING)).await.value();
    assert_eq!(world.client.ask(&open(603, "missing", READING)).await.status(), 4);
}

#[tokio::test]
async fn every_split_of_a_clients_bytes_does_the_same() {
    let mut script: Vec<u8> = init().framed();
    script.extend(on(STAT, 1, "a/../b").framed());
    script.extend(open(2, "/w", WRITING).framed());
    script.extend(Packet::new(99, 3).framed());
    script.extend(on(REMOVE, 4, "/x").framed());
    let mut steps: Vec<usize> = vec![1, 2, 3, 5, 7, 11, 13, script.len()];
    steps.extend(14..30);
    let mut seen: Option<(Vec<Packet>, Vec<String>)> = None;
    for step in steps {
        let (mut world, mut target) = World::scripted(allow).await;
        target.greet(&[]).await;
        for piece in script.chunks(step) {
            world.client.send_bytes(piece).await;
            tokio::task::yield_now().await;
        }
        let mut sent = Vec::new();
        for _ in 0..3 {
            sent.push(target.receive().await);
        }
        until("all is decided", || world.told.decided().len() == 4).await;
        let found = (sent, world.told.decided());
        assert_eq!(seen.get_or_insert(found.clone()), &found, "in pieces of {step}");
    }
}

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    /// A packet that may be anything, mostly of a known shape.
    fn packet(&mut self, kinds: &[u8]) -> Vec<u8> {
        let kind = kinds[self.below(kinds.len() as u64) as usize];
        let mut packet = Packet::new(kind, self.below(12) as u32);
        for _ in 0..self.below(5) {
            packet = match self.below(6) {
                0 => packet.str(["/a", "..", "b/../c", "/a/b"][self.below(4) as usize]),
                1 => packet.str((100 + self.below(3)).to_be_bytes()),
                2 => packet.u64(self.below(9)),
                3 => packet.str("posix-rename@openssh.com"),
                _ => packet.u32(self.below(12) as u32),
            };
        }
        packet.framed()
    }
}

#[tokio::test]
async fn noise_from_both_sides_is_answered_or_ends_the_channel() {
    for seed in 0..300 {
        let mut dice = Dice(seed);
        let (mut world, mut target) = World::scripted(allow).await;
        target.greet(&[("posix-rename@openssh.com", "1")]).await;
        world.client.send(&init()).await;
        for _ in 0..40 {
            let asked = dice.packet(&[3, 4, 5, 6, 8, 9, 11, 12, 13, 17, 18, 20, 200, 77]);
            let answer = dice.packet(&[101, 102, 103, 104, 105, 201]);
            // Either may be closed by then.
            let _ = tokio::io::AsyncWriteExt::write_all(&mut world.client.stream, &asked).await;
            if dice.below(3) == 0 {
                let _ = tokio::io::AsyncWriteExt::write_all(&mut target.stream, &answer).await;
            }
            tokio::task::yield_now().await;
        }
        drop(target);
        world.leave().await;
    }
}
