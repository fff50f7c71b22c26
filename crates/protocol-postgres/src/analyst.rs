//! Who tells what texts and catalogues mean. The wire asks; tests answer in their own way.

use std::fmt::Debug;

use corral_model::resource::ColumnName;

use crate::analysis::catalogue::{CatalogueError, Row};
use crate::analysis::{
    Analysis, Catalogue, MaskScope, Names, SessionNames, analyse, analyse_execute,
};

/// The analysis, as the wire uses it.
pub trait Analyst: Debug + Send + Sync {
    /// What a text does. Called where the stack is deep.
    fn analyse(&self, text: &str, names: Option<&Names>, scope: &MaskScope) -> Analysis;

    /// What a text does whose only statement is an EXECUTE of what `prepared` prepared. Called where
    /// the stack is deep.
    fn analyse_execute(
        &self,
        text: &str,
        prepared: &str,
        names: Option<&Names>,
        scope: &MaskScope,
    ) -> Analysis;

    /// # Errors
    /// [`CatalogueError`]: the target sent what it should not.
    fn catalogue(&self, rows: &[Row]) -> Result<Catalogue, CatalogueError>;

    /// # Errors
    /// [`CatalogueError`]: the target sent what it should not.
    fn session_names(&self, rows: &[Row]) -> Result<SessionNames, CatalogueError>;

    /// Table OID and attribute number of a column.
    fn origin(&self, catalogue: &Catalogue, column: &ColumnName) -> Option<(u32, i16)>;
}

/// The analysis of this crate.
#[derive(Debug)]
pub(crate) struct Grammar;

impl Analyst for Grammar {
    fn analyse(&self, text: &str, names: Option<&Names>, scope: &MaskScope) -> Analysis {
        analyse(text, names, scope)
    }

    fn analyse_execute(
        &self,
        text: &str,
        prepared: &str,
        names: Option<&Names>,
        scope: &MaskScope,
    ) -> Analysis {
        analyse_execute(text, prepared, names, scope)
    }

    fn catalogue(&self, rows: &[Row]) -> Result<Catalogue, CatalogueError> {
        Catalogue::from_rows(rows)
    }

    fn session_names(&self, rows: &[Row]) -> Result<SessionNames, CatalogueError> {
        SessionNames::from_rows(rows)
    }

    fn origin(&self, catalogue: &Catalogue, column: &ColumnName) -> Option<(u32, i16)> {
        catalogue.column_origin(column)
    }
}
