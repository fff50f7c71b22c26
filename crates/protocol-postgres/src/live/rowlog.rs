//! Rows for the record, as the client sees them.

use corral_model::event::EventBody;
use corral_model::ids::StatementSeq;
use corral_model::limits;
use corral_model::resource::RecordRows;

use crate::codec::CodecError;
use crate::codec::answers::{Field, row_cells};
use crate::digest::hex;

/// Rows of one statement that are not in an event yet.
#[derive(Debug)]
pub(crate) struct RowLog {
    seq: StatementSeq,
    mode: RecordRows,
    columns: Vec<(String, bool)>,
    rows: Vec<Vec<Option<String>>>,
    bytes: usize,
    is_truncated: bool,
}

impl RowLog {
    /// None when this target's rows are not recorded.
    pub(crate) fn new(mode: RecordRows, seq: StatementSeq) -> Option<Box<Self>> {
        let is_kept = match mode {
            RecordRows::None | RecordRows::Count => false,
            RecordRows::Sample | RecordRows::Full => true,
        };
        is_kept.then(|| {
            Box::new(Self {
                seq,
                mode,
                columns: Vec::new(),
                rows: Vec::new(),
                bytes: 0,
                is_truncated: false,
            })
        })
    }

    /// A result starts. Gives the event for what came before.
    pub(crate) fn start(&mut self, fields: &[Field]) -> Option<EventBody> {
        let event = self.take();
        self.columns = fields.iter().map(|field| (field.name.clone(), field.is_binary)).collect();
        event
    }

    /// Adds one DataRow, after masking. Gives an event when enough is together.
    pub(crate) fn add(&mut self, frame: &[u8]) -> Result<Option<EventBody>, CodecError> {
        if self.mode == RecordRows::Sample
            && (self.rows.len() >= limits::SAMPLE_ROWS_MAX
                || self.bytes >= limits::SAMPLE_BYTES_MAX)
        {
            self.is_truncated = true;
            return Ok(None);
        }
        let (count, mut reader) = row_cells(frame)?;
        let mut row: Vec<Option<String>> = Vec::with_capacity(count);
        for index in 0..count {
            let is_binary = self.columns.get(index).is_some_and(|(_, is_binary)| *is_binary);
            let cell = reader.cell()?.map(|bytes| self.text_of(bytes, is_binary));
            self.bytes += cell.as_ref().map_or(0, String::len);
            row.push(cell);
        }
        self.rows.push(row);
        let is_full =
            self.rows.len() >= limits::EVENT_ROWS_MAX || self.bytes >= limits::EVENT_TEXT_BYTES_MAX;
        if self.mode == RecordRows::Full && is_full {
            return Ok(self.take());
        }
        Ok(None)
    }

    fn text_of(&mut self, bytes: &[u8], is_binary: bool) -> String {
        let cut = bytes.get(..limits::EVENT_TEXT_BYTES_MAX).unwrap_or(bytes);
        self.is_truncated |= cut.len() < bytes.len();
        if is_binary {
            format!("\\x{}", hex(cut))
        } else {
            String::from_utf8_lossy(cut).into_owned()
        }
    }

    /// The event for what is kept, if anything is.
    pub(crate) fn take(&mut self) -> Option<EventBody> {
        if self.rows.is_empty() {
            return None;
        }
        self.bytes = 0;
        Some(EventBody::StatementRows {
            seq_in_session: self.seq,
            columns: self.columns.iter().map(|(name, _)| name.clone()).collect(),
            rows: std::mem::take(&mut self.rows),
            truncated: std::mem::take(&mut self.is_truncated),
        })
    }
}
