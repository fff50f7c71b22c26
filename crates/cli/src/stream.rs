//! Answers of many lines: JSON lines and server-sent events, read as they come.

use corral_model::Event;
use reqwest::Response;

use crate::failure::{Exit, Failure};

/// One line of an answer, in bytes: far above the largest event, which holds a sample of rows.
const LINE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The lines of an answer.
#[derive(Debug)]
pub(crate) struct Lines {
    response: Response,
    buffer: Vec<u8>,
    is_at_end: bool,
}

impl Lines {
    #[must_use]
    pub(crate) fn new(response: Response) -> Self {
        Self { response, buffer: Vec::new(), is_at_end: false }
    }

    /// The next line without its break; None at the end.
    ///
    /// # Errors
    /// When the answer breaks off: what came before is not the whole.
    ///
    /// # Limits
    /// [`LINE_BYTES_MAX`].
    pub(crate) async fn next(&mut self) -> Result<Option<String>, Failure> {
        let mut searched = 0;
        loop {
            let fresh = self.buffer.get(searched..).unwrap_or_default();
            if let Some(found) = fresh.iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(searched + found + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                line.pop();
                return text(line).map(Some);
            }
            searched = self.buffer.len();
            if self.is_at_end {
                let last = std::mem::take(&mut self.buffer);
                return if last.is_empty() { Ok(None) } else { text(last).map(Some) };
            }
            if self.buffer.len() > LINE_BYTES_MAX {
                return Err(Failure::failed("the gateway sent a line that is too long"));
            }
            let chunk = self.response.chunk().await.map_err(|_| {
                Failure::new(Exit::Unreachable, "the gateway's answer broke off before its end")
            })?;
            match chunk {
                Some(bytes) => self.buffer.extend_from_slice(&bytes),
                None => self.is_at_end = true,
            }
        }
    }

    /// The next event of JSON lines; None at the end.
    ///
    /// # Errors
    /// When the answer breaks off or a line is no event.
    pub(crate) async fn next_event(&mut self) -> Result<Option<Event>, Failure> {
        loop {
            match self.next().await? {
                None => return Ok(None),
                Some(line) if line.trim().is_empty() => {}
                Some(line) => return parse_event(&line).map(Some),
            }
        }
    }

    /// The next message of server-sent events; None at the end.
    ///
    /// # Errors
    /// When the answer breaks off or a message is no event.
    pub(crate) async fn next_message(&mut self) -> Result<Option<Message>, Failure> {
        let mut parser = MessageParser::default();
        loop {
            match self.next().await? {
                None => return Ok(None),
                Some(line) => {
                    if let Some(message) = parser.line(&line)? {
                        return Ok(Some(message));
                    }
                }
            }
        }
    }
}

fn text(bytes: Vec<u8>) -> Result<String, Failure> {
    String::from_utf8(bytes).map_err(|_| Failure::failed("the gateway's answer is not text"))
}

fn parse_event(line: &str) -> Result<Event, Failure> {
    serde_json::from_str(line).map_err(|error| {
        Failure::failed(format!("the gateway sent an event that cannot be read: {error}"))
            .with_hint("is this `corral` of the same version as the gateway?")
    })
}

/// One message of the event stream.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Message {
    Event(Box<Event>),
    /// So many events were missed, because they came faster than they were read.
    Missed(u64),
}

/// Server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>), as far
/// as the gateway writes them.
#[derive(Debug, Default)]
struct MessageParser {
    name: String,
    data: String,
}

impl MessageParser {
    fn line(&mut self, line: &str) -> Result<Option<Message>, Failure> {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.is_empty() {
            return self.dispatch();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            // Comments, ids and what a later version adds.
            _ => {}
        }
        Ok(None)
    }

    fn dispatch(&mut self) -> Result<Option<Message>, Failure> {
        let name = std::mem::take(&mut self.name);
        let data = std::mem::take(&mut self.data);
        if data.is_empty() {
            return Ok(None);
        }
        if name == "missed" {
            let value: serde_json::Value = serde_json::from_str(&data).unwrap_or_default();
            let count = value.get("missed").and_then(serde_json::Value::as_u64);
            return Ok(Some(Message::Missed(count.unwrap_or(1))));
        }
        parse_event(&data).map(|event| Some(Message::Event(Box::new(event))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = r#"{"seq":1,"id":"gw:1","time":"2026-01-01T00:00:00Z","gateway":"g","event":"gateway.stopped"}"#;

    #[test]
    fn messages_are_read_and_comments_passed_over() {
        let mut parser = MessageParser::default();
        let mut messages: Vec<Message> = Vec::new();
        let text = format!(
            ": hello\n\nid: gw:1\ndata: {EVENT}\n\nevent: missed\ndata: {{\"missed\":7}}\r\n\r\n"
        );
        for line in text.split('\n') {
            messages.extend(parser.line(line).expect("is read"));
        }
        assert_eq!(messages.len(), 2);
        assert!(matches!(&messages[0], Message::Event(event) if event.id == "gw:1"));
        assert_eq!(messages[1], Message::Missed(7));
    }

    #[test]
    fn a_message_that_is_no_event_is_an_error() {
        let mut parser = MessageParser::default();
        parser.line("data: {}").expect("is kept");
        assert!(parser.line("").is_err());
    }
}
