//! The gateway's own words with a target's SFTP server, before the client is heard: versions, the
//! login directory, limits.

use bytes::{Buf, BytesMut};
use corral_gate::{Harmless, TargetBuffer};

use crate::sftp::bounds;
use crate::sftp::codec::{
    self, Builder, FrameError, LENGTH_BYTES, Malformed, Reply, Version, kind, read_limits,
};
use crate::sftp::extension::Extensions;
use crate::sftp::path::{AbsolutePath, PathError};
use crate::sftp::plan::TargetFacts;
use crate::sftp::serve::{Piece, Side};

/// Why a target's SFTP server cannot be used: the target is to blame.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HelloError {
    #[error("it ended")]
    Ended,
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Malformed(#[from] Malformed),
    #[error("it speaks version {0}, and 3 is needed")]
    Version(u32),
    #[error("it does not say what the login directory is")]
    NoLoginDirectory,
    #[error("its login directory cannot be used: {0}")]
    LoginDirectory(#[from] PathError),
}

/// Asks what must be known to decide on paths. What the target sent beyond its answers comes
/// back.
///
/// # Errors
/// The target is to blame.
///
/// # Cancel safety
/// None: the channel is of no use when this was dropped.
pub(crate) async fn ask<T: Side>(
    target: &T,
    account: &str,
) -> Result<(TargetFacts, BytesMut), HelloError> {
    let mut words = Words { target, input: BytesMut::new() };
    let packet = words.ask(Builder::new(kind::INIT, codec::VERSION)).await?;
    let version = Version::read(&packet)?;
    if version.version != codec::VERSION {
        return Err(HelloError::Version(version.version));
    }
    let extensions = Extensions::of(&version.extensions);

    let packet = words.ask(Builder::new(kind::REALPATH, 0).string(b".")).await?;
    let home = match Reply::read(&packet)? {
        (0, Reply::Names { count: 1, first }) if first.starts_with(b"/") => {
            AbsolutePath::root().join(first)?
        }
        _ => return Err(HelloError::NoLoginDirectory),
    };

    let mut limits = None;
    if extensions.has(LIMITS) {
        let packet = words.ask(Builder::new(kind::EXTENDED, 1).string(LIMITS)).await?;
        limits = match Reply::read(&packet)? {
            (1, Reply::Extended(content)) => Some(within_own(read_limits(content)?)),
            _ => return Err(HelloError::Malformed(Malformed)),
        };
    }
    Ok((TargetFacts { home, extensions, limits, account: account.to_owned() }, words.input))
}

/// The talk with a target before its client is heard.
struct Words<'t, T> {
    target: &'t T,
    input: BytesMut,
}

impl<T: Side> Words<'_, T> {
    /// Sends a packet; gives the next one after its length field.
    async fn ask(&mut self, packet: Builder) -> Result<BytesMut, HelloError> {
        let mut output = TargetBuffer::default();
        output.push_harmless(Harmless::Login, &packet.into_packet());
        if !self.target.send(output.take()).await {
            return Err(HelloError::Ended);
        }
        loop {
            if let Some(length) = codec::frame_length(&self.input)? {
                let mut packet = self.input.split_to(length);
                packet.advance(LENGTH_BYTES);
                return Ok(packet);
            }
            match self.target.next().await {
                Piece::Bytes(bytes) => {
                    self.target.taken(bytes.len()).await;
                    self.input.extend_from_slice(&bytes);
                }
                Piece::Aside(bytes) => self.target.taken(bytes.len()).await,
                Piece::End => return Err(HelloError::Ended),
            }
        }
    }
}

const LIMITS: &[u8] = b"limits@openssh.com";

/// Zero says that there is no such limit, or none that the server knows.
fn within_own(theirs: [u64; 4]) -> [u64; 4] {
    let read_bytes = u64::from(bounds::READ_BYTES_MAX);
    let wide = |limit: usize| u64::try_from(limit).unwrap_or(u64::MAX);
    let own = [wide(bounds::PACKET_BYTES_MAX), read_bytes, read_bytes, wide(bounds::HANDLES_MAX)];
    let mut both = own;
    for (limit, theirs) in both.iter_mut().zip(theirs) {
        if theirs != 0 {
            *limit = theirs.min(*limit);
        }
    }
    both
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_the_smaller_ones() {
        let own = within_own([0, 0, 0, 0]);
        assert_eq!(own, [257 * 1024, 255 * 1024, 255 * 1024, 512]);
        assert_eq!(within_own([34_000, 32_768, u64::MAX, 9]), [34_000, 32_768, own[2], 9]);
    }
}
