//! Functions in SQL: what calling one does is what its body does, with the names of the caller.

use corral_model::{Effect, ObjectRole};

use super::catalogue::Body;
use super::walker::{Call, Walker};
use super::{SessionChange, StatementKind};

/// Bodies that are walked for one text; a function that reaches more is unknown.
const BODIES_MAX: usize = 64;

impl Walker<'_> {
    /// A function in SQL of a reviewed extension. As long as the caller's path has nothing else in
    /// the place of what its body names, it computes from its arguments.
    pub(super) fn run_extension_body(
        &mut self,
        name: &str,
        body: &Body,
        call: Call,
        position: Option<usize>,
    ) {
        let inner = self.aside(|walker| walker.run_body(name, body, position));
        if !inner.is_quiet() || inner.objects.iter().any(|object| object.kind != "function") {
            if self.is_masking() {
                self.unknown(format!("what function {name} reaches cannot be told"), position);
            }
            self.run_body(name, body, position);
            return;
        }
        self.found.functions.extend(inner.functions);
        self.found.objects.extend(inner.objects);
        if call == Call::Written {
            self.found.effect(Effect::Read);
        }
    }

    pub(super) fn run_body(&mut self, name: &str, body: &Body, position: Option<usize>) {
        let key = format!("{name} {}", body.text);
        if self.running.contains(&key) {
            // A function that calls itself: its effects are being collected.
            return;
        }
        if self.body_count >= BODIES_MAX {
            self.unknown(format!("function {name} reaches too many others"), position);
            return;
        }
        let parsed = match self.parse(&body.text) {
            Ok(parsed) => parsed,
            Err(reason) => {
                self.unknown(format!("in function {name}: {reason}"), position);
                return;
            }
        };
        self.body_count += 1;
        self.running.push(key);
        let levels = std::mem::take(&mut self.levels);
        let tables = std::mem::take(&mut self.tables);
        let prepared = self.prepared.take();
        let pinned = self.pinned_setting.take();
        let count = parsed.stmts.len();
        let inner = self.aside(|walker| {
            for kind in &body.types {
                walker.use_type_oid(*kind, None);
            }
            for raw in &parsed.stmts {
                match &raw.stmt {
                    Some(node) => {
                        let kind = walker.statement(node).kind;
                        if matches!(kind, StatementKind::Fetch { .. }) {
                            walker.unknown("its body runs a cursor", None);
                        }
                    }
                    None => walker.unknown("its body is empty where the parser saw more", None),
                }
                if count > 1 && walker.found.change != SessionChange::default() {
                    walker.unknown("its body changes what its own names mean", None);
                }
            }
        });
        self.levels = levels;
        self.tables = tables;
        self.prepared = prepared;
        self.pinned_setting = pinned;
        self.running.pop();
        self.found.effects.extend(inner.effects);
        self.found.called.extend(inner.effects);
        self.found.functions.extend(inner.functions);
        self.found.change.add(inner.change);
        self.found.objects.extend(inner.objects.into_iter().map(|mut object| {
            object.role = ObjectRole::Reached;
            object
        }));
        if let Some(reason) = inner.unknown {
            self.unknown(format!("in function {name}: {}", reason.text), position);
        }
    }
}
