//! Owns the sockets: listening, TLS on both sides, dialling targets. It decides nothing.

pub mod backoff;
pub mod dial;
pub mod endpoint;
pub mod listen;
pub mod stream;
mod tcp;
pub mod tls;
mod tls_stream;
pub mod tunnel;

pub use corral_model::resource::TargetTlsMode;
pub use dial::{
    ClientIdentity, DialError, TargetTlsStream, TlsOffer, start_target_tls, start_target_tls_with,
};
pub use endpoint::{Address, Endpoint, Route};
pub use listen::{Accepted, Listener};
pub use stream::Stream;
pub use tls::{Resumption, ServerTls, TlsError};
pub use tls_stream::ServerTlsStream;
