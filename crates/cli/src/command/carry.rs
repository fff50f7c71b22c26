//! `carry`: joins standard input and output with a wrapper's socket, for clients that start a
//! program instead of opening a socket. The wrapper takes it for the process that started it.

use std::path::PathBuf;

use clap::Args;
use tokio::io::{copy_bidirectional, join, stdin, stdout};
use tokio::net::UnixStream;

use crate::failure::Failure;

/// Join standard input and output with a socket of `corral run`; the files that it writes call it
#[derive(Debug, Clone, Args)]
pub struct CarryArgs {
    /// The socket
    #[arg(value_name = "SOCKET")]
    pub socket: PathBuf,
}

pub(crate) async fn carry(args: CarryArgs) -> Result<(), Failure> {
    let fail = |error: std::io::Error| Failure::io("connect to", &args.socket, &error);
    let mut wrapper = UnixStream::connect(&args.socket).await.map_err(fail)?;
    let mut client = join(stdin(), stdout());
    // How the connection ends is told by what stands on it.
    let _ = copy_bidirectional(&mut client, &mut wrapper).await;
    // A thread that waits for standard input would keep this process for as long as it waits.
    std::process::exit(0)
}
