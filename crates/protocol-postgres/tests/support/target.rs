//! A target that speaks the protocol as PostgreSQL does, and knows a handful of texts.

use std::collections::{HashMap, VecDeque};

use super::PEOPLE;
use super::client::message;

/// What a text answers with.
#[derive(Clone)]
pub(crate) enum Reply {
    /// Columns: name, table, attribute, type; then rows.
    Rows(Vec<(&'static str, u32, i16, u32)>, Vec<Vec<Option<String>>>),
    /// One column with so many numbers.
    Numbers(usize),
    Done(&'static str),
    Error(&'static str, &'static str),
    CopyIn,
    CopyOut(Vec<&'static str>),
    /// What only a function call may get.
    Value,
}

#[derive(Clone)]
struct Portal {
    text: String,
    rows: VecDeque<Vec<Option<String>>>,
    is_binary: bool,
    is_started: bool,
}

pub(crate) struct FakeTarget {
    buffer: Vec<u8>,
    is_started: bool,
    is_in_password: bool,
    pub(crate) status: u8,
    is_skipping: bool,
    was_question: bool,
    is_in_copy: bool,
    copy_is_simple: bool,
    statements: HashMap<String, String>,
    portals: HashMap<String, Portal>,
    /// Everything it was sent, one line for each message, without the gateway's questions.
    pub(crate) log: Vec<String>,
    pub(crate) questions: usize,
    /// The session has a schema for temporary objects.
    pub(crate) has_temporary: bool,
    /// The next question is cancelled, as it is when a client's cancel comes at that time.
    pub(crate) cancels_question: bool,
    /// Statements that were prepared by SQL.
    pub(crate) from_sql: Vec<String>,
    /// How often it was asked not to compile them.
    pub(crate) plain_questions: usize,
    pub(crate) startup: Vec<String>,
    pub(crate) replies: HashMap<String, Reply>,
    pub(crate) asks_password: bool,
    pub(crate) tls_answer: u8,
}

impl Default for FakeTarget {
    fn default() -> Self {
        let some = |text: &str| Some(text.to_owned());
        let people: Vec<Vec<Option<String>>> =
            vec![vec![some("1"), some("123-45-6789")], vec![some("2"), None]];
        let id = ("id", PEOPLE, 1, 23);
        let masked = ("ssn", PEOPLE, 3, 25);
        let number = ("n", 0, 0, 23);
        let replies = [
            ("select id, ssn from people", Reply::Rows(vec![id, masked], people.clone())),
            ("select id from people", Reply::Rows(vec![id], vec![vec![some("1")]])),
            // The analysis foresees two columns with the second one masked.
            ("select id, ssn as three", Reply::Rows(vec![id, masked, number], vec![])),
            // The analysis foresees nothing masked.
            ("select sly", Reply::Rows(vec![masked], vec![vec![some("123-45-6789")]])),
            ("select 1", Reply::Numbers(1)),
            ("select 5", Reply::Numbers(5)),
            ("select many", Reply::Numbers(50_000)),
            ("select wide", Reply::Rows(vec![number], vec![vec![Some("x".repeat(300_000))]])),
            ("select 1/0", Reply::Error("22012", "division by 123-45-6789")),
            ("update", Reply::Done("UPDATE 3")),
            ("copy t from stdin", Reply::CopyIn),
            ("copy t to stdout", Reply::CopyOut(vec!["a\n", "b\n"])),
        ];
        Self {
            buffer: Vec::new(),
            is_started: false,
            is_in_password: false,
            status: b'I',
            is_skipping: false,
            was_question: false,
            is_in_copy: false,
            copy_is_simple: false,
            statements: HashMap::new(),
            portals: HashMap::new(),
            log: Vec::new(),
            questions: 0,
            has_temporary: false,
            cancels_question: false,
            from_sql: Vec::new(),
            plain_questions: 0,
            startup: Vec::new(),
            replies: replies.map(|(text, reply)| (text.to_owned(), reply)).into(),
            asks_password: false,
            tls_answer: b'S',
        }
    }
}

fn texts(body: &[u8]) -> Vec<String> {
    body.split(|byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into_owned()).collect()
}

pub(crate) fn error(severity: &str, code: &str, text: &str) -> Vec<u8> {
    let body = format!("S{severity}\0V{severity}\0C{code}\0M{text}\0DDetail {text}\0P7\0\0");
    message(b'E', body.as_bytes())
}

pub(crate) fn row(cells: &[Option<String>]) -> Vec<u8> {
    let mut body = u16::try_from(cells.len()).expect("few").to_be_bytes().to_vec();
    for cell in cells {
        match cell {
            Some(text) => {
                body.extend_from_slice(&u32::try_from(text.len()).expect("short").to_be_bytes());
                body.extend_from_slice(text.as_bytes());
            }
            None => body.extend_from_slice(&[0xff; 4]),
        }
    }
    message(b'D', &body)
}

fn description(columns: &[(&'static str, u32, i16, u32)], is_binary: bool) -> Vec<u8> {
    let mut body = u16::try_from(columns.len()).expect("few").to_be_bytes().to_vec();
    for (name, table, attribute, type_oid) in columns {
        body.extend_from_slice(name.as_bytes());
        body.push(0);
        body.extend_from_slice(&table.to_be_bytes());
        body.extend_from_slice(&attribute.to_be_bytes());
        body.extend_from_slice(&type_oid.to_be_bytes());
        body.extend_from_slice(&[0; 6]);
        body.extend_from_slice(&u16::from(is_binary).to_be_bytes());
    }
    message(b'T', &body)
}

impl FakeTarget {
    /// As a DISCARD that the gateway did not see would.
    pub(crate) fn forget_statements(&mut self) {
        self.statements.clear();
    }

    pub(crate) fn receive(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.buffer.extend_from_slice(bytes);
        let mut out = Vec::new();
        loop {
            let head = if self.is_started { 1 } else { 0 };
            let Some(length) = self.buffer.get(head..head + 4) else { return out };
            let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
            if self.buffer.len() < length + head {
                return out;
            }
            let frame: Vec<u8> = self.buffer.drain(..length + head).collect();
            if self.is_started {
                self.answer(frame[0], &frame[5..], &mut out);
            } else {
                self.start(&frame, &mut out);
            }
        }
    }

    fn start(&mut self, frame: &[u8], out: &mut Vec<u8>) {
        if frame[4..8] == 80_877_103_u32.to_be_bytes() {
            out.push(self.tls_answer);
            return;
        }
        self.startup = texts(&frame[8..]);
        self.is_started = true;
        if self.asks_password {
            self.is_in_password = true;
            out.extend(message(b'R', &3_u32.to_be_bytes()));
        } else {
            self.greet(out);
        }
    }

    fn greet(&mut self, out: &mut Vec<u8>) {
        out.extend(message(b'R', &0_u32.to_be_bytes()));
        for (name, value) in [("server_version", "15.20"), ("client_encoding", "UTF8")] {
            out.extend(message(b'S', format!("{name}\0{value}\0").as_bytes()));
        }
        out.extend(message(b'K', &[0, 0, 0, 77, 1, 2, 3, 4]));
        out.extend(message(b'Z', b"I"));
    }

    fn answer(&mut self, tag: u8, body: &[u8], out: &mut Vec<u8>) {
        if self.is_in_password {
            assert_eq!(tag, b'p');
            self.is_in_password = false;
            self.greet(out);
            return;
        }
        let mut parts = texts(body);
        let is_question = parts.iter().any(|part| part.contains("corral.question"));
        let ends_question = self.was_question && matches!(tag, b'S' | b'H');
        self.was_question = is_question;
        if !is_question && !ends_question {
            let shown = parts.iter().filter(|part| !part.is_empty()).cloned();
            let shown: Vec<String> = shown.collect();
            self.log.push(format!("{} {}", tag as char, shown.join(" ")).trim_end().to_owned());
        }
        if self.is_in_copy {
            self.copy(tag, out);
            return;
        }
        if self.is_skipping && tag != b'S' && tag != b'X' {
            return;
        }
        // Names are compared by their first 63 bytes; a kind stands before some.
        let (names, kind) = match tag {
            b'P' | b'E' => (1, 0),
            b'B' => (2, 0),
            b'D' | b'C' => (1, 1),
            _ => (0, 0),
        };
        parts.iter_mut().take(names).for_each(|name| name.truncate(63 + kind));
        match tag {
            b'Q' => self.query(&parts[0], out),
            b'P' => self.parse(parts, out),
            b'B' => self.bind(&parts, body, out),
            b'D' => self.describe(&parts[0], out),
            b'E' if is_question && std::mem::take(&mut self.cancels_question) => {
                self.extended_error("57014", "canceling statement due to user request", out);
            }
            b'E' => {
                let limit = i32::from_be_bytes(body[body.len() - 4..].try_into().expect("four"));
                self.execute(&parts[0], limit, out);
            }
            b'C' => {
                let name = &parts[0][1..];
                match body[0] {
                    b'S' => drop(self.statements.remove(name)),
                    _ => drop(self.portals.remove(name)),
                }
                out.extend(message(b'3', b""));
            }
            b'F' => {
                out.extend(message(b'V', b"\0\0\0\x017"));
                out.extend(message(b'Z', &[self.status]));
            }
            b'S' => {
                self.is_skipping = false;
                if self.status == b'I' {
                    self.portals.clear();
                }
                out.extend(message(b'Z', &[self.status]));
            }
            b'H' | b'X' | b'd' | b'c' | b'f' => {}
            other => unreachable!("the target got {}", other as char),
        }
    }

    fn fail(&mut self, code: &str, text: &str, out: &mut Vec<u8>) {
        out.extend(error("ERROR", code, text));
        if self.status == b'T' {
            self.status = b'E';
        }
    }

    fn reply(&mut self, text: &str) -> Reply {
        if text.starts_with("corral refused") {
            return Reply::Error("42601", "syntax error");
        }
        let word = text.split_whitespace().next().unwrap_or_default();
        match word {
            "commit" | "rollback" => {
                self.status = b'I';
                return Reply::Done("COMMIT");
            }
            _ if self.status == b'E' => return Reply::Error("25P02", "aborted"),
            "begin" => {
                self.status = b'T';
                return Reply::Done("BEGIN");
            }
            _ => {}
        }
        match self.replies.get(text).or_else(|| self.replies.get(word)) {
            Some(Reply::Numbers(count)) => {
                let rows = (1..=*count).map(|n| vec![Some(n.to_string())]).collect();
                Reply::Rows(vec![("n", 0, 0, 23)], rows)
            }
            Some(reply) => reply.clone(),
            None => Reply::Done("OK"),
        }
    }

    fn query(&mut self, text: &str, out: &mut Vec<u8>) {
        self.statements.remove("");
        if text.is_empty() {
            out.extend(message(b'I', b""));
        }
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            match self.reply(part) {
                Reply::Rows(columns, rows) => {
                    out.extend(description(&columns, false));
                    for cells in &rows {
                        out.extend(row(cells));
                    }
                    out.extend(message(b'C', format!("SELECT {}\0", rows.len()).as_bytes()));
                }
                Reply::Done(tag) => out.extend(message(b'C', format!("{tag}\0").as_bytes())),
                Reply::Error(code, text) => {
                    self.fail(code, text, out);
                    break;
                }
                Reply::CopyIn => {
                    self.is_in_copy = true;
                    self.copy_is_simple = true;
                    out.extend(message(b'G', &[0, 0, 0]));
                    return;
                }
                Reply::CopyOut(lines) => copy_out(&lines, out),
                Reply::Value => out.extend(message(b'V', b"\0\0\0\x017")),
                Reply::Numbers(_) => {}
            }
        }
        out.extend(message(b'Z', &[self.status]));
    }

    fn copy(&mut self, tag: u8, out: &mut Vec<u8>) {
        match tag {
            b'd' | b'S' | b'H' => return,
            b'c' => out.extend(message(b'C', b"COPY 2\0")),
            _ => {
                self.fail("57014", "COPY from stdin failed", out);
                self.is_skipping = !self.copy_is_simple;
            }
        }
        self.is_in_copy = false;
        if self.copy_is_simple {
            out.extend(message(b'Z', &[self.status]));
        }
    }

    fn extended_error(&mut self, code: &str, text: &str, out: &mut Vec<u8>) {
        self.fail(code, text, out);
        self.is_skipping = true;
    }

    fn parse(&mut self, parts: Vec<String>, out: &mut Vec<u8>) {
        let (name, text) = (parts[0].clone(), parts[1].clone());
        if text.starts_with("corral refused") {
            self.extended_error("42601", "syntax error", out);
        } else if self.status == b'E' && !text.starts_with("rollback") {
            self.extended_error("25P02", "aborted", out);
        } else if !name.is_empty() && self.statements.contains_key(&name) {
            self.extended_error("42P05", "already exists", out);
        } else {
            self.statements.insert(name, text);
            out.extend(message(b'1', b""));
        }
    }

    fn bind(&mut self, parts: &[String], body: &[u8], out: &mut Vec<u8>) {
        let Some(text) = self.statements.get(&parts[1]).cloned() else {
            self.extended_error("26000", "no such statement", out);
            return;
        };
        let is_binary = body.ends_with(&[0, 1, 0, 1]);
        let portal = Portal { text, rows: VecDeque::new(), is_binary, is_started: false };
        self.portals.insert(parts[0].clone(), portal);
        out.extend(message(b'2', b""));
    }

    fn describe(&mut self, name: &str, out: &mut Vec<u8>) {
        let (kind, name) = name.split_at(1);
        let (text, is_binary) = if kind == "S" {
            out.extend(message(b't', &[0, 0]));
            (self.statements.get(name).cloned(), false)
        } else {
            let portal = self.portals.get(name);
            (portal.map(|found| found.text.clone()), portal.is_some_and(|found| found.is_binary))
        };
        match text.as_ref().and_then(|text| self.replies.get(text)) {
            Some(Reply::Rows(columns, _)) => out.extend(description(columns, is_binary)),
            Some(Reply::Numbers(_)) => out.extend(description(&[("n", 0, 0, 23)], is_binary)),
            _ if text.is_none() => self.extended_error("34000", "no such portal", out),
            _ => out.extend(message(b'n', b"")),
        }
    }

    fn execute(&mut self, name: &str, limit: i32, out: &mut Vec<u8>) {
        let Some(mut portal) = self.portals.get(name).cloned() else {
            self.extended_error("34000", "no such portal", out);
            return;
        };
        if name == "corral.question" {
            self.questions += usize::from(!portal.text.contains("'jit'"));
            self.plain_questions += usize::from(portal.text.contains("'jit'"));
            let some = |text: &str| Some(text.to_owned());
            if portal.text.contains("'temporary'") && self.has_temporary {
                out.extend(row(&[some("setting"), some("temporary"), some("16999")]));
            }
            if portal.text.contains("pg_prepared_statements") {
                for name in &self.from_sql {
                    out.extend(row(&[some(name)]));
                }
            }
            out.extend(row(&[some("a name")]));
            out.extend(message(b'C', b"SELECT 1\0"));
            return;
        }
        if !portal.is_started {
            match self.reply(&portal.text.clone()) {
                Reply::Rows(_, rows) => portal.rows = rows.into(),
                Reply::Done(tag) => {
                    out.extend(message(b'C', format!("{tag}\0").as_bytes()));
                    return;
                }
                Reply::Error(code, text) => return self.extended_error(code, text, out),
                Reply::CopyIn => {
                    self.is_in_copy = true;
                    self.copy_is_simple = false;
                    out.extend(message(b'G', &[0, 0, 0]));
                    return;
                }
                Reply::CopyOut(lines) => return copy_out(&lines, out),
                Reply::Value | Reply::Numbers(_) => {}
            }
            portal.is_started = true;
        }
        let mut sent = 0;
        while let Some(cells) = portal.rows.front() {
            if limit > 0 && sent == limit {
                out.extend(message(b's', b""));
                self.portals.insert(name.to_owned(), portal);
                return;
            }
            out.extend(row(cells));
            portal.rows.pop_front();
            sent += 1;
        }
        self.portals.insert(name.to_owned(), portal);
        out.extend(message(b'C', format!("SELECT {sent}\0").as_bytes()));
    }
}

fn copy_out(lines: &[&str], out: &mut Vec<u8>) {
    out.extend(message(b'H', &[0, 0, 0]));
    for line in lines {
        out.extend(message(b'd', line.as_bytes()));
    }
    out.extend(message(b'c', b""));
    out.extend(message(b'C', format!("COPY {}\0", lines.len()).as_bytes()));
}
