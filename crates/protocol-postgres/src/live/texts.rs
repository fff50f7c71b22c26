//! Analyses that this session has used: found by text without a lock and without an allocation.

use std::collections::HashMap;
use std::sync::Arc;

use corral_model::limits;

use super::task::Analysed;

/// The session's own map, in front of the one that all sessions of the target share.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    known: HashMap<Arc<str>, Known>,
}

#[derive(Debug)]
struct Known {
    needs_names: bool,
    analysed: Option<Analysed>,
}

impl Texts {
    /// The text as it is kept, or a copy.
    pub(crate) fn share(&self, text: &str) -> Arc<str> {
        match self.known.get_key_value(text) {
            Some((kept, _)) => kept.clone(),
            None => Arc::from(text),
        }
    }

    pub(crate) fn needs_names(&self, text: &str) -> Option<bool> {
        self.known.get(text).map(|known| known.needs_names)
    }

    pub(crate) fn find(
        &self,
        text: &str,
        names_version: u64,
        scope_version: u64,
    ) -> Option<&Analysed> {
        let known = self.known.get(text)?;
        let analysed = known.analysed.as_ref()?;
        let fits = analysed.scope_version == scope_version
            && (!known.needs_names || analysed.names_version == names_version);
        fits.then_some(analysed)
    }

    pub(crate) fn keep(&mut self, text: &Arc<str>, needs_names: bool, analysed: Option<Analysed>) {
        if text.len() > limits::ANALYSIS_CACHE_TEXT_BYTES_MAX {
            return;
        }
        if self.known.len() >= limits::SESSION_ANALYSES_MAX {
            self.known.clear();
        }
        self.known.insert(text.clone(), Known { needs_names, analysed });
    }
}
