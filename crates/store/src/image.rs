//! Images: what their names stood for, and which of them were brought to the runtime.

use crate::{
    Result, Store,
    column::{self, Columns},
    error::failed,
};
use model::{ImageDigest, ImageFacts, Timestamp};
use sqlx::sqlite::SqliteRow;

/// What a name stood for when a registry was asked last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageNameRow {
    /// The name, in full.
    pub reference: String,
    /// What the registry said that it stands for: an image, or an index of images.
    pub told: String,
    /// The image for this machine, and what it says.
    pub facts: ImageFacts,
    /// When that was.
    pub looked: Timestamp,
}

/// An image that was brought to the runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRow {
    /// Which.
    pub digest: ImageDigest,
    /// A name that stood for it.
    pub reference: String,
    /// Its layers as they were fetched, in bytes.
    pub bytes: u64,
    /// When it was brought.
    pub created: Timestamp,
    /// When an environment was seen to want it last.
    pub last_used: Timestamp,
}

impl Store {
    /// Writes what a name stands for, over what was known of it.
    ///
    /// # Errors
    /// [`crate::StoreError`].
    pub async fn image_name_put(&self, row: &ImageNameRow) -> Result<()> {
        sqlx::query("INSERT OR REPLACE INTO image_name (reference, told, facts_json, looked) VALUES (?, ?, ?, ?)")
            .bind(&row.reference)
            .bind(&row.told)
            .bind(column::json("facts", &row.facts)?)
            .bind(column::time(row.looked))
            .execute(&self.write)
            .await
            .inspect(|_| self.wrote())
            .map_err(failed("image_name_put"))?;
        Ok(())
    }

    /// What a name stood for last.
    ///
    /// # Errors
    /// [`crate::StoreError`].
    pub async fn image_name_get(&self, reference: &str) -> Result<Option<ImageNameRow>> {
        let row = sqlx::query("SELECT * FROM image_name WHERE reference = ?")
            .bind(reference)
            .fetch_optional(&self.read)
            .await
            .map_err(failed("image_name_get"))?;
        row.as_ref().map(read_name).transpose()
    }

    /// Forgets names that nobody has looked for since then.
    ///
    /// # Errors
    /// [`crate::StoreError`].
    pub async fn image_name_forget(&self, before: Timestamp) -> Result<()> {
        sqlx::query("DELETE FROM image_name WHERE looked < ?")
            .bind(column::time(before))
            .execute(&self.write)
            .await
            .inspect(|_| self.wrote())
            .map_err(failed("image_name_forget"))?;
        Ok(())
    }

    /// Writes an image, over what was known of it.
    ///
    /// # Errors
    /// [`crate::StoreError`].
    pub async fn image_put(&self, row: &ImageRow) -> Result<()> {
        sqlx::query(
            "INSERT OR REPLACE INTO image (digest, reference, bytes, created, last_used) VALUES (?, ?, ?, ?, ?)",
        )
        .bind(row.digest.to_string())
        .bind(&row.reference)
        .bind(column::number(row.bytes))
        .bind(column::time(row.created))
        .bind(column::time(row.last_used))
        .execute(&self.write)
        .await
        .inspect(|_| self.wrote())
        .map_err(failed("image_put"))?;
        Ok(())
    }

    /// All images, those first that were wanted longest ago.
    ///
    /// # Errors
    /// [`crate::StoreError`].
    pub async fn image_list(&self) -> Result<Vec<ImageRow>> {
        let rows = sqlx::query("SELECT * FROM image ORDER BY last_used, digest")
            .fetch_all(&self.read)
            .await
            .map_err(failed("image_list"))?;
        rows.iter().map(read).collect()
    }

    /// Forgets an image; nothing happens if there is none.
    ///
    /// # Errors
    /// [`crate::StoreError`].
    pub async fn image_remove(&self, digest: &ImageDigest) -> Result<()> {
        sqlx::query("DELETE FROM image WHERE digest = ?")
            .bind(digest.to_string())
            .execute(&self.write)
            .await
            .inspect(|_| self.wrote())
            .map_err(failed("image_remove"))?;
        Ok(())
    }
}

fn read_name(row: &SqliteRow) -> Result<ImageNameRow> {
    let row = Columns::new("image_name", row);
    Ok(ImageNameRow {
        reference: row.text("reference")?,
        told: row.text("told")?,
        facts: row.json("facts_json")?,
        looked: row.time("looked")?,
    })
}

fn read(row: &SqliteRow) -> Result<ImageRow> {
    let row = Columns::new("image", row);
    Ok(ImageRow {
        digest: row.word("digest")?,
        reference: row.text("reference")?,
        bytes: row.number("bytes")?,
        created: row.time("created")?,
        last_used: row.time("last_used")?,
    })
}
