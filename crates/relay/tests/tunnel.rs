//! The relay as a whole, over real TLS and sockets, against a gateway's end without a gateway.

mod support;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use corral_transport::{DialError, Stream};
use support::{Authority, Gateway, RELAY, Relay, echo, echo_target, flooding_target};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn bytes_go_both_ways_and_each_way_closes_for_itself() {
    let target = echo_target().await;
    let mut gateway = Gateway::start(&[target.to_string()]).await;
    let (_relay, tunnel) = gateway.relay(&[]).await;

    let mut stream = gateway.dial(target).await.expect("dialled");
    echo(&mut stream, b"hello").await;
    assert_eq!(tunnel.streams(), 1);
    // More than every window and buffer on the way, in both directions at once.
    let bytes: Vec<u8> = (0..8_000_000_u32).map(|n| (n % 251) as u8).collect();
    let (mut read, mut write) = tokio::io::split(stream);
    let sent = bytes.clone();
    let writer = tokio::spawn(async move {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
        write
    });
    let mut got = Vec::new();
    timeout(SOON, read.read_to_end(&mut got)).await.expect("in time").expect("read to its end");
    assert!(got == bytes, "the same bytes came back");
    drop((read, writer.await.unwrap()));
    timeout(SOON, async {
        while tunnel.streams() > 0 {
            tokio::task::yield_now().await
        }
    })
    .await
    .expect("the stream is counted out");
}

