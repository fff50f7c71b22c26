//! What a start does with the journal of synced sessions: what the sessions' files lack of it is
//! appended to them, then it is removed. Doing it twice changes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use corral_model::ids::SessionId;

use crate::error::RecordError;
use crate::format::{
    EntryKind, FileKind, HEADER_BYTES, Hash, Head, Header, RecordId, hex, session_genesis,
};
use crate::journal::PieceHead;
use crate::key::PublicKey;
use crate::layout;
use crate::recover::cut_at;
use crate::scan::Entries;
use crate::sink::{Disk, make_folder, write_all};

/// The record that is being opened.
pub(crate) struct Place<'a> {
    pub(crate) disk: &'a dyn Disk,
    pub(crate) record_dir: &'a Path,
    pub(crate) key: &'a PublicKey,
    pub(crate) record: RecordId,
}

#[derive(Default)]
pub(crate) struct Replayed {
    pub(crate) bytes_cut: u64,
    /// Sessions whose entries in the journal do not continue their files. Nothing was done to
    /// those, and the journal is kept in `record/cut`.
    pub(crate) damaged: Vec<SessionId>,
}

/// The pieces of one session, in their order.
type Pieces = Vec<(u64, Vec<u8>)>;

struct Journaled {
    /// Tells one beginning of the journal from another.
    first: Hash,
    sessions: BTreeMap<(String, SessionId), Pieces>,
}

impl Place<'_> {
    /// # Errors
    /// [`RecordError`]: the disk, or a journal that no gateway wrote for this record.
    pub(crate) fn replay(&self) -> Result<Replayed, RecordError> {
        let mut replayed = Replayed::default();
        let path = layout::journal_path(self.record_dir);
        let journaled = match self.read(&path) {
            Ok(journaled) => journaled?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(replayed),
            Err(error) => return Err(RecordError::io("read", &path)(error)),
        };
        for ((day, session), pieces) in &journaled.sessions {
            if !self.session(day, session, pieces, &mut replayed.bytes_cut)? {
                tracing::warn!(%session, "the journal does not continue this recording");
                replayed.damaged.push(session.clone());
            }
        }
        if replayed.damaged.is_empty() {
            fs::remove_file(&path).map_err(RecordError::io("remove", &path))?;
        } else {
            let folder = layout::cut_dir(self.record_dir);
            let (start, _) = journaled.first.split_at(8);
            let aside = folder.join(format!("journal.{}", hex(start)));
            make_folder(&folder)
                .and_then(|()| fs::rename(&path, &aside))
                .map_err(RecordError::io("keep the journal as", &aside))?;
        }
        Ok(replayed)
    }

    /// Reads every round up to the first that is not whole or does not follow: it was not
    /// acknowledged, nor was any behind it.
    fn read(&self, path: &Path) -> io::Result<Result<Journaled, RecordError>> {
        let damaged =
            |what: String| RecordError::Damaged { path: path.to_owned(), offset: 0, what };
        // Read whole, so that a device that cannot read it is not taken for its end.
        let bytes = fs::read(path)?;
        let header = bytes.split_first_chunk::<HEADER_BYTES>();
        let Some((header, rounds)) = header.filter(|(header, _)| header.iter().any(|b| *b != 0))
        else {
            // It was being made.
            return Ok(Ok(Journaled { first: Hash::default(), sessions: BTreeMap::new() }));
        };
        let Header { follows, record, .. } = match Header::decode(header, FileKind::Journal) {
            Ok(header) => header,
            Err(what) => return Ok(Err(damaged(what))),
        };
        if record != self.record {
            return Ok(Err(damaged("it is another record's journal".to_owned())));
        }
        let mut entries = Entries::following(follows, record, rounds);
        let mut journaled = Journaled { first: follows.hash, sessions: BTreeMap::new() };
        while let Ok(Some(entry)) = entries.next() {
            let is_read = entry.kind == EntryKind::Round
                && add_round(&mut journaled.sessions, entry.payload).is_some();
            if !is_read {
                return Ok(Err(damaged(format!("round {} cannot be read", entry.seq))));
            }
        }
        Ok(Ok(journaled))
    }

    /// Appends what a session's file lacks, and syncs it. Returns false, and does nothing, when
    /// the pieces do not continue it.
    fn session(
        &self,
        day: &str,
        session: &SessionId,
        pieces: &Pieces,
        bytes_cut: &mut u64,
    ) -> Result<bool, RecordError> {
        let path = layout::session_path(self.record_dir, day, session);
        let opened = match Entries::open(&path, FileKind::Session) {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(RecordError::io("read", &path)(error)),
        };
        let Ok(mut entries) = opened else { return Ok(false) };
        let genesis = session_genesis(self.key.as_bytes(), &self.record, session);
        if entries.head() != (Head { seq: 0, hash: genesis }) || entries.record() != self.record {
            return Ok(false);
        }
        while let Ok(Some(_)) = entries.next() {}
        let (end, head) = (entries.offset(), entries.head());
        let Some(lacking) = lacking(pieces, end) else { return Ok(false) };
        if !is_whole(Entries::following(head, self.record, &lacking)) {
            return Ok(false);
        }
        let sink = self.disk.open(&path).map_err(RecordError::io("open", &path))?;
        if !lacking.is_empty() {
            let bytes = fs::metadata(&path).map_err(RecordError::io("read", &path))?.len();
            if bytes > end {
                *bytes_cut += cut_at(self.record_dir, &path, sink.as_ref(), end)?;
            }
            write_all(sink.as_ref(), &lacking, end).map_err(RecordError::io("write", &path))?;
            tracing::info!(%session, bytes = lacking.len(), "entries came back from the journal");
        }
        sink.sync().map_err(RecordError::io("sync", &path))?;
        Ok(true)
    }
}

/// The bytes behind `end` that the pieces have; None when there is a gap before them.
fn lacking(pieces: &Pieces, end: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for (offset, piece) in pieces {
        let at = end + bytes.len() as u64;
        let known = usize::try_from(at.checked_sub(*offset)?).ok()?;
        bytes.extend_from_slice(piece.get(known..).unwrap_or_default());
    }
    Some(bytes)
}

fn is_whole(mut entries: Entries<&[u8]>) -> bool {
    loop {
        match entries.next() {
            Ok(Some(_)) => {}
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

/// None when the round is not one: its hash is right, so that no crash made it.
fn add_round(sessions: &mut BTreeMap<(String, SessionId), Pieces>, payload: &[u8]) -> Option<()> {
    let (length, rest) = payload.split_first_chunk()?;
    let json_bytes = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (json, mut rest) = rest.split_at_checked(json_bytes)?;
    let heads: Vec<PieceHead> = serde_json::from_slice(json).ok()?;
    for PieceHead { session, day, offset, bytes } in heads {
        let (piece, later) = rest.split_at_checked(usize::try_from(bytes).ok()?)?;
        if !layout::is_day(&day) {
            return None;
        }
        sessions.entry((day, session)).or_default().push((offset, piece.to_vec()));
        rest = later;
    }
    Some(())
}
