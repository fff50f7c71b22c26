//! Streams: pieces of terminals and commands, as bytes, as text, and gathered into bursts that
//! read as one line of a transcript.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use corral_model::Event;
use corral_model::event::{EventBody, StreamData, StreamEnd};
use corral_model::ids::{SessionId, StatementSeq};
use time::{Duration, OffsetDateTime};

use super::words::bytes_text;

/// Pieces of one stream within this time read as one line.
const BURST: Duration = Duration::seconds(5);

/// The bytes of a piece; none when the record holds no base64, which the writer never does.
pub(crate) fn bytes_of(data: &StreamData) -> Vec<u8> {
    match data {
        StreamData::Text(text) => text.as_bytes().to_vec(),
        StreamData::Base64(text) => STANDARD.decode(text).unwrap_or_default(),
    }
}

/// Their number, without decoding them.
pub(crate) fn len_of(data: &StreamData) -> u64 {
    match data {
        StreamData::Text(text) => text.len() as u64,
        StreamData::Base64(text) => {
            let padding = text.bytes().rev().take_while(|byte| *byte == b'=').count();
            (text.len() / 4 * 3).saturating_sub(padding) as u64
        }
    }
}

/// Makes text of bytes that come in pieces: a character that is cut waits for its rest, what is
/// no UTF-8 becomes U+FFFD.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    rest: Vec<u8>,
}

impl Decoder {
    pub(crate) fn push(&mut self, bytes: &[u8]) -> String {
        self.rest.extend_from_slice(bytes);
        let bytes = std::mem::take(&mut self.rest);
        let mut text = String::with_capacity(bytes.len());
        let mut left = bytes.as_slice();
        loop {
            match std::str::from_utf8(left) {
                Ok(valid) => {
                    text.push_str(valid);
                    return text;
                }
                Err(error) => {
                    let (valid, after) = left.split_at(error.valid_up_to());
                    text.push_str(std::str::from_utf8(valid).unwrap_or_default());
                    match error.error_len() {
                        Some(len) => {
                            text.push(char::REPLACEMENT_CHARACTER);
                            left = after.get(len..).unwrap_or_default();
                        }
                        None => {
                            self.rest = after.to_vec();
                            return text;
                        }
                    }
                }
            }
        }
    }

    /// What is left when nothing more comes.
    pub(crate) fn finish(&mut self) -> &'static str {
        let is_cut = !std::mem::take(&mut self.rest).is_empty();
        if is_cut { "\u{fffd}" } else { "" }
    }
}

/// Pieces of one stream that belong together, as long as nothing else happened to it.
#[derive(Debug)]
pub(super) struct Burst<'a> {
    pub(super) seq: StatementSeq,
    start: OffsetDateTime,
    end: OffsetDateTime,
    pieces: Vec<(StreamEnd, &'a StreamData)>,
}

impl Burst<'_> {
    /// How much went which way: `client 12 B, target 4.5 kB over 2.3 s`.
    pub(super) fn amounts(&self) -> String {
        let mut texts: Vec<String> = Vec::new();
        for end in [StreamEnd::Client, StreamEnd::Target, StreamEnd::TargetError] {
            let of_end = self.pieces.iter().filter(|(from, _)| *from == end);
            let bytes: u64 = of_end.map(|(_, data)| len_of(data)).sum();
            if bytes > 0 {
                texts.push(format!("{} {}", name_of(end), bytes_text(bytes)));
            }
        }
        let lasted = self.end - self.start;
        let over = match lasted.whole_milliseconds() {
            ..100 => String::new(),
            ms => format!(" over {:.1} s", ms as f64 / 1e3),
        };
        format!("{}{over}", texts.join(", "))
    }

    /// What was said, in turns: `client: ls`, `target: a  b`.
    pub(super) fn turns(&self) -> Vec<String> {
        let mut turns: Vec<(StreamEnd, Vec<u8>)> = Vec::new();
        for (from, data) in &self.pieces {
            match turns.last_mut() {
                Some((last, bytes)) if last == from => bytes.extend(bytes_of(data)),
                Some(_) | None => turns.push((*from, bytes_of(data))),
            }
        }
        let text = |(from, bytes): &(StreamEnd, Vec<u8>)| {
            format!("{}: {}", name_of(*from), String::from_utf8_lossy(bytes))
        };
        turns.iter().map(text).collect()
    }
}

fn name_of(end: StreamEnd) -> &'static str {
    match end {
        StreamEnd::Client => "client",
        StreamEnd::Target => "target",
        StreamEnd::TargetError => "errors",
    }
}

/// The bursts of a timeline, by the index of their first event.
pub(super) fn bursts(events: &[Event]) -> BTreeMap<usize, Burst<'_>> {
    let mut bursts: BTreeMap<usize, Burst<'_>> = BTreeMap::new();
    let mut open: BTreeMap<(Option<&SessionId>, StatementSeq), usize> = BTreeMap::new();
    for (index, event) in events.iter().enumerate() {
        let session = event.origin.session.as_ref();
        match (&event.body, event.body.statement_seq()) {
            (EventBody::StreamPassed { from, data, .. }, Some(seq)) => {
                let known = open.get(&(session, seq)).and_then(|first| bursts.get_mut(first));
                match known.filter(|burst| event.time - burst.start < BURST) {
                    Some(burst) => {
                        burst.pieces.push((*from, data));
                        burst.end = event.time.max(burst.end);
                    }
                    None => {
                        let (start, end) = (event.time, event.time);
                        let pieces = vec![(*from, data)];
                        bursts.insert(index, Burst { seq, start, end, pieces });
                        open.insert((session, seq), index);
                    }
                }
            }
            (_, Some(seq)) => {
                open.remove(&(session, seq));
            }
            (_, None) => {}
        }
    }
    bursts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_characters_wait_for_their_rest() {
        let bytes = "grün☃!".as_bytes();
        for cut in 0..=bytes.len() {
            let mut decoder = Decoder::default();
            let (a, b) = bytes.split_at(cut);
            let text = decoder.push(a) + &decoder.push(b) + decoder.finish();
            assert_eq!(text, "grün☃!", "{cut}");
        }
    }

    #[test]
    fn what_is_no_text_is_replaced_and_never_lost() {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.push(b"a\xffb"), "a\u{fffd}b");
        assert_eq!(decoder.push(b"\xe2\x98"), "");
        assert_eq!(decoder.push(b"x"), "\u{fffd}x");
        assert_eq!(decoder.push(b"\xe2"), "");
        assert_eq!(decoder.finish(), "\u{fffd}");
        assert_eq!(decoder.finish(), "");
    }

    #[test]
    fn lengths_are_those_of_the_bytes() {
        for len in 0..10 {
            let bytes = vec![0xff; len];
            let data = StreamData::Base64(STANDARD.encode(&bytes));
            assert_eq!(len_of(&data), len as u64);
            assert_eq!(bytes_of(&data), bytes);
        }
        assert_eq!(len_of(&StreamData::Text("☃".to_owned())), 3);
    }
}
