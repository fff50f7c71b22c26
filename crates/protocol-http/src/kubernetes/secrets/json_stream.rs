//! Masks JSON as it passes. Of a list, one item is held at a time; of a watch, one event.
//!
//! Only where an item begins and ends is told here, from brackets and quotes; each item is then
//! read strictly. What does not look as expected is held whole, up to the limit, and masked whole.

use std::sync::Arc;

use corral_model::limits::ANSWER_OBJECT_BYTES_MAX;
use serde_json::{Map, Value};

use super::object::{ObjectMasker, TableColumns};
use super::status::{failure, is_status};
use super::{MaskError, MaskPlan, Shape};
use crate::kubernetes::body::read_json;

/// Where in the answer the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the items of a list, or in an answer that is held whole.
    Head,
    /// In the items.
    Items(ItemKind),
    /// Behind them.
    Tail,
    /// Behind the document.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ItemKind {
    Object,
    Row,
}

/// Where brackets and quotes stand.
#[derive(Debug, Default)]
struct Scanner {
    depth: usize,
    is_in_string: bool,
    is_escaped: bool,
    /// The last string at depth 1 is the key `items` or `rows`, and a colon followed.
    key: Option<ItemKind>,
    /// Where in the buffer the last string at depth 1 began.
    string_start: usize,
}

/// See the module.
#[derive(Debug)]
pub(super) struct JsonMasker {
    plan: Arc<MaskPlan>,
    shape: Shape,
    place: Place,
    scanner: Scanner,
    /// What is held: the head, an item, the tail.
    buffer: Vec<u8>,
    /// Keys of the head, which must not stand in the tail again.
    head_keys: Vec<String>,
    columns: Option<TableColumns>,
    is_first_item: bool,
    masked: u64,
}

impl JsonMasker {
    pub(super) fn new(plan: Arc<MaskPlan>, shape: Shape) -> Self {
        Self {
            plan,
            shape,
            place: Place::Head,
            scanner: Scanner::default(),
            buffer: Vec::new(),
            head_keys: Vec::new(),
            columns: None,
            is_first_item: true,
            masked: 0,
        }
    }

    pub(super) fn masked(&self) -> u64 {
        self.masked
    }

