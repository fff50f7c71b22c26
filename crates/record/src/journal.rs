//! The journal of synced sessions: copies of the entries that wait for a sync, of all sessions, so
//! that one sync makes all of them durable. The sessions' files are the record; see ADR 12 and
//! [`crate::replay`] for what a start does with it.
//!
//! ```text
//! header of 72 bytes, kind 3      as of any file of the record; its first hash is random
//! frames of kind 5 (a round)      payload: 4 bytes of length n
//!                                          n bytes of JSON: [{session, day, offset, bytes}, …]
//!                                          the entries, in that order
//!                                          zeros, so that the frame ends at a multiple of 4096
//! zeros, or what is left of rounds before the last settling
//! ```

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::rand;
use corral_model::ids::SessionId;
use corral_model::limits;
use serde::{Deserialize, Serialize};

use crate::format::{EntryKind, FileKind, HASH_BYTES, Head, Header, RecordId, encode_frame};
use crate::layout;
use crate::session::SessionFile;
use crate::sink::{Disk, Sink, write_all};
use crate::sync::sync_all;

/// No block of the device is written again that holds an acknowledged round.
const BLOCK_BYTES: usize = 4096;
const FILL_BYTES: usize = 256 * 1024;

/// Whole entries of a session's file, as they stand there.
pub(crate) struct Piece {
    pub(crate) file: Arc<SessionFile>,
    pub(crate) offset: u64,
    pub(crate) bytes: Vec<u8>,
}

/// Where a piece belongs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PieceHead {
    pub(crate) session: SessionId,
    pub(crate) day: String,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

/// How much a journal holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct JournalSize {
    pub(crate) bytes: u64,
    pub(crate) files_max: usize,
}

impl Default for JournalSize {
    fn default() -> Self {
        Self { bytes: limits::RECORD_JOURNAL_BYTES, files_max: limits::RECORD_JOURNAL_FILES_MAX }
    }
}

pub(crate) struct Journal {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    record: RecordId,
    size: JournalSize,
    stage: Stage,
    /// Whose entries are durable here and may not be in their own files.
    files: BTreeMap<SessionId, Arc<SessionFile>>,
    buffer: Vec<u8>,
}

enum Stage {
    /// No session was synced yet.
    Unmade,
    Made(Place),
    /// It failed, and stays as it is for the next start.
    Given,
}

struct Place {
    sink: Arc<dyn Sink>,
    /// What the next round follows.
    head: Head,
    /// Where the next round begins; 0 when the header has to be written with it.
    offset: u64,
}

