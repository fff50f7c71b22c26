//! No bytes make the decoders of this side panic.
#![no_main]

use corral_protocol_postgres::codec::any;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = any::opening(bytes);
});
