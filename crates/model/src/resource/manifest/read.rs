//! Text to documents, documents to resources.
//!
//! serde's tagged enums lose line and column, so each document is read three times: its `kind`,
//! its spec, and, when the spec is wrong in a way that the types do not see, the places of its
//! keys. The parser is used in this file only.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy};
use serde_saphyr::{Options, Spanned};

use super::{Invalid, ManifestError, validate};
use crate::limits;
use crate::resource::{Resource, ResourceKind};

/// Reads every document of a manifest.
///
/// # Errors
/// Everything that is wrong, in the order of the text: whoever wrote the manifest is to blame.
///
/// # Limits
/// [`limits::MANIFEST_BYTES_MAX`], [`limits::MANIFEST_NODES_MAX`],
/// [`limits::MANIFEST_DEPTH_MAX`]; anchors, aliases and merge keys are refused.
pub fn parse(text: &str, file_name: &str) -> Result<Vec<Resource>, Vec<ManifestError>> {
    if text.len() > limits::MANIFEST_BYTES_MAX {
        let (len, max) = (text.len(), limits::MANIFEST_BYTES_MAX);
        return Err(vec![ManifestError {
            file: file_name.to_owned(),
            line: 0,
            column: 0,
            text: format!("the file has {len} bytes; at most {max} are read"),
            help: Some("split it into several files".to_owned()),
        }]);
    }
    let mut resources: Vec<Resource> = Vec::new();
    let mut errors: Vec<ManifestError> = Vec::new();
    let mut seen: BTreeMap<(ResourceKind, String), u64> = BTreeMap::new();
    for document in split_documents(text.strip_prefix('\u{feff}').unwrap_or(text)) {
        let report = Report { file: file_name, first_line: document.first_line };
        match read_document(document.text, &report) {
            Ok(None) => {}
            Ok(Some((resource, line))) => {
                let key = (resource.resource_kind(), resource.name().to_owned());
                match seen.get(&key) {
                    Some(earlier) => errors.push(ManifestError {
                        file: file_name.to_owned(),
                        line,
                        column: 1,
                        text: format!("{} '{}' stands twice", key.0, key.1),
                        help: Some(format!("the first is in line {earlier}")),
                    }),
                    None => {
                        seen.insert(key, line);
                        resources.push(resource);
                    }
                }
            }
            Err(mut found) => errors.append(&mut found),
        }
    }
    if errors.is_empty() { Ok(resources) } else { Err(errors) }
}

struct DocumentText<'a> {
    text: &'a str,
    /// Lines before it in the file.
    first_line: u64,
}

/// YAML forbids a line that starts with `---` and a blank inside any scalar, so splitting there
/// is exact.
fn split_documents(text: &str) -> Vec<DocumentText<'_>> {
    let mut documents: Vec<DocumentText<'_>> = Vec::new();
    let (mut start, mut start_line) = (0_usize, 0_u64);
    let mut offset = 0_usize;
    for (line_number, line) in (0_u64..).zip(text.split_inclusive('\n')) {
        let is_marker = line
            .strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']));
        if is_marker && offset > start {
            let before = text.get(start..offset).unwrap_or_default();
            documents.push(DocumentText { text: before, first_line: start_line });
            (start, start_line) = (offset, line_number);
        }
        offset += line.len();
    }
    let last = text.get(start..).unwrap_or_default();
    documents.push(DocumentText { text: last, first_line: start_line });
    documents
}

fn options() -> Options {
    let mut options = Options::default();
    let mut budget = serde_saphyr::Budget::default();
    budget.max_aliases = 0;
    budget.max_anchors = 0;
    budget.max_merge_keys = 0;
    budget.max_inclusion_depth = 0;
    budget.max_documents = 1;
    budget.max_depth = limits::MANIFEST_DEPTH_MAX;
    budget.flow_nesting_limit = limits::MANIFEST_DEPTH_MAX;
    budget.max_nodes = limits::MANIFEST_NODES_MAX;
    budget.max_events = limits::MANIFEST_NODES_MAX * 3;
    options.budget = Some(budget);
    options.duplicate_keys = DuplicateKeyPolicy::Error;
    options.merge_keys = MergeKeyPolicy::Error;
    options.strict_booleans = true;
    options.with_snippet = false;
    options
}

