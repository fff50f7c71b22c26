//! Results: is the layout what the analysis foresaw, and rewriting rows that hold masked columns.
//!
//! ```text
//! DataRow: | 'D' | length i32 | columns i16 | { length i32 or -1 | value }* |
//! ```

use std::collections::HashSet;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};

use super::scope::Scope;
use crate::analysis::{Analysis, Catalogue};
use crate::analyst::Analyst;
use crate::codec::CodecError;
use crate::codec::answers::{Field, row_cells};

/// What is done with each row of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RowPlan {
    /// Forwarded as it came.
    Raw,
    /// For each column the constant that replaces it, if it is masked.
    Masked(Arc<[Cell]>),
}

/// What is done with one cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cell {
    Keep,
    /// None: NULL.
    Replace(Option<&'static [u8]>),
}

/// Where masked columns live: table OID and attribute number.
pub(crate) type Origins = HashSet<(u32, i16)>;

/// The origins of a scope's masked columns in a catalogue.
pub(crate) fn origins(
    scope: &Scope,
    catalogue: Option<&Catalogue>,
    analyst: &dyn Analyst,
) -> Option<Origins> {
    let catalogue = catalogue?;
    let masked = scope.mask.masked.iter();
    Some(masked.filter_map(|column| analyst.origin(catalogue, column)).collect())
}

/// A result that is not what the analysis foresaw: no row of it may go out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tripped(pub(crate) String);

/// Compares a result's layout with what was foreseen. `origins` is None where the catalogue is not
/// known: then no column may come from any table.
pub(crate) fn plan(
    analysis: &Analysis,
    scope: &Scope,
    layout: Option<&[Field]>,
    origins: Option<&Origins>,
) -> Result<RowPlan, Tripped> {
    if !scope.is_masked() && analysis.mask.is_none() {
        return Ok(RowPlan::Raw);
    }
    let Some(layout) = layout else {
        return Err(Tripped("rows came without a description".into()));
    };
    let mut cells = vec![Cell::Keep; layout.len()];
    if let Some(mask) = &analysis.mask {
        if mask.column_count != layout.len() {
            return Err(Tripped(format!(
                "{} columns were foreseen and {} came",
                mask.column_count,
                layout.len()
            )));
        }
        for column in &mask.masked {
            match (cells.get_mut(column.index), layout.get(column.index)) {
                (Some(cell), Some(field)) => {
                    *cell = Cell::Replace(constant(field.type_oid, field.is_binary));
                }
                _ => return Err(Tripped(format!("no column {} came", column.index + 1))),
            }
        }
    }
    for (index, (field, cell)) in layout.iter().zip(&cells).enumerate() {
        let is_masked_origin = match origins {
            Some(origins) => origins.contains(&(field.table_oid, field.attribute)),
            None => field.table_oid != 0,
        };
        if is_masked_origin && *cell == Cell::Keep {
            return Err(Tripped(format!(
                "column {} comes from a masked column, which was not foreseen",
                index + 1
            )));
        }
    }
    let is_raw = cells.iter().all(|cell| *cell == Cell::Keep);
    Ok(if is_raw { RowPlan::Raw } else { RowPlan::Masked(cells.into()) })
}

/// Writes one DataRow with its masked cells replaced. The constant depends on the column's type
/// only: a NULL is replaced, too.
///
/// # Errors
/// [`CodecError`]: the target sent a row that is not what its description says.
pub(crate) fn put_masked_row(
    out: &mut BytesMut,
    frame: &[u8],
    cells: &[Cell],
) -> Result<(), CodecError> {
    let start = out.len();
    let written = try_put_masked_row(out, frame, cells);
    if written.is_err() {
        out.truncate(start);
    }
    written
}

fn try_put_masked_row(out: &mut BytesMut, frame: &[u8], cells: &[Cell]) -> Result<(), CodecError> {
    let start = out.len();
    let (count, mut reader) = row_cells(frame)?;
    if count != cells.len() {
        return Err(CodecError::Value);
    }
    out.put_u8(b'D');
    out.put_u32(0);
    out.put_u16(u16::try_from(count).map_err(|_| CodecError::Value)?);
    for cell in cells {
        let value = reader.cell()?;
        let sent = match cell {
            Cell::Keep => value,
            Cell::Replace(constant) => *constant,
        };
        match sent {
            None => out.put_i32(-1),
            Some(bytes) => {
                out.put_u32(u32::try_from(bytes.len()).map_err(|_| CodecError::Length)?);
                out.put_slice(bytes);
            }
        }
    }
    reader.finish()?;
    let length = u32::try_from(out.len() - start - 1).map_err(|_| CodecError::Length)?;
    if let Some(place) = out.get_mut(start + 1..start + 5) {
        place.copy_from_slice(&length.to_be_bytes());
    }
    Ok(())
}

/// A type's constants in text and in binary format.
type Constants = (&'static [u8], &'static [u8]);

