//! What a request is to a policy: an operation on paths.

use std::collections::BTreeMap;
use std::sync::Arc;

use corral_model::statement::{
    Attribute, AttributeKind, AttributeSpec, Effect, Effects, Facts, ObjectRef, ObjectRole,
    Obstacle, Verb,
};
use corral_session::Draft;
use sha2::{Digest, Sha256};

use crate::sftp::content::hex;
use crate::sftp::path::{AbsolutePath, quoted};
use crate::spec;

/// Reads content, names or attributes.
pub const SFTP_READ: Verb = Verb { name: "sftp_read", effect: Some(Effect::Read) };
/// Changes content, names or attributes.
pub const SFTP_WRITE: Verb = Verb { name: "sftp_write", effect: Some(Effect::Write) };

const OPERATION: &str = "operation";
const PATH: &str = "path";
const NEW_PATH: &str = "new_path";
const MODE: &str = "mode";

/// Fields that policies may read of an SFTP operation.
pub const ATTRIBUTES: [AttributeSpec; 4] = [
    AttributeSpec {
        name: OPERATION,
        kind: AttributeKind::Text,
        meaning: "What an SFTP request does: open_read, open_write, remove, rename, …",
    },
    AttributeSpec {
        name: PATH,
        kind: AttributeKind::Text,
        meaning: "The absolute path of an SFTP request; of two, the one that exists. Rules about \
                  places are better written with `resource in`, which is asked for every path.",
    },
    AttributeSpec {
        name: NEW_PATH,
        kind: AttributeKind::Text,
        meaning: "The absolute path that an SFTP rename, link or copy makes.",
    },
    AttributeSpec {
        name: MODE,
        kind: AttributeKind::Number,
        meaning: "The permission bits that an SFTP request sets, as a number: 420 is 0644.",
    },
];

/// What is done with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
    ReadWrite,
}

impl Access {
    pub(crate) fn reads(self) -> bool {
        matches!(self, Self::Read | Self::ReadWrite)
    }

    pub(crate) fn writes(self) -> bool {
        matches!(self, Self::Write | Self::ReadWrite)
    }
}

/// How long an operation runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Span {
    /// Until its answer.
    Answer,
    /// Until the client closes the handle.
    Handle,
}

/// One operation, all of whose paths are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    /// In the order of the statement's text; empty for what is asked of the target as a whole.
    pub(crate) paths: Vec<(AbsolutePath, Access)>,
    /// The rest of the statement's text, with a space in front.
    pub(crate) detail: String,
    pub(crate) mode: Option<u32>,
    pub(crate) span: Span,
}

impl Operation {
    pub(crate) fn new(name: &'static str, path: AbsolutePath, access: Access) -> Self {
        Self {
            name,
            paths: vec![(path, access)],
            detail: String::new(),
            mode: None,
            span: Span::Answer,
        }
    }

    pub(crate) fn and(mut self, path: AbsolutePath, access: Access) -> Self {
        self.paths.push((path, access));
        self
    }

    pub(crate) fn with(mut self, detail: String, mode: Option<u32>) -> Self {
        self.detail = detail;
        self.mode = mode;
        self
    }

    pub(crate) fn of_handle(mut self) -> Self {
        self.span = Span::Handle;
        self
    }

    pub(crate) fn text(&self) -> String {
        let mut text = self.name.to_owned();
        for (path, _) in &self.paths {
            text.push(' ');
            text.push_str(&quoted(path.as_str()));
        }
        text.push_str(&self.detail);
        text
    }

    /// `login` is the account at the target.
    pub(crate) fn draft(&self, login: &str) -> Draft {
        let reads = self.paths.is_empty() || self.paths.iter().any(|(_, access)| access.reads());
        let writes = self.paths.iter().any(|(_, access)| access.writes());
        let verbs: Vec<Verb> =
            [(reads, SFTP_READ), (writes, SFTP_WRITE)].into_iter().filter_map(chosen).collect();
        let effects: Effects = verbs.iter().filter_map(|verb| verb.effect).collect();
        let mut objects: Vec<ObjectRef> = self.paths.iter().flat_map(objects_of).collect();
        objects.sort_unstable();
        objects.dedup();
        let facts = Facts {
            verbs,
            effects,
            objects,
            statement_count: 1,
            attributes: self.attributes(login),
            ..Facts::default()
        };
        Draft {
            text: self.text().into(),
            facts: Arc::new(facts),
            parameters: Vec::new(),
            // Under another account the same path may be another file.
            state_digest: hex(&Sha256::digest(login.as_bytes())),
            traceparent: None,
            is_stream: self.span == Span::Handle,
        }
    }

