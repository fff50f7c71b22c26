//! Which columns are masked in a session, from one statement to the next.

use std::sync::Arc;

use corral_model::resource::ColumnName;

use crate::analysis::MaskScope;
use crate::digest::digest;

/// A mask scope with a number and a digest, so that analyses can be kept.
#[derive(Debug)]
pub(crate) struct Scope {
    pub(crate) mask: MaskScope,
    /// Grows within a session.
    pub(crate) version: u64,
    pub(crate) digest: Arc<str>,
}

impl Scope {
    pub(crate) fn new(
        classified: Arc<[ColumnName]>,
        masked: Arc<[ColumnName]>,
        version: u64,
    ) -> Self {
        let parts = classified.iter().map(|column| ("c", column));
        let parts = parts.chain(masked.iter().map(|column| ("m", column)));
        let digest = digest(
            parts.flat_map(|(kind, column)| [kind, &column.schema, &column.table, &column.column]),
        );
        Self { mask: MaskScope { classified, masked }, version, digest }
    }

    pub(crate) fn is_masked(&self) -> bool {
        !self.mask.masked.is_empty()
    }
}
