//! Messages of the extended protocol: Parse, Bind, Describe, Execute, Close.

use std::borrow::Cow;
use std::sync::Arc;

use corral_gate::Harmless;
use corral_model::limits;
use corral_model::statement::Parameter;

use super::client::front;
use super::decide::unused;
use super::parsed::Parsed;
use super::pending::{Pending, Running, Sender};
use super::store::{Portal, Prepared};
use super::task::{Analysed, Binding, Task, What};
use super::{Live, finish};
use crate::analysis::Names;
use crate::codec::Head;
use crate::codec::client::{Named, decode_bind, decode_execute, decode_named, decode_parse};
use crate::codec::target::RESERVED;
use crate::deny::Refusal;
use crate::digest::{digest, hex};
use crate::link::{Ending, Link};

/// `NAMEDATALEN` without the NUL at its end, in every server that was not built otherwise.
const NAME_BYTES_MAX: usize = 63;
/// Recorded of a permit that was given at Bind, when other columns are masked at Execute: the
/// statement is decided again.
const MASKS_CHANGED: &str = "55000";

impl Live {
    pub(super) fn read_parse(&mut self, head: Head, link: &mut Link) -> Result<(), Ending> {
        let parse = decode_parse(front(link, head)).map_err(Ending::client_fault)?;
        let name = self.new_name(Named::Statement, parse.name);
        let found = name.and_then(|name| Ok((name.to_owned(), self.readable(parse.text)?)));
        let (name, text) = match found {
            Ok(found) => found,
            Err(refusal) => {
                self.refuse_extended(refusal, head.frame_len, link);
                return Ok(());
            }
        };
        let what = What::Parse { name, types: parse.types.into(), parameters: Arc::default() };
        let task = match text {
            None => Task::unread(what, head.frame_len),
            Some(text) => Task::new(what, self.texts.share(&text), head.frame_len),
        };
        self.resolve(Box::new(task), link)
    }