    fn attributes(&self, login: &str) -> BTreeMap<&'static str, Attribute> {
        let text = |path: &AbsolutePath| Attribute::Text(path.as_str().to_owned());
        let mut attributes = BTreeMap::new();
        attributes.insert(spec::LOGIN, Attribute::Text(login.to_owned()));
        attributes.insert(spec::SUBSYSTEM, Attribute::Text(super::SUBSYSTEM.to_owned()));
        attributes.insert(OPERATION, Attribute::Text(self.name.to_owned()));
        let mut paths = self.paths.iter();
        if let Some((path, _)) = paths.next() {
            attributes.insert(PATH, text(path));
        }
        if let Some((path, _)) = paths.next() {
            attributes.insert(NEW_PATH, text(path));
        }
        if let Some(mode) = self.mode {
            attributes.insert(MODE, Attribute::Number(i64::from(mode)));
        }
        attributes
    }
}

fn chosen((is_chosen, verb): (bool, Verb)) -> Option<Verb> {
    is_chosen.then_some(verb)
}

fn objects_of((path, access): &(AbsolutePath, Access)) -> Vec<ObjectRef> {
    let of_role = |role: ObjectRole| ObjectRef {
        schema: String::new(),
        name: path.as_str().to_owned(),
        kind: "path".to_owned(),
        role,
    };
    match access {
        Access::Read => vec![of_role(ObjectRole::Read)],
        Access::Write => vec![of_role(ObjectRole::Write)],
        Access::ReadWrite => vec![of_role(ObjectRole::Read), of_role(ObjectRole::Write)],
    }
}

/// What can never be permitted: it is recorded as refused, with the reason that the client reads.
pub(crate) fn refused(text: &str, rule: &'static str, reason: &str) -> Draft {
    let facts = Facts {
        effects: Effects::of(Effect::Unknown),
        statement_count: 1,
        obstacle: Some(Obstacle {
            rule,
            text: reason.to_owned(),
            position: None,
            is_size: rule == LIMITS,
        }),
        ..Facts::default()
    };
    Draft {
        text: text.into(),
        facts: Arc::new(facts),
        parameters: Vec::new(),
        state_digest: String::new(),
        traceparent: None,
        is_stream: false,
    }
}

/// Rule of an [`Obstacle`] about a size or a count.
pub(crate) const LIMITS: &str = "limits";
/// Rule of an [`Obstacle`] about anything else that SFTP cannot be asked here.
pub(crate) const SFTP: &str = "sftp";

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> AbsolutePath {
        AbsolutePath::root().join(text.as_bytes()).expect("a path")
    }

    #[test]
    fn an_operation_has_the_verbs_and_objects_of_its_paths() {
        let link = Operation::new("hardlink", path("/b"), Access::ReadWrite)
            .and(path("/a c"), Access::Write)
            .draft("root");
        assert_eq!(&*link.text, "hardlink /b \"/a c\"");
        assert_eq!(link.facts.verbs, [SFTP_READ, SFTP_WRITE]);
        let roles: Vec<(&str, ObjectRole)> =
            link.facts.objects.iter().map(|object| (object.name.as_str(), object.role)).collect();
        let expect =
            [("/a c", ObjectRole::Write), ("/b", ObjectRole::Read), ("/b", ObjectRole::Write)];
        assert_eq!(roles, expect);
        assert_eq!(link.facts.attributes["new_path"], Attribute::Text("/a c".into()));
        assert!(!link.is_stream);
    }

    #[test]
    fn what_is_asked_of_the_whole_target_is_a_read() {
        let names = Operation { paths: vec![], ..Operation::new("names", path("/"), Access::Read) };
        assert_eq!(names.draft("root").facts.verbs, [SFTP_READ]);
        assert!(names.draft("root").facts.objects.is_empty());
    }

    #[test]
    fn every_field_is_declared() {
        let mut operation = Operation::new("mkdir", path("/a"), Access::Write);
        operation = operation.and(path("/b"), Access::Write).with(" mode=0755".into(), Some(0o755));
        for name in operation.draft("root").facts.attributes.keys() {
            let is_declared = spec::SPEC.attributes.iter().any(|spec| spec.name == *name);
            assert!(is_declared, "{name}");
        }
        assert_eq!(operation.text(), "mkdir /a /b mode=0755");
    }
}
