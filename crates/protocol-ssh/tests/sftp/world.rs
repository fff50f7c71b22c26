//! A client that speaks by hand, the proxy, and a target: OpenSSH's own server, or a scripted one.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use corral_protocol_ssh::sftp::{ClientSide, Ending, Opener, Piece, Side, serve};
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf,
};
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::gateway::{Rule, Told, open_session};
use crate::packets::{Packet, init};

const SERVER: &str = "/usr/lib/openssh/sftp-server";
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct World {
    pub(crate) told: Arc<Told>,
    pub(crate) client: Client,
    pub(crate) directory: tempfile::TempDir,
    pub(crate) notice: DuplexStream,
    served: JoinHandle<Ending>,
    _server: Option<Child>,
}

/// The client's end.
pub(crate) struct Client {
    pub(crate) stream: DuplexStream,
}

impl World {
    /// With OpenSSH's server, and versions exchanged.
    pub(crate) async fn new(rule: Rule) -> Self {
        let mut world = Self::unopened(rule).await;
        world.client.send(&init()).await;
        assert_eq!(world.client.receive().await.kind(), 2);
        world
    }

    /// With OpenSSH's server; the client has said nothing.
    pub(crate) async fn unopened(rule: Rule) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut server = Command::new(SERVER)
            .current_dir(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("openssh-sftp-server is installed (.ci/setup hosts)");
        let input = server.stdin.take().expect("piped");
        let output = server.stdout.take().expect("piped");
        let target = tokio::io::join(output, input);
        Self::start(rule, target, directory, Some(server)).await
    }

    /// With a target that a test plays.
    pub(crate) async fn scripted(rule: Rule) -> (Self, Client) {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let directory = tempfile::tempdir().expect("a directory");
        (Self::start(rule, near, directory, None).await, Client { stream: far })
    }

    async fn start<T>(
        rule: Rule,
        target: T,
        directory: tempfile::TempDir,
        server: Option<Child>,
    ) -> Self
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let told = Arc::new(Told::default());
        let session = open_session(&told, rule).await;
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (notice, notice_far) = tokio::io::duplex(64 * 1024);
        let served = tokio::spawn(async move {
            let client = NearClient { pipe: Pipe::new(far), notice: Mutex::new(notice_far) };
            let opener = Opener { account: "root", traceparent: None };
            serve(&session, opener, &client, &Pipe::new(target)).await
        });
        let client = Client { stream: near };
        Self { told, client, directory, notice, served, _server: server }
    }

    /// Of a file in the target's login directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home().join(name)
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.directory.path().canonicalize().expect("it is there")
    }

    /// A path for a packet or a statement's text.
    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("UTF-8").to_owned()
    }

    pub(crate) async fn ending(&mut self) -> Ending {
        let served = timeout(PATIENCE, &mut self.served).await.expect("it ends in time");
        served.expect("no panic")
    }

    /// The client leaves; waits for the end.
    pub(crate) async fn leave(mut self) -> (Arc<Told>, Ending) {
        drop(self.client);
        let ending = timeout(PATIENCE, &mut self.served).await.expect("it ends in time");
        (self.told, ending.expect("no panic"))
    }
}

/// One end of the channel, as the proxy has it.
struct Pipe<S> {
    input: Mutex<ReadHalf<S>>,
    output: Mutex<WriteHalf<S>>,
}

impl<S: AsyncRead + AsyncWrite> Pipe<S> {
    fn new(stream: S) -> Self {
        let (input, output) = tokio::io::split(stream);
        Self { input: Mutex::new(input), output: Mutex::new(output) }
    }
}

impl<S: AsyncRead + AsyncWrite + Send> Side for Pipe<S> {
    async fn next(&self) -> Piece {
        let mut bytes = BytesMut::with_capacity(64 * 1024);
        match self.input.lock().await.read_buf(&mut bytes).await {
            Ok(1..) => Piece::Bytes(bytes.freeze()),
            Ok(0) | Err(_) => Piece::End,
        }
    }

    async fn taken(&self, _: usize) {}

    async fn send(&self, bytes: Bytes) -> bool {
        self.output.lock().await.write_all(&bytes).await.is_ok()
    }

    async fn end(&self) {
        let _ = self.output.lock().await.shutdown().await;
    }
}

struct NearClient {
    pipe: Pipe<DuplexStream>,
    notice: Mutex<DuplexStream>,
}

impl Side for NearClient {
    async fn next(&self) -> Piece {
        self.pipe.next().await
    }

    async fn taken(&self, count: usize) {
        self.pipe.taken(count).await;
    }

    async fn send(&self, bytes: Bytes) -> bool {
        self.pipe.send(bytes).await
    }

    async fn end(&self) {
        self.pipe.end().await;
    }
}

impl ClientSide for NearClient {
    async fn tell(&self, bytes: Bytes) {
        let _ = self.notice.lock().await.write_all(&bytes).await;
    }
}

impl Client {
    pub(crate) async fn send(&mut self, packet: &Packet) {
        self.send_bytes(&packet.framed()).await;
    }

    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        let sent = timeout(PATIENCE, self.stream.write_all(bytes)).await;
        sent.expect("it is read in time").expect("open");
    }

    /// The next packet.
    pub(crate) async fn receive(&mut self) -> Packet {
        self.try_receive().await.expect("a packet, not the end")
    }

    /// The next packet; None at the end.
    pub(crate) async fn try_receive(&mut self) -> Option<Packet> {
        let mut field = [0; 4];
        let got = timeout(PATIENCE, self.stream.read_exact(&mut field)).await.expect("an answer");
        got.ok()?;
        let mut packet = vec![0; u32::from_be_bytes(field) as usize];
        self.stream.read_exact(&mut packet).await.ok()?;
        Some(Packet(packet))
    }

    pub(crate) async fn ask(&mut self, packet: &Packet) -> Packet {
        self.send(packet).await;
        let answer = self.receive().await;
        assert_eq!(answer.id(), packet.id());
        answer
    }

    /// Plays a target's first words: version with extensions, login directory.
    pub(crate) async fn greet(&mut self, extensions: &[(&str, &str)]) {
        assert_eq!(self.receive().await, init());
        let version = extensions
            .iter()
            .fold(Packet::new(2, 3), |packet, (name, data)| packet.str(name).str(data));
        self.send(&version).await;
        let asked = self.receive().await;
        assert_eq!(asked, Packet::new(16, 0).str("."));
        self.send(&Packet::new(104, 0).u32(1).str("/home/deploy").str("").u32(0)).await;
    }
}