impl Journal {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        record_dir: &Path,
        record: RecordId,
        size: JournalSize,
    ) -> Self {
        let path = layout::journal_path(record_dir);
        let (stage, files) = (Stage::Unmade, BTreeMap::new());
        Self { disk, path, record, size, stage, files, buffer: Vec::new() }
    }

    /// Returns when all pieces survive a loss of power.
    ///
    /// # Errors
    /// The device's. Then nothing is known of these pieces, and their files have to be synced; all
    /// earlier ones are as safe as they were.
    pub(crate) fn write(&mut self, pieces: &[Piece]) -> io::Result<()> {
        let mut rest = pieces;
        while !rest.is_empty() {
            let (round, later) = rest.split_at(self.len_of_round(rest));
            self.write_round(round)?;
            rest = later;
        }
        Ok(())
    }

    /// How many pieces go into one round: so many that several rounds fit, one at least.
    fn len_of_round(&self, pieces: &[Piece]) -> usize {
        let mut bytes = 0;
        let fits = |piece: &&Piece| {
            bytes += piece.bytes.len() as u64;
            bytes <= self.size.bytes / 4
        };
        pieces.iter().take(self.size.files_max).take_while(fits).count().max(1)
    }

    fn write_round(&mut self, round: &[Piece]) -> io::Result<()> {
        let result = self.try_round(round);
        if result.is_err() {
            self.give_up();
        }
        result
    }

    fn try_round(&mut self, round: &[Piece]) -> io::Result<()> {
        let news = round.iter().filter(|piece| !self.files.contains_key(&piece.file.id)).count();
        if self.files.len() + news > self.size.files_max {
            self.settle();
        }
        self.make()?;
        let mut head = self.encode(round)?;
        if self.place()?.offset + self.buffer.len() as u64 > self.size.bytes {
            self.settle();
            head = self.encode(round)?;
            if self.buffer.len() as u64 > self.size.bytes {
                return Err(io::Error::other("a round is longer than the journal"));
            }
        }
        let Stage::Made(place) = &mut self.stage else { return Err(given()) };
        write_all(place.sink.as_ref(), &self.buffer, place.offset)?;
        place.sink.sync()?;
        place.offset += self.buffer.len() as u64;
        place.head = head;
        for piece in round {
            self.files.insert(piece.file.id.clone(), Arc::clone(&piece.file));
        }
        if self.buffer.capacity() > limits::RECORD_BUFFER_BYTES_KEPT {
            self.buffer = Vec::new();
        }
        Ok(())
    }

    /// Makes the file, all of it, if there is none yet.
    fn make(&mut self) -> io::Result<()> {
        if !matches!(self.stage, Stage::Unmade) {
            return Ok(());
        }
        let sink = self.disk.create(&self.path)?;
        let made = self.fill(sink.as_ref()).and_then(|()| fresh_head());
        // The sync of the first round is that of the zeros too.
        let head = made.inspect_err(|_| {
            // Best effort: a file of zeros, whole or not, says nothing.
            let _ = std::fs::remove_file(&self.path);
        })?;
        self.stage = Stage::Made(Place { sink, head, offset: 0 });
        Ok(())
    }

    fn fill(&self, sink: &dyn Sink) -> io::Result<()> {
        let zeros = vec![0; FILL_BYTES];
        let mut offset = 0;
        while offset < self.size.bytes {
            let count = usize::try_from(self.size.bytes - offset).unwrap_or(FILL_BYTES);
            let part = zeros.get(..count).unwrap_or(&zeros);
            write_all(sink, part, offset)?;
            offset += part.len() as u64;
        }
        Ok(())
    }

    /// Puts a round's bytes into the buffer, behind a header where the journal begins.
    fn encode(&mut self, round: &[Piece]) -> io::Result<Head> {
        let Stage::Made(place) = &self.stage else { return Err(given()) };
        let heads: Vec<PieceHead> = round.iter().map(Piece::head).collect();
        let json = serde_json::to_vec(&heads)?;
        let json_bytes = u32::try_from(json.len()).map_err(io::Error::other)?;
        self.buffer.clear();
        if place.offset == 0 {
            let header =
                Header { kind: FileKind::Journal, follows: place.head, record: self.record };
            self.buffer.extend_from_slice(&header.encode());
        }
        encode_frame(&mut self.buffer, EntryKind::Round, place.head, &mut |buffer, _| {
            buffer.extend_from_slice(&json_bytes.to_be_bytes());
            buffer.extend_from_slice(&json);
            for piece in round {
                buffer.extend_from_slice(&piece.bytes);
            }
            // Every round begins at the start of a block, with its header if it has one.
            let end = (buffer.len() + HASH_BYTES).next_multiple_of(BLOCK_BYTES);
            buffer.resize(end - HASH_BYTES, 0);
            Ok(())
        })
    }

    fn place(&self) -> io::Result<&Place> {
        match &self.stage {
            Stage::Made(place) => Ok(place),
            Stage::Unmade | Stage::Given => Err(given()),
        }
    }

    /// Syncs the files that the journal stands in for, and starts it over. When one of them cannot
    /// be synced, the journal is kept as it is for the next start.
    pub(crate) fn settle(&mut self) {
        if self.files.is_empty() {
            return;
        }
        let sinks: Vec<Arc<dyn Sink>> = self.files.values().map(|file| file.sink()).collect();
        let outcomes = sync_all(&sinks);
        let mut is_settled = outcomes.len() == sinks.len();
        for (file, outcome) in self.files.values().zip(outcomes) {
            if let Err(kind) = outcome {
                tracing::warn!(session = %file.id, %kind, "a recording cannot be synced");
                file.doubt();
                is_settled = false;
            }
        }
        self.files.clear();
        match (is_settled, fresh_head(), &mut self.stage) {
            (true, Ok(head), Stage::Made(place)) => {
                place.head = head;
                place.offset = 0;
            }
            _ => self.give_up(),
        }
    }

    /// Settles; the file is not needed then.
    pub(crate) fn end(mut self) {
        self.settle();
        if matches!(self.stage, Stage::Made(_)) {
            // What is left is replayed in vain.
            let _ = std::fs::remove_file(&self.path);
        }
    }

    fn give_up(&mut self) {
        if !matches!(self.stage, Stage::Given) {
            tracing::warn!("the record's journal failed: files are synced one by one from here on");
        }
        self.stage = Stage::Given;
    }
}

impl Piece {
    fn head(&self) -> PieceHead {
        PieceHead {
            session: self.file.id.clone(),
            day: self.file.day.clone(),
            offset: self.offset,
            bytes: self.bytes.len() as u64,
        }
    }
}

/// Random, so that nothing that an earlier round left follows it.
fn fresh_head() -> io::Result<Head> {
    let mut hash = [0; HASH_BYTES];
    rand::fill(&mut hash).map_err(|_| io::Error::other("the system gives no random bytes"))?;
    Ok(Head { seq: 0, hash })
}

fn given() -> io::Error {
    io::Error::other("the record's journal failed before")
}
