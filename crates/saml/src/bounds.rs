//! Limits, with units and reasons.

use std::time::Duration;

/// A response, decoded, in bytes: an assertion with 10,000 groups of 40 characters, twice.
pub const RESPONSE_BYTES_MAX: usize = 1024 * 1024;
/// A provider's metadata, in bytes.
pub const METADATA_BYTES_MAX: usize = 512 * 1024;
/// Levels of elements: an honest response has 9.
pub const DEPTH_MAX: u32 = 24;
/// Elements of one document.
pub const ELEMENTS_MAX: usize = 50_000;
/// Certificates of one provider: two, while it changes them.
pub const CERTIFICATES_MAX: usize = 8;
/// Values of all attributes of one assertion.
pub const VALUES_MAX: usize = 10_000;
/// One value, in bytes.
pub const VALUE_BYTES_MAX: usize = 4 * 1024;
/// An id that a provider gave, in bytes.
pub const ID_BYTES_MAX: usize = 256;
/// How far the clocks of provider and gateway may be apart.
pub const CLOCK_LEEWAY: Duration = Duration::from_secs(60);
/// How long after it was issued an assertion is taken, whatever it says of itself.
pub const ASSERTION_AGE_MAX: Duration = Duration::from_secs(10 * 60);