struct Report<'a> {
    file: &'a str,
    first_line: u64,
}

impl Report<'_> {
    fn at(&self, line: u64, column: u64, text: String, help: Option<String>) -> ManifestError {
        let line = self.first_line + line.max(1);
        ManifestError { file: self.file.to_owned(), line, column: column.max(1), text, help }
    }

    fn yaml(&self, error: &serde_saphyr::Error) -> ManifestError {
        let (line, column) = match error.location() {
            Some(location) => (location.line(), location.column()),
            None => (1, 1),
        };
        self.at(line, column, plain_text(error), None)
    }

    fn invalid(&self, fault: Invalid, places: &Places) -> ManifestError {
        let (line, column) = places.of(&fault.key);
        self.at(line, column, fault.text, fault.help)
    }
}

/// The message without the place, which is counted from the document and not from the file.
fn plain_text(error: &serde_saphyr::Error) -> String {
    if let serde_saphyr::Error::Budget { breach, .. } = error.without_snippet() {
        return budget_text(breach);
    }
    let text = error.without_snippet().to_string();
    let text = text.lines().next().unwrap_or_default();
    let end = text.rfind(" at line ").unwrap_or(text.len());
    let text = text.get(..end).unwrap_or(text);
    match text.split_once(": ") {
        Some((place, rest)) if place.starts_with("line ") => rest.to_owned(),
        Some(_) | None => text.to_owned(),
    }
}

fn budget_text(breach: &BudgetBreach) -> String {
    match breach {
        BudgetBreach::Anchors { .. } | BudgetBreach::Aliases { .. } => {
            "anchors (&) and aliases (*) are not read here; write the value out".to_owned()
        }
        BudgetBreach::MergeKeys { .. } => {
            "merge keys (<<) are not read here; write the keys out".to_owned()
        }
        BudgetBreach::Depth { .. } => {
            format!("nested deeper than {} levels", limits::MANIFEST_DEPTH_MAX)
        }
        // The parser's own enum, which may grow.
        _ => format!("larger than {} YAML nodes", limits::MANIFEST_NODES_MAX),
    }
}

#[derive(Deserialize)]
struct Header {
    kind: Option<Spanned<String>>,
}

/// Gives the resource and the line of its `kind`; None for a document without content.
fn read_document(
    text: &str,
    report: &Report<'_>,
) -> Result<Option<(Resource, u64)>, Vec<ManifestError>> {
    let is_empty = text.lines().all(|line| {
        let line = line.strip_prefix("---").unwrap_or(line).trim();
        line.is_empty() || line.starts_with('#') || line == "..."
    });
    if is_empty {
        return Ok(None);
    }
    let header: Header = serde_saphyr::from_str_with_options(text, options())
        .map_err(|error| vec![report.yaml(&error)])?;
    let kinds =
        || Some(format!("write one of {}", ResourceKind::ALL.map(ResourceKind::name).join(", ")));
    let Some(written) = header.kind else {
        let text = "this document has no kind".to_owned();
        return Err(vec![report.at(1, 1, text, kinds())]);
    };
    let (line, column) = (written.referenced.line(), written.referenced.column());
    let Some(kind) = ResourceKind::parse_exact(&written.value) else {
        let text = format!("kind '{}' does not exist", written.value);
        return Err(vec![report.at(line, column, text, kinds())]);
    };
    let read = serde_saphyr::with_deserializer_from_str_with_options(text, options(), |yaml| {
        read_spec(kind, WithoutKind(yaml))
    });
    let resource = read.map_err(|error| vec![report.yaml(&error)])?;
    let faults = validate(&resource);
    if faults.is_empty() {
        return Ok(Some((resource, report.first_line + line)));
    }
    let places = Places::read(text);
    Err(faults.into_iter().map(|fault| report.invalid(fault, &places)).collect())
}

