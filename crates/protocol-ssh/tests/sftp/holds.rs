//! Requests that wait for people, and those behind them.

use tokio::io::AsyncReadExt;

use crate::gateway::{allow, ask_somebody, until};
use crate::packets::*;
use crate::world::World;

/// Writing and removing need somebody.
fn hold_changes(statement: &corral_model::Statement) -> corral_gate::decision::Verdict {
    match statement.facts.verbs.iter().any(|verb| verb.name == "sftp_write") {
        true => ask_somebody(),
        false => allow(statement),
    }
}

#[tokio::test]
async fn a_held_open_waits_and_the_others_go_on() {
    let mut world = World::new(hold_changes).await;
    std::fs::write(world.path("other"), b"abc").unwrap();
    world.client.send(&open(1, "new", WRITING)).await;
    let answer = world.client.ask(&on(STAT, 2, "other")).await;
    assert_eq!(answer.kind(), ATTRS);
    let mut notice = vec![0; 25];
    world.notice.read_exact(&mut notice).await.unwrap();
    assert_eq!(notice, b"corral: waits for admins\n");
    assert!(!world.path("new").exists());
    world.told.approve(1).await;
    let handle = world.client.receive().await;
    assert_eq!(handle.id(), 1);
    assert_eq!(world.client.ask(&write(3, &handle.value(), 0, b"x")).await.status(), 0);
    assert_eq!(std::fs::read(world.path("new")).unwrap(), b"x");
}

#[tokio::test]
async fn what_is_about_the_same_file_keeps_its_order() {
    let mut world = World::new(hold_changes).await;
    std::fs::write(world.path("a"), b"abc").unwrap();
    world.client.send(&on(REMOVE, 1, "a")).await;
    // Behind the removal; the last one is not.
    world.client.send(&on(STAT, 2, "./a")).await;
    world.client.send(&on(STAT, 3, ".")).await;
    assert_eq!(world.client.receive().await.id(), 3);
    world.told.approve(1).await;
    let first = world.client.receive().await;
    assert_eq!((first.id(), first.status()), (1, 0));
    let second = world.client.receive().await;
    assert_eq!((second.id(), second.status()), (2, 2), "it is gone by then");
}

#[tokio::test]
async fn requests_of_one_handle_keep_their_order() {
    let mut world = World::new(hold_changes).await;
    std::fs::write(world.path("a"), b"abcdef").unwrap();
    let handle = world.client.ask(&open(1, "a", READING)).await.value();
    let other = world.client.ask(&open(2, "a", READING)).await.value();
    world.client.send(&Packet::new(FSETSTAT, 3).str(&handle).u32(4).u32(0o600)).await;
    world.client.send(&read(4, &handle, 0, 10)).await;
    world.client.send(&close(5, &handle)).await;
    world.client.send(&read(6, &handle, 0, 10)).await;
    assert_eq!(world.client.ask(&read(7, &other, 0, 10)).await.value(), b"abcdef");
    world.told.approve(1).await;
    let answers = [
        world.client.receive().await,
        world.client.receive().await,
        world.client.receive().await,
        world.client.receive().await,
    ];
    let closed_again = answers.iter().find(|answer| answer.id() == 6).unwrap();
    assert_eq!(closed_again.status(), 4, "it was closed before");
    let others: Vec<u32> = answers.iter().map(Packet::id).filter(|id| *id != 6).collect();
    assert_eq!(others, [3, 4, 5]);
}

#[tokio::test]
async fn a_refused_request_lets_the_next_one_go() {
    let mut world = World::new(hold_changes).await;
    std::fs::write(world.path("a"), b"abc").unwrap();
    world.client.send(&on(REMOVE, 1, "a")).await;
    world.client.send(&on(STAT, 2, "a")).await;
    until("it is held", || world.told.decided().len() == 1).await;
    world.told.refuse(1).await;
    let first = world.client.receive().await;
    assert_eq!((first.id(), first.status()), (1, 3));
    assert!(first.text().starts_with("corral: "), "{}", first.text());
    assert_eq!(world.client.receive().await.kind(), ATTRS);
}

#[tokio::test]
async fn a_client_that_leaves_withdraws_its_request() {
    let mut world = World::new(hold_changes).await;
    std::fs::write(world.path("a"), b"abc").unwrap();
    world.client.send(&on(REMOVE, 1, "a")).await;
    until("it is held", || world.told.decided().len() == 1).await;
    let path = world.path("a");
    let mut world = world;
    let left = std::mem::replace(&mut world.client.stream, tokio::io::duplex(1).0);
    drop(left);
    world.ending().await;
    until("it is withdrawn", || {
        world.told.events().iter().any(|event| format!("{event:?}").contains("state: Withdrawn"))
    })
    .await;
    assert!(path.exists());
}

#[tokio::test]
async fn what_waits_behind_a_held_request_is_bounded() {
    let mut world = World::new(hold_changes).await;
    std::fs::write(world.path("a"), b"abc").unwrap();
    let handle = world.client.ask(&open(1, "a", READING)).await.value();
    world.client.send(&Packet::new(FSETSTAT, 2).str(&handle).u32(4).u32(0o600)).await;
    let (mut reader, mut writer) = tokio::io::split(world.client.stream);
    let asked = handle.clone();
    let asking = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        for number in 0..20_000_u32 {
            writer.write_all(&read(100 + number, &asked, 0, 3).framed()).await.unwrap();
        }
        writer
    });
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert!(!asking.is_finished(), "nobody reads them all");
    world.told.approve(1).await;
    for number in 0..=20_000_u32 {
        let length = reader.read_u32().await.unwrap() as usize;
        let mut packet = vec![0; length];
        reader.read_exact(&mut packet).await.unwrap();
        let expect = if number == 0 { 2 } else { 99 + number };
        assert_eq!(Packet(packet).id(), expect);
    }
    drop(asking.await.unwrap());
}

#[tokio::test]
async fn a_record_that_is_full_lets_nothing_through() {
    let mut world = World::new(allow).await;
    std::fs::write(world.path("a"), b"abc").unwrap();
    world.told.fill_record();
    let answer = world.client.ask(&on(REMOVE, 1, "a")).await;
    assert_eq!(answer.status(), 3);
    assert!(answer.text().starts_with("corral: the record cannot be written"), "{}", answer.text());
    assert!(world.path("a").exists());
}