    pub(super) fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), MaskError> {
        piece.iter().try_for_each(|byte| self.byte(*byte, out))
    }

    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), MaskError> {
        let is_blank = self.buffer.iter().all(u8::is_ascii_whitespace);
        match self.place {
            Place::End => Ok(()),
            Place::Head if is_blank => Ok(()),
            // A number or a text alone has no bracket that ends it.
            Place::Head if self.scanner.depth == 0 && !self.scanner.is_in_string => self.whole(out),
            Place::Head | Place::Items(_) | Place::Tail => Err(MaskError::Truncated),
        }
    }

    fn byte(&mut self, byte: u8, out: &mut Vec<u8>) -> Result<(), MaskError> {
        if self.place == Place::End {
            return match byte.is_ascii_whitespace() {
                true => Ok(()),
                false => Err(MaskError::Shape),
            };
        }
        // The end of an item is told by the byte behind it, which does not belong to it.
        if let Place::Items(kind) = self.place
            && self.scanner.depth == 2
            && !self.scanner.is_in_string
            && matches!(byte, b',' | b']')
        {
            return self.item_over(kind, byte, out);
        }
        if self.buffer.len() >= ANSWER_OBJECT_BYTES_MAX {
            return Err(MaskError::TooLarge { limit: ANSWER_OBJECT_BYTES_MAX });
        }
        self.buffer.push(byte);
        let depth_before = self.scanner.depth;
        self.scanner.step(byte, &self.buffer)?;
        if self.shape == Shape::List
            && self.place == Place::Head
            && byte == b'['
            && depth_before == 1
            && !self.scanner.is_in_string
            && let Some(kind) = self.scanner.key.take()
        {
            return self.head_over(kind, out);
        }
        if depth_before == 1 && self.scanner.depth == 0 {
            return match self.place {
                Place::Tail => self.tail_over(out),
                Place::Head | Place::Items(_) | Place::End => self.whole(out),
            };
        }
        Ok(())
    }

    /// A whole document is held.
    fn whole(&mut self, out: &mut Vec<u8>) -> Result<(), MaskError> {
        let held = std::mem::take(&mut self.buffer);
        let mut document = read_json(&held)?;
        if !document.is_object() {
            return Err(MaskError::Shape);
        }
        match self.shape {
            // Whatever else an error says may quote the object.
            Shape::Error(code) if !is_status(&document) => {
                document = failure(&self.plan, code);
            }
            Shape::Error(_) | Shape::Object | Shape::List | Shape::Watch => {
                self.with(|masker| masker.document(&mut document));
            }
        }
        write(&document, out)?;
        match self.shape {
            Shape::Watch => out.push(b'\n'),
            Shape::Object | Shape::List | Shape::Error(_) => self.place = Place::End,
        }
        Ok(())
    }

    /// The bracket that opens the items was read.
    fn head_over(&mut self, kind: ItemKind, out: &mut Vec<u8>) -> Result<(), MaskError> {
        let mut held = std::mem::take(&mut self.buffer);
        held.extend_from_slice(b"]}");
        let Value::Object(mut shell) = read_json(&held)? else { return Err(MaskError::Shape) };
        self.head_keys = shell.keys().cloned().collect();
        let name = match kind {
            ItemKind::Object => "items",
            ItemKind::Row => "rows",
        };
        shell.remove(name);
        let mut shell = Value::Object(shell);
        // An error has no items.
        if is_status(&shell) {
            return Err(MaskError::Shape);
        }
        self.with(|masker| masker.object(&mut shell));
        self.columns = TableColumns::read(&shell);
        out.push(b'{');
        write_members(&shell, out)?;
        if shell.as_object().is_some_and(|shell| !shell.is_empty()) {
            out.push(b',');
        }
        out.extend_from_slice(format!("\"{name}\":[").as_bytes());
        self.place = Place::Items(kind);
        Ok(())
    }

    fn item_over(&mut self, kind: ItemKind, byte: u8, out: &mut Vec<u8>) -> Result<(), MaskError> {
        let held = std::mem::take(&mut self.buffer);
        let is_blank = held.iter().all(u8::is_ascii_whitespace);
        let is_over = byte == b']';
        // Only an empty list has a place for an item without one.
        if is_blank && !(is_over && self.is_first_item) {
            return Err(MaskError::Shape);
        }
        if !is_blank {
            let mut item = read_json(&held)?;
            if !item.is_object() {
                return Err(MaskError::Shape);
            }
            let columns = self.columns;
            self.with(|masker| match kind {
                ItemKind::Object => masker.object(&mut item),
                ItemKind::Row => masker.row(&mut item, columns),
            });
            if !self.is_first_item {
                out.push(b',');
            }
            write(&item, out)?;
            self.is_first_item = false;
        }
        if is_over {
            out.push(b']');
            self.scanner.depth = 1;
            self.place = Place::Tail;
        }
        Ok(())
    }

    /// The bracket that closes the list's document was read.
    fn tail_over(&mut self, out: &mut Vec<u8>) -> Result<(), MaskError> {
        let held = std::mem::take(&mut self.buffer);
        let rest = held.trim_ascii();
        let members = rest.strip_prefix(b",");
        let mut document: Vec<u8> = b"{".to_vec();
        document.extend_from_slice(members.unwrap_or(rest));
        let read = read_json(&document)?;
        let is_twice =
            |map: &Map<String, Value>| map.keys().any(|key| self.head_keys.contains(key));
        let Value::Object(map) = &read else { return Err(MaskError::Shape) };
        // A comma with nothing behind it, or members without a comma.
        if is_twice(map) || members.is_some() == map.is_empty() {
            return Err(MaskError::Shape);
        }
        let mut shell = read;
        if shell.get("kind").and_then(Value::as_str) == Some("Status") {
            return Err(MaskError::Shape);
        }
        self.with(|masker| masker.object(&mut shell));
        if members.is_some() {
            out.push(b',');
        }
        write_members(&shell, out)?;
        out.push(b'}');
        self.place = Place::End;
        Ok(())
    }

    fn with(&mut self, mask: impl FnOnce(&mut ObjectMasker<'_>)) {
        let mut masker = ObjectMasker::new(&self.plan);
        mask(&mut masker);
        self.masked += masker.masked;
    }
}

impl Scanner {
    fn step(&mut self, byte: u8, buffer: &[u8]) -> Result<(), MaskError> {
        if self.is_in_string {
            match (self.is_escaped, byte) {
                (true, _) => self.is_escaped = false,
                (false, b'\\') => self.is_escaped = true,
                (false, b'"') => {
                    self.is_in_string = false;
                    if self.depth == 1 {
                        self.key = item_kind(buffer.get(self.string_start..).unwrap_or_default());
                    }
                }
                (false, _) => {}
            }
            return Ok(());
        }
        match byte {
            b'"' => {
                self.is_in_string = true;
                self.string_start = buffer.len().saturating_sub(1);
            }
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth = self.depth.checked_sub(1).ok_or(MaskError::Shape)?;
                self.key = None;
            }
            b',' => self.key = None,
            _ => {}
        }
        Ok(())
    }
}

fn item_kind(string: &[u8]) -> Option<ItemKind> {
    match string {
        b"\"items\"" => Some(ItemKind::Object),
        b"\"rows\"" => Some(ItemKind::Row),
        _ => None,
    }
}

fn write(value: &Value, out: &mut Vec<u8>) -> Result<(), MaskError> {
    serde_json::to_writer(out, value).map_err(|_| MaskError::Shape)
}

/// An object without its outer braces.
fn write_members(value: &Value, out: &mut Vec<u8>) -> Result<(), MaskError> {
    let text = value.to_string();
    let inner = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
    out.extend_from_slice(inner.ok_or(MaskError::Shape)?.as_bytes());
    Ok(())
}
