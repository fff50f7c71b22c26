//! Owns the sockets: listening, TLS on both sides, dialling targets. It decides nothing.

pub mod dial;
pub mod endpoint;
pub mod listen;
pub mod stream;
pub mod tls;

pub use dial::{DialError, TargetTlsStream, dial, start_target_tls};
pub use endpoint::{Address, Endpoint};
pub use listen::{Accepted, Listener};
pub use stream::Stream;
pub use tls::{ServerTls, TlsError};