fn read_spec<'de, D: Deserializer<'de>>(kind: ResourceKind, spec: D) -> Result<Resource, D::Error> {
    match kind {
        ResourceKind::Target => Deserialize::deserialize(spec).map(Resource::Target),
        ResourceKind::User => Deserialize::deserialize(spec).map(Resource::User),
        ResourceKind::Workload => Deserialize::deserialize(spec).map(Resource::Workload),
        ResourceKind::Policy => Deserialize::deserialize(spec).map(Resource::Policy),
        ResourceKind::Limit => Deserialize::deserialize(spec).map(Resource::Limit),
        ResourceKind::Command => Deserialize::deserialize(spec).map(Resource::Command),
        ResourceKind::Relay => Deserialize::deserialize(spec).map(Resource::Relay),
        ResourceKind::IdentityProvider => {
            Deserialize::deserialize(spec).map(Resource::IdentityProvider)
        }
    }
}

/// A document whose top-level key `kind` is left out, so that a spec which refuses unknown keys
/// can be read from it. It stands inside the parser's own calls, which add line and column to
/// the errors that pass through them.
struct WithoutKind<D>(D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for WithoutKind<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(SpecVisitor(visitor))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier
        ignored_any
    }
}

struct SpecVisitor<V>(V);

impl<'de, V: Visitor<'de>> Visitor<'de> for SpecVisitor<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a resource's keys and values")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(SpecMap(map))
    }
}

struct SpecMap<A>(A);

impl<'de, A: MapAccess<'de>> MapAccess<'de> for SpecMap<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        let mut seed = Some(seed);
        loop {
            match self.0.next_key_seed(KeySeed(&mut seed))? {
                None => return Ok(None),
                Some(Some(key)) => return Ok(Some(key)),
                Some(None) => {
                    let _: IgnoredAny = self.0.next_value()?;
                }
            }
        }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.0.next_value_seed(seed)
    }
}

/// Reads a key; gives None for `kind` and leaves the seed for the next key.
struct KeySeed<'s, K>(&'s mut Option<K>);

impl<'de, K: DeserializeSeed<'de>> DeserializeSeed<'de> for KeySeed<'_, K> {
    type Value = Option<K::Value>;

    fn deserialize<D: Deserializer<'de>>(self, key: D) -> Result<Self::Value, D::Error> {
        let text = String::deserialize(key)?;
        if text == "kind" {
            return Ok(None);
        }
        match self.0.take() {
            Some(seed) => {
                let text = de::value::StringDeserializer::<D::Error>::new(text);
                seed.deserialize(text).map(Some)
            }
            None => Err(de::Error::custom("a key was read twice")),
        }
    }
}

/// Where each key's value stands, by path: `run.ttl_max`, `classify.0.columns`.
struct Places(BTreeMap<String, (u64, u64)>);

impl Places {
    fn read(text: &str) -> Self {
        let mut places = BTreeMap::new();
        let root: Result<Node, serde_saphyr::Error> =
            serde_saphyr::from_str_with_options(text, options());
        if let Ok(root) = root {
            root.collect(String::new(), &mut places);
        }
        Self(places)
    }

    /// The place of the key, or of the nearest key above it.
    fn of(&self, key: &str) -> (u64, u64) {
        let mut path = key;
        loop {
            if let Some(place) = self.0.get(path) {
                return *place;
            }
            match path.rsplit_once('.') {
                Some((above, _)) => path = above,
                None => return (1, 1),
            }
        }
    }
}

enum Node {
    Leaf,
    Map(Vec<(String, Spanned<Node>)>),
    List(Vec<Spanned<Node>>),
}

impl Node {
    fn collect(self, path: String, places: &mut BTreeMap<String, (u64, u64)>) {
        let children: Vec<(String, Spanned<Self>)> = match self {
            Self::Leaf => return,
            Self::Map(children) => children,
            Self::List(items) => (0_usize..).map(|index| index.to_string()).zip(items).collect(),
        };
        for (key, child) in children {
            let path = if path.is_empty() { key } else { format!("{path}.{key}") };
            places.insert(path.clone(), (child.referenced.line(), child.referenced.column()));
            child.value.collect(path, places);
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_str<E>(self, _: &str) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut children = Vec::new();
        while let Some(entry) = map.next_entry()? {
            children.push(entry);
        }
        Ok(Node::Map(children))
    }
}