/// Types by OID (`pg_type.dat`). Every other type is masked with NULL.
const CONSTANTS: &[(u32, Constants)] = &[
    (16, (b"f", b"\0")),                                         // bool
    (17, (b"\\x", b"")),                                         // bytea
    (18, (b"*", b"*")),                                          // "char"
    (19, (b"****", b"****")),                                    // name
    (20, (b"0", &[0; 8])),                                       // int8
    (21, (b"0", &[0; 2])),                                       // int2
    (23, (b"0", &[0; 4])),                                       // int4
    (25, (b"****", b"****")),                                    // text
    (26, (b"0", &[0; 4])),                                       // oid
    (114, (b"null", b"null")),                                   // json
    (700, (b"0", &[0; 4])),                                      // float4
    (701, (b"0", &[0; 8])),                                      // float8
    (790, (b"$0.00", &[0; 8])),                                  // money
    (869, (b"0.0.0.0", &[2, 32, 0, 4, 0, 0, 0, 0])),             // inet
    (650, (b"0.0.0.0/32", &[2, 32, 1, 4, 0, 0, 0, 0])),          // cidr
    (1042, (b"****", b"****")),                                  // bpchar
    (1043, (b"****", b"****")),                                  // varchar
    (1082, (b"2000-01-01", &[0; 4])),                            // date
    (1083, (b"00:00:00", &[0; 8])),                              // time
    (1114, (b"2000-01-01 00:00:00", &[0; 8])),                   // timestamp
    (1184, (b"2000-01-01 00:00:00+00", &[0; 8])),                // timestamptz
    (1186, (b"00:00:00", &[0; 16])),                             // interval
    (1266, (b"00:00:00+00", &[0; 12])),                          // timetz
    (1700, (b"0", &[0; 8])),                                     // numeric
    (2950, (b"00000000-0000-0000-0000-000000000000", &[0; 16])), // uuid
    (3802, (b"null", b"\x01null")),                              // jsonb
];

/// What every masked cell of a type and format is replaced with; None is NULL.
pub(crate) fn constant(type_oid: u32, is_binary: bool) -> Option<&'static [u8]> {
    let (_, (text, binary)) = CONSTANTS.iter().find(|(oid, _)| *oid == type_oid)?;
    Some(if is_binary { binary } else { text })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{MaskedColumn, ResultMask, SessionChange};
    use corral_model::resource::ColumnName;

    fn field(table_oid: u32, attribute: i16) -> Field {
        Field { name: "c".into(), table_oid, attribute, type_oid: 25, is_binary: false }
    }

    fn ssn() -> ColumnName {
        ColumnName::parse("public.people.ssn").expect("a column")
    }

    fn analysis(mask: Option<(usize, usize)>) -> Analysis {
        let mask = mask.map(|(column_count, index)| ResultMask {
            column_count,
            masked: vec![MaskedColumn { index, name: ssn() }],
        });
        Analysis {
            facts: Arc::default(),
            kinds: Vec::new(),
            needs_names: true,
            session_change: SessionChange::default(),
            has_bodies: false,
            resolves_late: false,
            mask,
            unknown: None,
            parse_error: None,
        }
    }

    #[test]
    fn a_layout_that_was_not_foreseen_trips() {
        let masked = Scope::new(Arc::from([ssn()]), Arc::from([ssn()]), 1);
        let open = Scope::new(Arc::from([ssn()]), Arc::from([]), 1);
        let origins: Origins = [(7, 2)].into_iter().collect();
        let layout = [field(7, 1), field(7, 2)];
        let check = |analysis: &Analysis, scope: &Scope, layout: Option<&[Field]>| {
            plan(analysis, scope, layout, Some(&origins))
        };
        let star = Cell::Replace(Some(b"****"));
        let foreseen = RowPlan::Masked(Arc::from([Cell::Keep, star]));
        assert_eq!(check(&analysis(Some((2, 1))), &masked, Some(&layout)), Ok(foreseen));
        assert_eq!(check(&analysis(None), &masked, Some(&layout[..1])), Ok(RowPlan::Raw));
        assert_eq!(check(&analysis(None), &open, None), Ok(RowPlan::Raw));
        assert!(check(&analysis(None), &masked, Some(&layout)).is_err());
        assert!(check(&analysis(None), &masked, None).is_err());
        assert!(check(&analysis(Some((3, 1))), &masked, Some(&layout)).is_err());
        assert!(check(&analysis(Some((2, 0))), &masked, Some(&layout)).is_err());
        assert!(check(&analysis(Some((2, 5))), &masked, Some(&layout)).is_err());
        assert!(plan(&analysis(None), &masked, Some(&layout[..1]), None).is_err());
    }

    #[test]
    fn masked_cells_are_replaced_whatever_they_hold() {
        let cells = [Cell::Keep, Cell::Replace(Some(b"****")), Cell::Replace(None)];
        let long = b"D\0\0\0\0\0\x03\0\0\0\x021a\0\0\0\x03ssn\0\0\0\x01x";
        let null = b"D\0\0\0\0\0\x03\0\0\0\x021a\xff\xff\xff\xff\xff\xff\xff\xff";
        let expect = b"D\0\0\0\x18\0\x03\0\0\0\x021a\0\0\0\x04****\xff\xff\xff\xff";
        for frame in [long.as_slice(), null] {
            let mut out = BytesMut::new();
            put_masked_row(&mut out, frame, &cells).expect("a row");
            assert_eq!(out, expect.as_slice());
        }
    }

    #[test]
    fn a_row_that_lies_leaves_nothing_behind() {
        let cells = [Cell::Keep, Cell::Replace(None)];
        let rows: [&[u8]; 3] = [
            b"D\0\0\0\0\0\x01\0\0\0\x01a",
            b"D\0\0\0\0\0\x02\0\0\0\x09a",
            b"D\0\0\0\0\0\x02\0\0\0\x01a\0\0\0\x01bmore",
        ];
        for frame in rows {
            let mut out = BytesMut::from(b"before".as_slice());
            assert!(put_masked_row(&mut out, frame, &cells).is_err());
            assert_eq!(out, b"before".as_slice());
        }
    }

    #[test]
    fn constants_have_their_types_size() {
        let sizes =
            [(16, 1), (20, 8), (21, 2), (23, 4), (701, 8), (1186, 16), (1266, 12), (2950, 16)];
        for (oid, size) in sizes {
            assert_eq!(constant(oid, true).map(<[u8]>::len), Some(size), "{oid}");
        }
        assert_eq!(constant(600, false), None);
    }
}
