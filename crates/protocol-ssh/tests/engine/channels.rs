//! What runs, and how it is bounded and recorded.

use std::sync::atomic::Ordering;
use std::time::Duration;

use corral_model::event::{ApprovalState, EventBody, StreamData, StreamEnd};
use tokio::time::{sleep, timeout};

use crate::gateway::{allow, until};
use crate::world::{World, by_name, run};

/// Windows of both connections, the library's own buffers, and the system's.
const FLOOD_BYTES_MAX: u64 = 16 * 1024 * 1024;

#[tokio::test]
async fn a_denied_command_never_reaches_the_target() {
    let world = World::new(by_name).await;
    let client = world.enter().await;
    for command in ["no", "two\nlines", "a\0b"] {
        let outcome = run(&client, command).await;
        assert_eq!(outcome.status, Some(126), "{command:?}");
        assert!(outcome.errors.starts_with("corral: "), "{outcome:?}");
    }
    assert_eq!(world.target.seen.channels.load(Ordering::Relaxed), 0);
    assert_eq!(world.told.decided(), ["deny no", "deny two\\nlines", "deny a\\0b"]);
    assert_eq!(run(&client, "true").await.status, Some(0), "the connection goes on");
}

#[tokio::test]
async fn a_full_record_denies() {
    let world = World::new(allow).await;
    let client = world.enter().await;
    world.told.fill_record();
    let outcome = run(&client, "true").await;
    assert_eq!(outcome.status, Some(126));
    assert_eq!(world.target.seen.channels.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_held_command_goes_on_in_the_waiting_client() {
    let world = World::new(by_name).await;
    let client = world.enter().await;
    let waiting = tokio::spawn(async move { run(&client, "ask").await });
    until("it is held", || !world.told.decided().is_empty()).await;
    assert_eq!(world.target.seen.channels.load(Ordering::Relaxed), 0);
    world.told.approve(1).await;
    let outcome = waiting.await.expect("no panic");
    assert_eq!((outcome.status, outcome.errors.as_str()), (Some(0), "corral: waits for admins\n"));
}

#[tokio::test]
async fn a_client_that_leaves_takes_back_what_is_held() {
    let world = World::new(by_name).await;
    let client = world.enter().await;
    let channel = client.channel_open_session().await.expect("a channel");
    channel.exec(true, "ask").await.expect("asked");
    until("it is held", || !world.told.decided().is_empty()).await;
    channel.close().await.expect("closed");
    let is_withdrawn = || {
        let events = world.told.events();
        events.iter().any(|event| {
            matches!(event, EventBody::ApprovalDecided { state: ApprovalState::Withdrawn, .. })
        })
    };
    until("it is taken back", is_withdrawn).await;
    assert_eq!(world.target.seen.channels.load(Ordering::Relaxed), 0);
    assert_eq!(run(&client, "true").await.status, Some(0), "the connection goes on");
}

#[tokio::test]
async fn output_is_recorded_without_the_targets_secret() {
    let world = World::new(allow).await;
    let client = world.enter().await;
    let outcome = run(&client, "tell").await;
    assert_eq!((outcome.output.as_str(), outcome.status), ("my password is hunter2\n", Some(3)));
    until("it is completed", || !world.told.completed("tell").is_empty()).await;
    let events = world.told.events();
    let recorded = events.iter().filter_map(|event| match event {
        EventBody::StreamPassed {
            from: StreamEnd::Target, data: StreamData::Text(text), ..
        } => Some(text.as_str()),
        _ => None,
    });
    assert_eq!(recorded.collect::<String>(), "my password is ********\n");
    let completed = &world.told.completed("tell")[0];
    assert_eq!((completed.code.as_str(), completed.bytes), ("3", 23));
}

#[tokio::test]
async fn a_client_that_reads_nothing_stops_the_target_and_nobody_else() {
    let world = World::new(allow).await;
    let client = world.enter().await;
    // The library's client takes up to a hundred messages of a channel that nobody reads, and
    // then no more of its whole connection: the other channel is on one of its own.
    let stalled = client.channel_open_session().await.expect("a channel");
    stalled.exec(true, "flood").await.expect("asked");
    let flooded = || world.target.seen.flooded.load(Ordering::Relaxed);
    until("it floods", || flooded() > 0).await;
    let mut last = 0;
    while flooded() != last {
        last = flooded();
        sleep(Duration::from_millis(300)).await;
    }
    assert!(last < FLOOD_BYTES_MAX, "{last} bytes went into buffers");
    let other = world.enter().await;
    let outcome = timeout(Duration::from_secs(5), run(&other, "true")).await.expect("in time");
    assert_eq!(outcome.status, Some(0));
}

#[tokio::test]
async fn a_killed_session_tells_its_client_and_says_what_may_go_on() {
    let world = World::new(allow).await;
    let client = world.enter().await;
    let channel = client.channel_open_session().await.expect("a channel");
    channel.exec(true, "flood").await.expect("asked");
    until("it floods", || world.target.seen.flooded.load(Ordering::Relaxed) > 0).await;
    let denial = corral_gate::Denial::new(corral_gate::DenialKind::Ended, "killed");
    let reason = corral_model::event::CloseReason::Killed;
    world.told.control(corral_session::Control::End { reason, denial }).await;
    let is_cut = || {
        let events = world.told.events();
        events.iter().any(|event| {
            matches!(event, EventBody::StreamCut { detail, .. }
            if detail.contains("may go on"))
        })
    };
    until("the cut is recorded", is_cut).await;
    until("it is completed", || !world.told.completed("flood").is_empty()).await;
    until("the client is disconnected", || client.is_closed()).await;
}