    /// The name of something that the client makes.
    fn new_name<'a>(&self, named: Named, name: &'a str) -> Result<&'a str, Refusal> {
        let name = own_name(name)?;
        if self.store.has_room(named, name) {
            return Ok(name);
        }
        Err(Refusal::own(
            "54000",
            format_args!(
                "more than {} prepared statements or portals are open",
                limits::PREPARED_PER_SESSION_MAX
            ),
        ))
    }

    /// The Parse was checked, or decided: it is sent.
    pub(super) fn forward_parse(
        &mut self,
        name: String,
        types: Arc<[u32]>,
        task: &Task,
        analysed: Arc<Analysed>,
        decided: Option<Box<Parsed>>,
        link: &mut Link,
    ) {
        match &decided {
            Some(parsed) => {
                link.send_permitted(&parsed.running.permit, task.frame_len);
                self.ran_aside(&analysed);
            }
            None => self.send_front(Harmless::Preparation, task.frame_len, link),
        }
        self.parsed = decided;
        let prepared = Prepared { text: task.text.clone(), analysed, types };
        self.sql.forget(&name);
        let undo = Some(Box::new(self.store.prepare(name, prepared)));
        self.queue.push_back(Pending::Parse {
            sender: Sender::Client,
            undo,
            running: None,
            using: None,
        });
        self.open_pipeline();
    }

    /// What parsing or planning calls may change what names mean.
    fn ran_aside(&mut self, analysed: &Analysed) {
        let epoch = self.transaction.epoch() + 1;
        self.keeper.change(analysed.analysis.session_change, epoch);
        self.sql.sent(&analysed.analysis, epoch);
        self.cursors.sent(&analysed.analysis);
        self.doubts.sent(&analysed.analysis, epoch, self.store.last_number());
    }

    /// A message of the extended protocol is sent.
    pub(super) fn open_pipeline(&mut self) {
        self.described = None;
        self.transaction.open_pipeline();
        self.has_flushed = false;
    }

    pub(super) fn read_bind(&mut self, head: Head, link: &mut Link) -> Result<(), Ending> {
        let bind = decode_bind(front(link, head)).map_err(Ending::client_fault)?;
        let portal = self.new_name(Named::Portal, bind.portal);
        let found = portal.and_then(|portal| {
            let statement = as_compared(bind.statement)?;
            let prepared = self.store.statement(statement);
            Ok((portal, statement, prepared.ok_or_else(|| no_statement(statement))?))
        });
        let (portal, statement, prepared) = match found {
            Ok(found) => found,
            Err(refusal) => {
                self.refuse_extended(refusal, head.frame_len, link);
                return Ok(());
            }
        };
        let text = prepared.text.clone();
        let binding = Binding {
            portal: portal.to_owned(),
            statement: statement.to_owned(),
            parameters: bound_parameters(&bind.values, &prepared.types),
        };
        if let Some(parsed) = self.take_parsed(&binding.statement, &binding.parameters) {
            let task = Task::new(What::Query, text, head.frame_len);
            let Parsed { analysed, running, .. } = *parsed;
            self.forward_bind(binding, &task, analysed, Some(running), link);
            return Ok(());
        }
        self.end_parsed(link);
        let task = Task::new(What::Bind(binding), text, head.frame_len);
        self.resolve(Box::new(task), link)
    }

    /// The statement of a Bind, or why it cannot be sent: there is no such statement, or its names
    /// mean something else than when it was prepared. The target may still go by the old meaning.
    pub(super) fn to_bind(
        &self,
        statement: &str,
        analysed: &Analysed,
    ) -> Result<&Prepared, Refusal> {
        let prepared = self.store.statement(statement).ok_or_else(|| no_statement(statement))?;
        if means_the_same(&prepared.analysed, analysed) {
            return Ok(prepared);
        }
        Err(Refusal::own(
            "0A000",
            "names in this statement mean something else than when it was prepared; prepare it again",
        ))
    }

    /// What the Bind's text does is known: it is sent, under its permit if it needed one.
    pub(super) fn forward_bind(
        &mut self,
        binding: Binding,
        task: &Task,
        analysed: Arc<Analysed>,
        bound: Option<Box<Running>>,
        link: &mut Link,
    ) {
        let types = match self.to_bind(&binding.statement, &analysed) {
            Ok(prepared) => prepared.types.clone(),
            Err(refusal) => {
                if let Some(running) = bound {
                    unused(&running.permit, refusal.code, link);
                }
                self.refuse_extended(refusal, task.frame_len, link);
                return;
            }
        };
        match &bound {
            Some(running) => {
                link.send_permitted(&running.permit, task.frame_len);
                self.ran_aside(&analysed);
            }
            None => self.send_front(Harmless::Preparation, task.frame_len, link),
        }
        let number = self.store.next_number();
        let portal = Portal {
            text: task.text.clone(),
            analysed,
            parameters: binding.parameters,
            types,
            bound,
            suspended: None,
            epoch: self.transaction.epoch(),
            number,
        };
        let undo = Some(Box::new(self.store.bind(binding.portal, portal)));
        self.queue.push_back(Pending::Bind { sender: Sender::Client, number, undo, using: None });
        self.open_pipeline();
    }

    pub(super) fn read_describe(&mut self, head: Head, link: &mut Link) -> Result<(), Ending> {
        let (named, name) = decode_named(front(link, head)).map_err(Ending::client_fault)?;
        let name = match as_compared(name) {
            Ok(name) => name,
            Err(refusal) => {
                self.refuse_extended(refusal, head.frame_len, link);
                return Ok(());
            }
        };
        // A name that is not known here may be SQL's own (a cursor of DECLARE): what it looks like
        // may be told, or the target says that there is none.
        let pending = match named {
            Named::Statement => Pending::DescribeStatement,
            Named::Portal => Pending::DescribePortal { sender: Sender::Client },
        };
        let described = (named == Named::Portal).then(|| name.to_owned());
        self.queue.push_back(pending);
        self.open_pipeline();
        self.described = described;
        self.forward_front(head, link);
        Ok(())
    }

    pub(super) fn read_execute(&mut self, head: Head, link: &mut Link) -> Result<(), Ending> {
        let execute = decode_execute(front(link, head)).map_err(Ending::client_fault)?;
        let scope_version = self.scope.version;
        let doubts = &self.doubts;
        let found = as_compared(execute.portal).and_then(|name| {
            let portal = self.store.portal_mut(name);
            Ok((name.to_owned(), portal.ok_or_else(|| no_portal(name))?))
        });
        let (name, portal) = match found {
            Ok(found) => found,
            Err(refusal) => {
                self.refuse_extended(refusal, head.frame_len, link);
                return Ok(());
            }
        };
        if portal.analysed.scope_version == scope_version
            && let Some(running) = portal.take_going_on(doubts.is_doubtful(&name, portal.number))
        {
            self.forward_execute(name, running, head.frame_len, link);
            return Ok(());
        }
        let text = portal.text.clone();
        if let Some(running) = portal.bound.take() {
            // Decided under other masks than it would run with.
            finish(&running, MASKS_CHANGED, link);
        }
        let task = Task::new(What::Execute { portal: name }, text, head.frame_len);
        self.resolve(Box::new(task), link)
    }

    pub(super) fn read_close(&mut self, head: Head, link: &mut Link) -> Result<(), Ending> {
        let (named, name) = decode_named(front(link, head)).map_err(Ending::client_fault)?;
        let name = match own_name(name) {
            Ok(name) => name,
            Err(refusal) => {
                self.refuse_extended(refusal, head.frame_len, link);
                return Ok(());
            }
        };
        if named == Named::Statement {
            self.sql.forget(name);
        }
        let undo = self.store.close(named, name);
        self.queue.push_back(Pending::Close {
            sender: Sender::Client,
            undo: Some(Box::new(undo)),
            is_last_of_question: false,
        });
        self.open_pipeline();
        self.forward_front(head, link);
        Ok(())
    }
}

