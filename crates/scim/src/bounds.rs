//! Limits of what a provider may send, with units and reasons.

/// One filter, or one path of a patch, in bytes: a hundred comparisons of e-mail addresses.
pub const FILTER_BYTES_MAX: usize = 16 * 1024;
/// Operations of one patch: providers send a group's members in batches of up to 1,000.
pub const PATCH_OPERATIONS_MAX: usize = 1_000;
/// Members of one group.
pub const MEMBERS_MAX: usize = 10_000;
/// Values of any other attribute that has several.
pub const VALUES_MAX: usize = 100;
/// One text, in bytes: a certificate in base 64 is the longest that anybody sends.
pub const TEXT_BYTES_MAX: usize = 16 * 1024;
/// One document without its members, as JSON, in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 256 * 1024;
/// Resources in one answer; also what an answer holds when nobody says how many.
pub const PAGE_LEN_MAX: usize = 500;
/// Names in `attributes` or `excludedAttributes`.
pub const PROJECTION_LEN_MAX: usize = 100;
