//! The floor: a bare copy proxy, the least that anything between client and target can cost.
//!
//!     corral-floor HOST:PORT [--tls]
//!
//! It prints the address that it listens on and copies until it is killed. With `--tls` it ends
//! TLS in PostgreSQL's way and copies in clear to the target.

use std::io;
use std::process::ExitCode;

use anyhow::{Context, bail};
use corral_transport::{Listener, Resumption, ServerTls, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional_with_sizes};
use tokio::net::TcpStream;

const BUFFER_BYTES: usize = 32 * 1024;
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

#[tokio::main]
async fn main() -> ExitCode {
    match serve().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("corral-floor: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (target, tls) = match arguments.as_slice() {
        [target] => (target.clone(), None),
        [target, flag] if flag == "--tls" => (target.clone(), Some(self_signed()?)),
        _ => bail!("usage: corral-floor HOST:PORT [--tls]"),
    };
    let listener = Listener::bind("127.0.0.1:0").await?;
    println!("{}", listener.address());
    loop {
        let accepted = listener.accept().await?;
        let (target, tls) = (target.clone(), tls.clone());
        tokio::spawn(async move {
            // A connection that breaks ends; the next one does not care.
            let _ = copy(accepted.stream, &target, tls).await;
        });
    }
}

async fn copy(client: Stream, target: &str, tls: Option<ServerTls>) -> io::Result<()> {
    let mut client: Stream = match tls {
        Some(tls) => start_tls(client, &tls).await?,
        None => client,
    };
    let mut target = TcpStream::connect(target).await?;
    target.set_nodelay(true)?;
    copy_bidirectional_with_sizes(&mut client, &mut target, BUFFER_BYTES, BUFFER_BYTES).await?;
    Ok(())
}

async fn start_tls(mut client: Stream, tls: &ServerTls) -> io::Result<Stream> {
    let mut request = [0_u8; SSL_REQUEST.len()];
    client.read_exact(&mut request).await?;
    if request != SSL_REQUEST {
        return Err(io::Error::other("the client did not ask for TLS"));
    }
    client.write_all(b"S").await?;
    client.flush().await?;
    let plain = client.into_plain().map_err(|_| io::Error::other("TLS is already running"))?;
    tls.accept(plain).await
}

fn self_signed() -> anyhow::Result<ServerTls> {
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])
        .context("making a certificate")?;
    let chain = certified.cert.pem();
    let key = certified.signing_key.serialize_pem();
    // As the gateway's for this protocol.
    ServerTls::new(chain.as_bytes(), key.as_bytes(), &[], Resumption::Refused)
        .context("using the certificate")
}
