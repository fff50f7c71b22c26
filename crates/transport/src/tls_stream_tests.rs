//! A client of rustls's own, with buffers, against the stream.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use corral_model::limits::{TLS_OVERHEAD_BYTES, TLS_PIECE_BYTES};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional_with_sizes, duplex};
use tokio::net::UnixStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::ServerTlsStream;
use crate::stream::Plain;

type Version = &'static rustls::SupportedProtocolVersion;
const VERSIONS: [Version; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

struct Keys {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

fn keys(version: Version) -> Keys {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("certificate");
    let certificate = CertificateDer::from(made.cert.der().to_vec());
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[version])
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .expect("usable");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).expect("a root");
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Keys { server: Arc::new(server), client: Arc::new(client) }
}

fn name() -> ServerName<'static> {
    ServerName::try_from("localhost").expect("a name")
}

async fn connected(version: Version) -> (TlsStream<UnixStream>, ServerTlsStream) {
    let keys = keys(version);
    let (near, far) = UnixStream::pair().expect("sockets");
    let (client, server) = tokio::join!(
        TlsConnector::from(keys.client).connect(name(), near),
        ServerTlsStream::accept(keys.server, Plain::Unix(far)),
    );
    (client.expect("client"), server.expect("server"))
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at % 251).expect("small")).collect()
}

fn is_holding_nothing(stream: &ServerTlsStream) -> bool {
    let kept = &stream.kept;
    [&stream.incoming, &kept.plaintext, &kept.outgoing].iter().all(|buffer| buffer.capacity() == 0)
}

/// Echoes until the client is done, in reads of different lengths.
async fn echo(mut stream: ServerTlsStream) -> io::Result<ServerTlsStream> {
    let mut buffer = vec![0; 40_000];
    for len in [1, 7, 100, 16_384, 40_000].into_iter().cycle() {
        let count = stream.read(&mut buffer[..len]).await?;
        if count == 0 {
            break;
        }
        stream.write_all(&buffer[..count]).await?;
        stream.flush().await?;
    }
    stream.shutdown().await?;
    Ok(stream)
}

#[tokio::test]
async fn what_goes_in_comes_out_whatever_its_length() {
    for version in VERSIONS {
        for len in [1, 100, 16_384, 16_385, 3_000_000] {
            let (client, server) = connected(version).await;
            let server = tokio::spawn(echo(server));
            let (mut reads, mut writes) = tokio::io::split(client);
            let sent = pattern(len);
            let expect = sent.clone();
            let writer = tokio::spawn(async move {
                writes.write_all(&sent).await.expect("written");
                writes.shutdown().await.expect("said");
            });
            let mut got = Vec::new();
            reads.read_to_end(&mut got).await.expect("the end was said");
            assert!(got == expect, "{len} bytes with {version:?}");
            writer.await.expect("no panic");
            let server = server.await.expect("no panic").expect("no error");
            assert!(is_holding_nothing(&server), "after {len} bytes with {version:?}");
        }
    }
}

#[tokio::test]
async fn bytes_may_come_one_by_one() {
    for version in VERSIONS {
        let keys = keys(version);
        let (near, mut middle) = duplex(1);
        let (mut across, far) = UnixStream::pair().expect("sockets");
        tokio::spawn(
            async move { copy_bidirectional_with_sizes(&mut middle, &mut across, 1, 1).await },
        );
        let server = tokio::spawn(async move {
            echo(ServerTlsStream::accept(keys.server, Plain::Unix(far)).await?).await
        });
        let mut client = TlsConnector::from(keys.client).connect(name(), near).await.expect("TLS");
        let sent = pattern(5_000);
        let mut got = vec![0; sent.len()];
        for (part, room) in sent.chunks(900).zip(got.chunks_mut(900)) {
            client.write_all(part).await.expect("written");
            client.flush().await.expect("flushed");
            client.read_exact(room).await.expect("an answer");
        }
        assert!(got == sent, "{version:?}");
        client.shutdown().await.expect("said");
        server.await.expect("no panic").expect("no error");
    }
}