/// As much of a name as the target compares. It cuts longer ones without a word (`NAMEDATALEN` in
/// `pg_config_manual.h`), so two that differ behind that are one statement or portal there. Others
/// than ASCII it converts before, which can make them longer, or the same.
pub(super) fn as_compared(name: &str) -> Result<&str, Refusal> {
    if !name.is_ascii() {
        let text = "names of prepared statements and portals have letters of ASCII only here";
        return Err(Refusal::own("42602", text));
    }
    Ok(name.get(..NAME_BYTES_MAX).unwrap_or(name))
}

/// The same of a name that the client makes or closes.
fn own_name(name: &str) -> Result<&str, Refusal> {
    let name = as_compared(name)?;
    if name.starts_with(RESERVED) {
        return Err(Refusal::own(
            "42602",
            format_args!("names that begin with \"{RESERVED}\" are the gateway's own"),
        ));
    }
    Ok(name)
}

fn no_statement(name: &str) -> Refusal {
    let message = if name.is_empty() {
        "unnamed prepared statement does not exist".to_owned()
    } else {
        format!("prepared statement \"{name}\" does not exist")
    };
    Refusal::as_postgres("26000", message)
}

pub(super) fn no_portal(name: &str) -> Refusal {
    Refusal::as_postgres("34000", format!("portal \"{name}\" does not exist"))
}

/// Whether two analyses of one text found the same. The mask scope may differ between them: what
/// only it decides is left out then.
fn means_the_same(then: &Analysed, now: &Analysed) -> bool {
    let (old, new) = (&then.analysis, &now.analysis);
    if std::sync::Arc::ptr_eq(old, new) {
        return true;
    }
    if !reads_alike(then.names.as_deref(), now.names.as_deref()) {
        // The target keeps the tree that it made then.
        return false;
    }
    if then.scope_version == now.scope_version {
        return old.facts == new.facts && old.mask == new.mask;
    }
    old.facts.objects == new.facts.objects
        && old.facts.functions == new.facts.functions
        && old.facts.verbs == new.facts.verbs
        && old.facts.effects == new.facts.effects
}

/// Whether a text's tree is the same under both. Without names a text has nothing in it that could
/// be read in two ways.
pub(super) fn reads_alike(then: Option<&Names>, now: Option<&Names>) -> bool {
    match (then, now) {
        (Some(then), Some(now)) => then.session.backslash() == now.session.backslash(),
        _ => true,
    }
}

/// The values of a Bind.
pub(super) fn bound_parameters(
    values: &[(Option<&[u8]>, bool)],
    types: &[u32],
) -> Arc<[Parameter]> {
    let types = types.iter().copied().map(Some).chain(std::iter::repeat(None));
    let values = values.iter().zip(types);
    values.map(|((value, is_binary), type_oid)| parameter(*value, *is_binary, type_oid)).collect()
}

/// A bound value as an approver and the record see it. Long ones are named by digest, so that
/// they are still bound exactly.
pub(super) fn parameter(value: Option<&[u8]>, is_binary: bool, type_oid: Option<u32>) -> Parameter {
    let value = value.map(|bytes| {
        let is_long = bytes.len() > limits::EVENT_TEXT_BYTES_MAX;
        match std::str::from_utf8(bytes) {
            _ if is_long => {
                format!("sha256:{} ({} bytes)", digest([hex(bytes).as_str()]), bytes.len())
            }
            Ok(text) if !is_binary => text.to_owned(),
            Ok(_) | Err(_) => format!("\\x{}", hex(bytes)),
        }
    });
    Parameter {
        value,
        format: Cow::Borrowed(if is_binary { "binary" } else { "text" }),
        type_name: type_oid.filter(|oid| *oid != 0).map(|oid| oid.to_string()),
    }
}
