//! Targets that do not answer as SFTP servers.

use corral_gate::decision::DenialKind;
use corral_protocol_ssh::sftp::Ending;

use crate::gateway::allow;
use crate::packets::*;
use crate::world::{Client, World};

async fn check_ends(mut world: World, what: &str) {
    match world.ending().await {
        Ending::Refused(denial) => {
            assert_eq!(denial.kind, DenialKind::TargetUnavailable);
            assert_eq!(denial.client_text, "the target's SFTP server does not answer as one");
            assert_eq!(denial.internal.as_deref(), Some(what));
        }
        ending => panic!("{what}: {ending:?}"),
    }
    let decided = world.told.decided();
    assert_eq!(decided.last().map(String::as_str), Some("deny answer of the target"));
}

async fn after_greeting(answer: &[u8], what: &str) {
    let (mut world, mut target) = World::scripted(allow).await;
    target.greet(&[]).await;
    world.client.send(&init()).await;
    world.client.receive().await;
    world.client.send(&on(STAT, 5, "/a")).await;
    target.receive().await;
    target.send_bytes(answer).await;
    let farewell = world.client.try_receive().await;
    if let Some(farewell) = farewell {
        assert!(farewell.text().starts_with("corral: "));
    }
    check_ends(world, what).await;
}

#[tokio::test]
async fn an_answer_that_nobody_asked_for_ends_the_channel() {
    let answer = Packet::new(STATUS, 6).u32(0).framed();
    after_greeting(&answer, "an answer to no request").await;
    let wrong = "an answer of another kind than was asked for";
    after_greeting(&Packet::new(DATA, 5).str("secret").framed(), wrong).await;
    after_greeting(&Packet::new(HANDLE, 5).str("h").framed(), wrong).await;
    after_greeting(&[0xff; 8], "a packet of a wrong length").await;
    after_greeting(&on(STAT, 5, "/a").framed(), "an answer that cannot be read").await;
}

#[tokio::test]
async fn more_content_than_was_asked_for_ends_the_channel() {
    let (mut world, mut target) = World::scripted(allow).await;
    target.greet(&[]).await;
    world.client.send(&init()).await;
    world.client.receive().await;
    world.client.send(&open(1, "/a", READING)).await;
    assert_eq!(target.receive().await, open(1, "/a", READING));
    target.send(&Packet::new(HANDLE, 1).str("target's own")).await;
    let handle = world.client.receive().await.value();
    world.client.send(&read(2, &handle, 0, 4)).await;
    assert_eq!(target.receive().await, read(2, b"target's own", 0, 4));
    target.send(&Packet::new(DATA, 2).str("12345")).await;
    check_ends(world, "more content than was asked for").await;
}

#[tokio::test]
async fn a_read_is_never_larger_than_its_answer_may_be() {
    let (mut world, mut target) = World::scripted(allow).await;
    target.greet(&[]).await;
    world.client.send(&init()).await;
    world.client.receive().await;
    world.client.send(&open(1, "/a", READING)).await;
    target.receive().await;
    target.send(&Packet::new(HANDLE, 1).str("h")).await;
    let handle = world.client.receive().await.value();
    world.client.send(&read(2, &handle, 0, u32::MAX)).await;
    assert_eq!(target.receive().await, read(2, b"h", 0, 261_120));
}

async fn greeting(play: impl AsyncFn(&mut Client), what: &str) {
    let (world, mut target) = World::scripted(allow).await;
    assert_eq!(target.receive().await, init());
    play(&mut target).await;
    check_ends(world, what).await;
}

#[tokio::test]
async fn a_target_that_does_not_begin_as_one_is_refused() {
    greeting(
        async |target| target.send(&Packet::new(2, 2)).await,
        "it speaks version 2, and 3 is needed",
    )
    .await;
    greeting(
        async |target| target.send_bytes(b"Welcome to web-1\n").await,
        "a packet of 1466264675 bytes is larger than 263168",
    )
    .await;
    let no_directory = "it does not say what the login directory is";
    greeting(
        async |target| {
            target.send(&Packet::new(2, 3)).await;
            target.receive().await;
            target.send(&Packet::new(NAME, 0).u32(1).str("C:\\").str("").u32(0)).await;
        },
        no_directory,
    )
    .await;
    greeting(
        async |target| {
            target.send(&Packet::new(2, 3)).await;
            target.receive().await;
            target.send(&Packet::new(STATUS, 0).u32(4)).await;
        },
        no_directory,
    )
    .await;
}

#[tokio::test]
async fn a_target_that_ends_ends_the_channel() {
    let (mut world, mut target) = World::scripted(allow).await;
    target.greet(&[]).await;
    world.client.send(&init()).await;
    world.client.receive().await;
    drop(target);
    assert!(matches!(world.ending().await, Ending::TargetLeft));
}

#[tokio::test]
async fn a_relative_link_needs_a_target_whose_order_is_known() {
    let (mut world, mut target) = World::scripted(allow).await;
    target.greet(&[]).await;
    world.client.send(&init()).await;
    world.client.receive().await;
    assert_eq!(world.client.ask(&on(SYMLINK, 1, "x").str("/l")).await.status(), 8);
    world.client.send(&on(SYMLINK, 2, "/srv/../x").str("/l")).await;
    assert_eq!(target.receive().await, on(SYMLINK, 2, "/x").str("/l"));
}

#[tokio::test]
async fn a_handle_lives_until_its_last_answer() {
    let (mut world, mut target) = World::scripted(allow).await;
    target.greet(&[]).await;
    world.client.send(&init()).await;
    world.client.receive().await;
    world.client.send(&open(1, "/a", READING)).await;
    target.receive().await;
    target.send(&Packet::new(HANDLE, 1).str("h")).await;
    let handle = world.client.receive().await.value();
    world.client.send(&read(2, &handle, 0, 4)).await;
    world.client.send(&close(3, &handle)).await;
    target.receive().await;
    target.receive().await;
    target.send(&Packet::new(STATUS, 3).u32(0)).await;
    assert_eq!(world.client.receive().await.id(), 3);
    assert!(world.told.completed("open_read /a").is_empty());
    target.send(&Packet::new(DATA, 2).str("abcd")).await;
    assert_eq!(world.client.receive().await.value(), b"abcd");
    let (told, _) = world.leave().await;
    crate::gateway::until("it is recorded", || !told.completed("open_read /a").is_empty()).await;
    assert_eq!(told.completed("open_read /a")[0].bytes, 4);
}