#[tokio::test]
async fn nothing_is_held_while_nothing_is_on_its_way() {
    let (mut client, mut server) = connected(&rustls::version::TLS13).await;
    assert!(is_holding_nothing(&server), "after the handshake");
    client.write_all(b"a question").await.expect("written");
    let mut question = [0; 10];
    server.read_exact(&mut question[..3]).await.expect("read");
    assert!(!is_holding_nothing(&server), "the rest of the record");
    server.read_exact(&mut question[3..]).await.expect("read");
    server.write_all(b"an answer").await.expect("written");
    server.flush().await.expect("flushed");
    assert_eq!(&question, b"a question");
    assert!(is_holding_nothing(&server));
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_up_the_writer_and_gets_all_later() {
    let (mut client, mut server) = connected(&rustls::version::TLS13).await;
    let sent = pattern(8_000_000);
    let expect = sent.clone();
    let mut taken = 0;
    poll_fn(|cx| {
        while let Poll::Ready(done) = Pin::new(&mut server).poll_write(cx, &sent[taken..]) {
            taken += done.expect("written");
        }
        Poll::Ready(())
    })
    .await;
    assert!(taken < sent.len(), "it was held up");
    let waiting = server.kept.outgoing.len();
    assert!(waiting <= TLS_PIECE_BYTES + TLS_OVERHEAD_BYTES, "{waiting} bytes wait");
    let server = tokio::spawn(async move {
        server.write_all(&sent[taken..]).await?;
        server.shutdown().await?;
        io::Result::Ok(server)
    });
    let mut got = Vec::new();
    client.read_to_end(&mut got).await.expect("the end was said");
    assert!(got == expect);
    assert!(is_holding_nothing(&server.await.expect("no panic").expect("no error")));
}

#[tokio::test]
async fn an_end_that_was_not_said_is_an_error_and_one_that_was_is_not() {
    for version in VERSIONS {
        let (mut client, mut server) = connected(version).await;
        client.write_all(b"x").await.expect("written");
        client.shutdown().await.expect("said");
        let mut got = Vec::new();
        assert_eq!(server.read_to_end(&mut got).await.expect("an end"), 1);
        assert_eq!(server.read(&mut [0; 8]).await.expect("still the end"), 0);

        let (client, mut server) = connected(version).await;
        let (mut io, _session) = client.into_inner();
        io.shutdown().await.expect("of the socket alone");
        let error = server.read(&mut [0; 8]).await.expect_err("cut off");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}

#[tokio::test]
async fn a_changed_record_ends_the_connection_and_the_client_is_told() {
    let (client, mut server) = connected(&rustls::version::TLS13).await;
    let (mut io, mut session) = client.into_inner();
    io.write_all(&[0x17, 3, 3, 0, 32]).await.expect("written");
    io.write_all(&[7; 32]).await.expect("written");
    let error = server.read(&mut [0; 8]).await.expect_err("not authentic");
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    let error = server.write(b"more").await.expect_err("nothing may follow the alert");
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    let error = server.read(&mut [0; 8]).await.expect_err("nothing is read any more");
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    server.shutdown().await.expect("of the socket alone");

    let mut said = vec![0; 4096];
    let count = io.read(&mut said).await.expect("an alert");
    session.read_tls(&mut &said[..count]).expect("in memory");
    let error = session.process_new_packets().expect_err("an alert");
    let alert = rustls::Error::AlertReceived(rustls::AlertDescription::BadRecordMac);
    assert_eq!(error, alert);
}

#[tokio::test]
async fn bytes_that_are_not_tls_end_the_handshake() {
    let keys = keys(&rustls::version::TLS13);
    let (mut near, far) = UnixStream::pair().expect("sockets");
    near.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("written");
    let error = ServerTlsStream::accept(keys.server, Plain::Unix(far)).await.expect_err("not TLS");
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    let mut alert = Vec::new();
    near.read_to_end(&mut alert).await.expect("read");
    assert_eq!(alert.first(), Some(&0x15), "an alert");
}

#[tokio::test]
async fn a_handshake_message_without_end_is_bounded() {
    let keys = keys(&rustls::version::TLS13);
    let (mut near, far) = UnixStream::pair().expect("sockets");
    let server = tokio::spawn(ServerTlsStream::accept(keys.server, Plain::Unix(far)));
    // A ClientHello of 16 MiB less one byte, in records of 8 KiB.
    let mut payload = vec![0; 8192];
    payload[..4].copy_from_slice(&[1, 0xff, 0xff, 0xff]);
    let mut sent = 0;
    for _ in 0..2047 {
        let head = [0x16, 3, 1, 0x20, 0];
        let is_closed =
            near.write_all(&head).await.is_err() || near.write_all(&payload).await.is_err();
        if is_closed {
            break;
        }
        sent += payload.len();
        payload[..4].fill(0);
    }
    server.await.expect("no panic").expect_err("too long");
    assert!(sent < 4 * 1024 * 1024, "{sent} bytes were taken");
}

#[tokio::test]
async fn a_client_may_change_its_keys() {
    let (client, mut server) = connected(&rustls::version::TLS13).await;
    let (io, mut session) = client.into_inner();
    session.refresh_traffic_keys().expect("TLS 1.3");
    let mut client = ByHand { io, session };
    client.write(b"with new keys").await;
    let mut got = [0; 13];
    server.read_exact(&mut got).await.expect("read");
    assert_eq!(&got, b"with new keys");
    server.write_all(b"so be it").await.expect("written");
    server.flush().await.expect("flushed");
    assert_eq!(client.read(8).await, b"so be it");
}

/// A client's connection whose keys can be changed.
struct ByHand {
    io: UnixStream,
    session: rustls::ClientConnection,
}

impl ByHand {
    async fn write(&mut self, bytes: &[u8]) {
        io::Write::write_all(&mut self.session.writer(), bytes).expect("in memory");
        let mut out = Vec::new();
        while self.session.wants_write() {
            self.session.write_tls(&mut out).expect("in memory");
        }
        self.io.write_all(&out).await.expect("written");
    }

    async fn read(&mut self, len: usize) -> Vec<u8> {
        let mut got = Vec::new();
        while got.len() < len {
            let mut chunk = [0; 4096];
            let count = self.io.read(&mut chunk).await.expect("read");
            assert!(count > 0, "it ended");
            self.session.read_tls(&mut &chunk[..count]).expect("in memory");
            let state = self.session.process_new_packets().expect("authentic");
            let mut part = vec![0; state.plaintext_bytes_to_read()];
            io::Read::read_exact(&mut self.session.reader(), &mut part).expect("in memory");
            got.extend(part);
        }
        got
    }
}
