//! Analyses that this session has used: found by text without a lock and without an allocation.

use std::collections::HashMap;
use std::sync::Arc;

use corral_model::limits;

use super::task::Analysed;

/// The session's own map, in front of the one that all sessions of the target share.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    known: HashMap<Arc<str>, Known>,
    /// What was found last, under that very text: a prepared statement that is run again and
    /// again needs no hash of its text.
    last: Option<(Arc<str>, Known)>,
}

/// What is known of a text.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) needs_names: bool,
    analysed: Option<Arc<Analysed>>,
}

impl Known {
    /// Its analysis, if that was made under these names and masks.
    pub(crate) fn analysed(self, names_version: u64, scope_version: u64) -> Option<Arc<Analysed>> {
        self.analysed.filter(|analysed| {
            analysed.scope_version == scope_version
                && (!self.needs_names || analysed.names_version == names_version)
        })
    }
}

impl Texts {
    /// The text as it is kept, or a copy.
    pub(crate) fn share(&self, text: &str) -> Arc<str> {
        match self.known.get_key_value(text) {
            Some((kept, _)) => kept.clone(),
            None => Arc::from(text),
        }
    }

    pub(crate) fn find(&mut self, text: &Arc<str>) -> Option<Known> {
        if let Some((last, known)) = &self.last
            && Arc::ptr_eq(last, text)
        {
            return Some(known.clone());
        }
        let known = self.known.get(text)?.clone();
        self.last = Some((text.clone(), known.clone()));
        Some(known)
    }

    pub(crate) fn keep(
        &mut self,
        text: &Arc<str>,
        needs_names: bool,
        analysed: Option<Arc<Analysed>>,
    ) {
        self.last = None;
        if text.len() > limits::ANALYSIS_CACHE_TEXT_BYTES_MAX {
            return;
        }
        if self.known.len() >= limits::SESSION_ANALYSES_MAX {
            self.known.clear();
        }
        self.known.insert(text.clone(), Known { needs_names, analysed });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{Analysis, SessionChange};

    fn analysed(names_version: u64, scope_version: u64) -> Arc<Analysed> {
        let analysis = Analysis {
            facts: Arc::default(),
            kinds: Vec::new(),
            needs_names: true,
            session_change: SessionChange::default(),
            has_bodies: false,
            resolves_late: false,
            mask: None,
            unknown: None,
            parse_error: None,
        };
        Arc::new(Analysed {
            analysis: Arc::new(analysis),
            names: None,
            state_digest: Arc::from(""),
            names_version,
            scope_version,
        })
    }

    #[test]
    fn what_is_found_is_what_was_kept_last_under_these_versions() {
        let mut texts = Texts::default();
        let text: Arc<str> = Arc::from("select 1");
        assert!(texts.find(&text).is_none());
        texts.keep(&text, true, None);
        let found = texts.find(&text).expect("kept");
        assert!(found.needs_names && found.analysed(1, 1).is_none(), "nothing but that");

        // The same text, and an equal one; each found twice, so that the second is the last.
        for text in [text.clone(), Arc::from("select 1"), text.clone()] {
            texts.keep(&text, true, Some(analysed(1, 1)));
            for _ in 0..2 {
                let find = |texts: &mut Texts| texts.find(&text).expect("kept");
                assert!(find(&mut texts).analysed(1, 1).is_some());
                assert!(find(&mut texts).analysed(2, 1).is_none(), "other names");
                assert!(find(&mut texts).analysed(1, 2).is_none(), "other masks");
            }
            texts.keep(&text, true, Some(analysed(2, 1)));
            assert!(texts.find(&text).and_then(|known| known.analysed(1, 1)).is_none());
            assert!(texts.find(&text).and_then(|known| known.analysed(2, 1)).is_some());
        }
        texts.keep(&text, false, Some(analysed(1, 1)));
        let known = texts.find(&text).expect("kept");
        assert!(known.clone().analysed(2, 1).is_some(), "it needs no names");
        assert!(known.analysed(1, 2).is_none(), "masks matter all the same");
        assert!(texts.find(&Arc::from("select 2")).is_none());
    }
}
