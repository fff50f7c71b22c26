//! An end that has gone silent: the other notices within the lease, on whichever side it is.

use std::time::Duration;

use corral_model::limits::RELAY_LEASE;
use corral_transport::tunnel::{Asked, GatewayEnd, RelayEnd, RelayEndError, Settings, TunnelEnd};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::Instant;

/// A line between two ends that can go dead without being closed.
struct Line {
    gateway: DuplexStream,
    relay: DuplexStream,
    cut: tokio::sync::watch::Sender<bool>,
}

fn line() -> Line {
    let (gateway, from_gateway) = duplex(64 * 1024);
    let (relay, from_relay) = duplex(64 * 1024);
    let (cut, is_cut) = tokio::sync::watch::channel(false);
    let (gateway_read, gateway_write) = tokio::io::split(from_gateway);
    let (relay_read, relay_write) = tokio::io::split(from_relay);
    tokio::spawn(carry(gateway_read, relay_write, is_cut.clone()));
    tokio::spawn(carry(relay_read, gateway_write, is_cut));
    Line { gateway, relay, cut }
}

/// Once the line is cut, what is sent vanishes and nothing is closed.
async fn carry(
    mut read: tokio::io::ReadHalf<DuplexStream>,
    mut write: tokio::io::WriteHalf<DuplexStream>,
    is_cut: tokio::sync::watch::Receiver<bool>,
) {
    let mut buffer = vec![0_u8; 16 * 1024];
    while let Ok(count) = read.read(&mut buffer).await {
        if count == 0 {
            return;
        }
        if !*is_cut.borrow() && write.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_end_is_given_up_within_the_lease() {
    let Line { gateway, relay, cut } = line();
    let settings = Settings { relay: "eu-1".into(), gateway: "test".into(), addresses: Vec::new() };
    let relay = tokio::spawn(async move {
        let mut end = RelayEnd::start(relay).await.expect("HTTP/2");
        let mut streams = Vec::new();
        let error = loop {
            match end.next().await {
                Ok(Some(Asked::Message(message))) => {
                    tokio::spawn(async move {
                        if let Ok(Some((_, answer))) = message.read().await {
                            answer.done();
                        }
                    });
                }
                Ok(Some(Asked::Stream(stream))) => streams.push(stream.accept().expect("open")),
                Ok(None) => panic!("nobody closes"),
                Err(error) => break error,
            }
        };
        let noticed_at = Instant::now();
        drop(end);
        let read = streams.first_mut().expect("a stream").read_u8().await;
        (error, noticed_at, read.is_err())
    });
    let (tunnel, end) = GatewayEnd::start(gateway).await.expect("HTTP/2");
    let driven = tokio::spawn(async move { (end.run().await, Instant::now()) });
    tunnel.set(&settings, 1).await.expect("set");
    let mut stream = tunnel.connect("db.internal", 5432, 1).await.expect("opened");

    // Silence on the line alone ends nothing: both ends ask and answer.
    tokio::time::sleep(RELAY_LEASE * 20).await;
    assert!(tunnel.is_open());
    assert!(!driven.is_finished() && !relay.is_finished());

    let cut_at = Instant::now();
    cut.send_replace(true);
    let (ended, noticed_at) = driven.await.expect("no panic");
    assert!(matches!(ended, TunnelEnd::CutOff), "{ended:?}");
    assert!(noticed_at - cut_at <= RELAY_LEASE + Duration::from_millis(10));
    assert!(stream.read_u8().await.is_err(), "its streams have ended");
    assert!(!tunnel.is_open());
    let (error, noticed_at, has_ended) = relay.await.expect("no panic");
    assert!(matches!(error, RelayEndError::CutOff), "{error:?}");
    assert!(has_ended, "its streams have ended at the relay too");
    assert!(noticed_at - cut_at <= RELAY_LEASE + Duration::from_millis(10));
}