/// How long 100 streams take that send 1 MiB each and get it back, all at once.
async fn hundred_streams(gateway: &Gateway, target: SocketAddr) -> Duration {
    let started = Instant::now();
    let mut tasks = Vec::new();
    let bytes: Vec<u8> = vec![7; 1024 * 1024];
    for _ in 0..100 {
        let stream = gateway.dial(target).await.expect("dialled");
        let bytes = bytes.clone();
        tasks.push(tokio::spawn(async move {
            let (mut read, mut write) = tokio::io::split(stream);
            let writer = tokio::spawn(async move {
                write.write_all(&bytes).await.expect("written");
                write.shutdown().await.expect("closed");
                write
            });
            let mut got = Vec::new();
            read.read_to_end(&mut got).await.expect("read");
            assert_eq!(got.len(), 1024 * 1024);
            writer.await.expect("no panic");
        }));
    }
    for task in tasks {
        timeout(Duration::from_secs(60), task).await.expect("in time").expect("whole");
    }
    started.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_nobody_reads_stalls_nobody_else() {
    /// Below that, what else the machine does is more than what is compared.
    const FLOOR: Duration = Duration::from_millis(400);
    const ROUNDS: usize = 3;
    let flood = flooding_target().await;
    let target = echo_target().await;
    let mut gateway = Gateway::start(&[flood.to_string(), target.to_string()]).await;
    let (_relay, _tunnel) = gateway.relay(&[]).await;

    // The best of some, because others use the machine too; the first is slower than the rest.
    let mut alone = hundred_streams(&gateway, target).await;
    for _ in 0..ROUNDS {
        alone = alone.min(hundred_streams(&gateway, target).await);
    }
    let mut stalled = gateway.dial(flood).await.expect("dialled");
    let mut byte = [0_u8; 1];
    stalled.read_exact(&mut byte).await.expect("it flows until nobody reads");
    let mut beside = hundred_streams(&gateway, target).await;
    for _ in 0..ROUNDS {
        beside = beside.min(hundred_streams(&gateway, target).await);
    }
    println!("100 streams of 1 MiB each way: {alone:?}; beside a stalled one: {beside:?}");
    assert!(beside <= alone.max(FLOOR).mul_f64(1.5), "{beside:?} beside it, {alone:?} alone");
    // The stalled one goes on where it was.
    let mut more = vec![0_u8; 3 * 1024 * 1024];
    timeout(SOON, stalled.read_exact(&mut more)).await.expect("in time").expect("it goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_not_allowed_is_refused_on_both_sides() {
    let target = echo_target().await;
    let other = echo_target().await;
    let mut gateway = Gateway::start(&[target.to_string()]).await;
    // The operator of this relay allows less than the gateway does.
    let (_relay, tunnel) = gateway.relay(&[other.to_string()]).await;

    // At the gateway: nothing is asked.
    assert!(matches!(gateway.dial(other).await, Err(DialError::NotAllowed)));
    // At the relay, by its operator's list.
    assert!(matches!(gateway.dial(target).await, Err(DialError::NotAllowed)));
    // At the relay, by the gateway's list, when a gateway asks all the same.
    let host = other.ip().to_string();
    let asked = timeout(SOON, tunnel.connect(&host, other.port(), 0)).await.expect("in time");
    let error = asked.map(|_| ()).expect_err("refused");
    assert!(matches!(error, corral_transport::tunnel::TunnelError::NotAllowed), "{error}");
    assert_eq!(tunnel.streams(), 0);
    // And the tunnel lives on.
    gateway.pool.allow(&support::allowed(&[target.to_string(), other.to_string()]));
    let mut stream = gateway.dial(other).await.expect("a change of the list is in use at once");
    echo(&mut stream, b"hello").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_cannot_be_reached_is_told_and_ends_nothing_else() {
    let target = echo_target().await;
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let mut gateway = Gateway::start(&[target.to_string(), closed.to_string()]).await;
    assert!(matches!(gateway.dial(target).await, Err(DialError::NoRelay)));
    let (_relay, _tunnel) = gateway.relay(&[]).await;
    let mut stream = gateway.dial(target).await.expect("dialled");
    let error = gateway.dial(closed).await.map(|_| ()).expect_err("nobody listens");
    assert!(matches!(error, DialError::Relay(_)), "{error}");
    echo(&mut stream, b"still here").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_gone_ends_its_streams_and_others_serve() {
    let target = echo_target().await;
    let mut gateway = Gateway::start(&[target.to_string()]).await;
    let (first, _) = gateway.relay(&[]).await;
    let mut stream = gateway.dial(target).await.expect("dialled");
    echo(&mut stream, b"through the first").await;
    let (_second, _) = gateway.relay(&[]).await;

    first.task.abort();
    let mut byte = [0_u8; 1];
    let end = timeout(SOON, stream.read(&mut byte)).await.expect("ends in time");
    assert!(end.is_err(), "a lost connection is no orderly end: {end:?}");
    assert!(gateway.ended.recv().await.is_some());

    let mut stream = gateway.dial(target).await.expect("the second one serves");
    echo(&mut stream, b"through the second").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_spread_over_the_relays_of_a_name() {
    let target = echo_target().await;
    let mut gateway = Gateway::start(&[target.to_string()]).await;
    let (_first, one) = gateway.relay(&[]).await;
    let (_second, two) = gateway.relay(&[]).await;
    let mut streams = Vec::new();
    for _ in 0..10 {
        streams.push(gateway.dial(target).await.expect("dialled"));
    }
    assert_eq!((one.streams(), two.streams()), (5, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_stops_cuts_nothing_and_takes_nothing() {
    let target = echo_target().await;
    let mut gateway = Gateway::start(&[target.to_string()]).await;
    let (first, one) = gateway.relay(&[]).await;
    let mut old = gateway.dial(target).await.expect("dialled");
    let (_second, two) = gateway.relay(&[]).await;

    first.signal();
    timeout(SOON, async {
        while one.is_open() {
            tokio::time::sleep(Duration::from_millis(5)).await
        }
    })
    .await
    .expect("the gateway hears that it stops");
    let mut fresh = Vec::new();
    for _ in 0..3 {
        fresh.push(gateway.dial(target).await.expect("dialled"));
    }
    assert_eq!((one.streams(), two.streams()), (1, 3));
    echo(&mut old, b"what runs goes on").await;
    assert!(!first.task.is_finished());
    old.shutdown().await.unwrap();
    let mut end = Vec::new();
    old.read_to_end(&mut end).await.expect("an orderly end");
    drop(old);
    first.ended().await.expect("the relay stops after its last stream");
}

/// A relay that was told to stop while this stream is open.
async fn stopping(gateway: &mut Gateway, drain: Duration) -> (Relay, Stream) {
    let target = echo_target().await;
    gateway.pool.allow(&support::allowed(&[target.to_string()]));
    let relay = Relay::start_with(gateway, &gateway.authority, RELAY, &[], drain);
    let tunnel = gateway.joined.recv().await.expect("joins");
    let mut stream = gateway.dial(target).await.expect("dialled");
    echo(&mut stream, b"before").await;
    relay.signal();
    timeout(SOON, async {
        while tunnel.is_open() {
            tokio::time::sleep(Duration::from_millis(5)).await
        }
    })
    .await
    .expect("the gateway hears that it stops");
    (relay, stream)
}

async fn is_cut(mut stream: Stream) {
    let end = timeout(SOON, stream.read_u8()).await.expect("ends in time");
    assert!(end.is_err(), "nothing comes any more: {end:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_cut_when_the_time_to_finish_is_over() {
    const DRAIN: Duration = Duration::from_millis(700);
    let mut gateway = Gateway::start(&[]).await;
    let started = Instant::now();
    let (relay, mut stream) = stopping(&mut gateway, DRAIN).await;
    echo(&mut stream, b"meanwhile").await;
    relay.ended().await.expect("it stops");
    assert!(started.elapsed() >= DRAIN);
    is_cut(stream).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_cuts_streams_at_once() {
    let mut gateway = Gateway::start(&[]).await;
    let (relay, mut stream) = stopping(&mut gateway, Duration::from_secs(60)).await;
    echo(&mut stream, b"meanwhile").await;
    relay.signal();
    relay.ended().await.expect("it stops");
    is_cut(stream).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_list_is_for_the_next_stream() {
    let target = echo_target().await;
    let other = echo_target().await;
    let mut gateway = Gateway::start(&[target.to_string()]).await;
    let (_relay, tunnel) = gateway.relay(&[]).await;
    let mut open = gateway.dial(target).await.expect("dialled");
    echo(&mut open, b"before").await;

    gateway.pool.allow(&support::allowed(&[other.to_string()]));
    assert!(matches!(gateway.dial(target).await, Err(DialError::NotAllowed)));
    let mut fresh = gateway.dial(other).await.expect("dialled");
    echo(&mut fresh, b"the other").await;
    // At the relay too, which has the changed list by now.
    let host = target.ip().to_string();
    let asked = timeout(SOON, tunnel.connect(&host, target.port(), 0)).await.expect("in time");
    let error = asked.map(|_| ()).expect_err("refused");
    assert!(matches!(error, corral_transport::tunnel::TunnelError::NotAllowed), "{error}");
    echo(&mut open, b"what was open stays").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_before_a_close_arrives() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap();
    let mut gateway = Gateway::start(&[target.to_string()]).await;
    let (_relay, _tunnel) = gateway.relay(&[]).await;
    let mut stream = gateway.dial(target).await.expect("dialled");
    let (mut socket, _) = listener.accept().await.unwrap();
    let bytes = vec![3_u8; 200_000];
    stream.write_all(&bytes).await.unwrap();
    drop(stream);
    let mut got = Vec::new();
    timeout(SOON, socket.read_to_end(&mut got)).await.expect("ends").expect("an orderly end");
    assert_eq!(got.len(), bytes.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_others_are_not_taken() {
    let target = echo_target().await;
    let mut gateway = Gateway::start(&[target.to_string()]).await;
    // By an authority that says the same of itself.
    let foreign = Relay::start(&gateway, &Authority::new(), RELAY, &[]);
    let end = timeout(SOON, gateway.ended.recv()).await.expect("in time").expect("an end");
    assert!(end.starts_with("handshake"), "{end}");
    foreign.task.abort();
    // By the right authority, for another name: the settings name the pool that it came to.
    let liar = Relay::start(&gateway, &gateway.authority, "us-1", &[]);
    let end = timeout(SOON, gateway.ended.recv()).await.expect("in time").expect("an end");
    assert!(end.contains("another name"), "{end}");
    liar.task.abort();
    assert!(gateway.pool.members().is_empty());
    assert!(matches!(gateway.dial(target).await, Err(DialError::NoRelay)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateways_certificate_is_no_relays_and_the_reverse() {
    let gateway = Gateway::start(&[]).await;
    let authority = &gateway.authority;
    let (certificate, key) = authority.certificate(support::Whose::Gateway);
    let tls = corral_transport::tunnel::RelayTls::new(&certificate, &key, &authority.pem).unwrap();
    // TLS 1.3 tells a client only at its first read that its certificate is not taken.
    if let Ok(mut stream) = tls.connect(&gateway.address.to_string()).await {
        assert!(stream.read_u8().await.is_err());
    }
    let mut gateway = gateway;
    let end = timeout(SOON, gateway.ended.recv()).await.expect("in time").expect("an end");
    assert!(end.starts_with("handshake"), "{end}");

    let (certificate, key) = gateway.authority.certificate(support::Whose::Relay(RELAY));
    let posing =
        corral_transport::tunnel::GatewayTls::new(&certificate, &key, &gateway.authority.pem);
    let posing = posing.unwrap();
    let listener = corral_transport::Listener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.address();
    let (certificate, key) = gateway.authority.certificate(support::Whose::Relay(RELAY));
    let relay = corral_transport::tunnel::RelayTls::new(&certificate, &key, &gateway.authority.pem)
        .unwrap();
    let accept = async {
        let accepted = listener.accept().await.unwrap();
        posing.accept(accepted.stream.into_plain().unwrap()).await.map(|_| ())
    };
    let text = address.to_string();
    let (_, connected) = tokio::join!(accept, relay.connect(&text));
    assert!(connected.is_err(), "a relay takes no relay for its gateway");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_takes_its_next_certificate_and_no_other() {
    use corral_transport::tunnel::Installed;
    use std::os::unix::fs::PermissionsExt;

    let target = echo_target().await;
    let mut gateway = Gateway::start(&[target.to_string()]).await;
    let (relay, tunnel) = gateway.relay(&[]).await;
    let path = relay.directory.path().join("relay.json");
    let kept = || std::fs::read_to_string(&path).expect("kept");
    let before = kept();

    // Not asked for, for another key, by another authority, for another name.
    let (unasked, _) = gateway.authority.certificate(support::Whose::Relay(RELAY));
    let install = async |certificate_pem: &str| {
        tunnel.install(&Installed { certificate_pem: certificate_pem.to_owned() }).await
    };
    install(&unasked).await.expect_err("was not asked for");
    tunnel.ask_request().await.expect("a request");
    install(&unasked).await.expect_err("is for another key");
    let request = tunnel.ask_request().await.expect("a request").request_pem;
    let other_name = gateway.authority.sign(&request, "us-1");
    install(&other_name).await.expect_err("is for another relay");
    assert_eq!(kept(), before, "nothing of that was kept");

    let request = tunnel.ask_request().await.expect("a request").request_pem;
    let next = gateway.authority.sign(&request, RELAY);
    install(&next).await.expect("taken");
    let after = kept();
    assert!(after != before && after.contains("PRIVATE KEY"));
    let mode = std::fs::metadata(&path).expect("kept").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // The next connection shows it.
    let shown = corral_transport::tunnel::RelayCertificate::read_pem(&next).expect("readable");
    tunnel.end();
    gateway.joined.recv().await.expect("joins again by itself");
    let members = gateway.pool.members();
    assert_eq!(members.last().expect("joined").certificate, shown);
}
