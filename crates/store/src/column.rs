//! Between columns and types: numbers, words, JSON. A value that is not what its column is for is an error, never a default.

use crate::{Result, StoreError};
use model::{Generation, Timestamp};
use serde::{
    Serialize,
    de::{DeserializeOwned, IntoDeserializer, value::Error as ValueError},
};
use sqlx::{Row, sqlite::SqliteRow};

/// Reads the columns of one row.
pub(crate) struct Columns<'r> {
    table: &'static str,
    row: &'r SqliteRow,
}

impl<'r> Columns<'r> {
    pub(crate) fn new(table: &'static str, row: &'r SqliteRow) -> Self {
        Self { table, row }
    }

    fn corrupt(&self, column: &'static str, reason: &dyn std::fmt::Display) -> StoreError {
        StoreError::Corrupt {
            table: self.table,
            column,
            reason: reason.to_string(),
        }
    }

    fn get<T: sqlx::Type<sqlx::Sqlite> + sqlx::Decode<'r, sqlx::Sqlite>>(&self, column: &'static str) -> Result<T> {
        self.row.try_get(column).map_err(|error| self.corrupt(column, &error))
    }

    pub(crate) fn text(&self, column: &'static str) -> Result<String> {
        self.get(column)
    }

    pub(crate) fn text_opt(&self, column: &'static str) -> Result<Option<String>> {
        self.get(column)
    }

    /// A name, an id, a digest, a commit, a word of an enum.
    pub(crate) fn word<T: DeserializeOwned>(&self, column: &'static str) -> Result<T> {
        self.parse(column, self.text(column)?)
    }

    pub(crate) fn word_opt<T: DeserializeOwned>(&self, column: &'static str) -> Result<Option<T>> {
        self.text_opt(column)?.map(|text| self.parse(column, text)).transpose()
    }

    fn parse<T: DeserializeOwned>(&self, column: &'static str, text: String) -> Result<T> {
        let deserializer: serde::de::value::StringDeserializer<ValueError> = text.into_deserializer();
        T::deserialize(deserializer).map_err(|error| self.corrupt(column, &error))
    }

    pub(crate) fn json<T: DeserializeOwned>(&self, column: &'static str) -> Result<T> {
        serde_json::from_str(&self.text(column)?).map_err(|error| self.corrupt(column, &error))
    }

    pub(crate) fn json_opt<T: DeserializeOwned>(&self, column: &'static str) -> Result<Option<T>> {
        let text = self.text_opt(column)?;
        text.map(|text| serde_json::from_str(&text).map_err(|error| self.corrupt(column, &error)))
            .transpose()
    }

    pub(crate) fn flag(&self, column: &'static str) -> Result<bool> {
        self.get(column)
    }

    pub(crate) fn flag_opt(&self, column: &'static str) -> Result<Option<bool>> {
        self.get(column)
    }

    pub(crate) fn number(&self, column: &'static str) -> Result<u64> {
        u64::try_from(self.get::<i64>(column)?).map_err(|error| self.corrupt(column, &error))
    }

    pub(crate) fn number_opt(&self, column: &'static str) -> Result<Option<u64>> {
        let number: Option<i64> = self.get(column)?;
        number
            .map(|n| u64::try_from(n).map_err(|error| self.corrupt(column, &error)))
            .transpose()
    }

    pub(crate) fn count(&self, column: &'static str) -> Result<u32> {
        u32::try_from(self.get::<i64>(column)?).map_err(|error| self.corrupt(column, &error))
    }

    pub(crate) fn status_opt(&self, column: &'static str) -> Result<Option<i32>> {
        self.get(column)
    }

    pub(crate) fn time(&self, column: &'static str) -> Result<Timestamp> {
        self.number(column).map(Timestamp)
    }

    pub(crate) fn time_opt(&self, column: &'static str) -> Result<Option<Timestamp>> {
        Ok(self.number_opt(column)?.map(Timestamp))
    }

    pub(crate) fn generation_opt(&self, column: &'static str) -> Result<Option<Generation>> {
        Ok(self.number_opt(column)?.map(Generation))
    }

    pub(crate) fn hash(&self, column: &'static str) -> Result<crate::SecretHash> {
        let bytes: Vec<u8> = self.get(column)?;
        let bytes = bytes
            .try_into()
            .map_err(|_| self.corrupt(column, &"a hash has 32 bytes"))?;
        Ok(crate::SecretHash(bytes))
    }
}

/// A number for the database, which has no unsigned ones. What does not fit is far beyond every number that we make.
pub(crate) fn number(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

pub(crate) fn time(at: Timestamp) -> i64 {
    number(at.0)
}

pub(crate) fn generation(generation: Generation) -> i64 {
    number(generation.0)
}

pub(crate) fn json<T: Serialize + ?Sized>(column: &'static str, value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|source| StoreError::Encode { column, source })
}

/// Cuts text at a boundary between characters, at most `max` bytes.
pub(crate) fn bounded(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}
