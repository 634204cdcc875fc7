//! What the store knows of its files: layers that are whole, images, and their names. SQLite.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Params, Transaction, params};

use crate::digest::Digest;
use crate::error::ImageError;

/// The layout of directory and tables. Another number is another store.
const FORMAT: i64 = 1;
const FILE: &str = "metadata.sqlite";
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

const SCHEMA: &str = "
    CREATE TABLE layer (
        diff_id TEXT PRIMARY KEY,
        image_bytes INTEGER NOT NULL,
        content_bytes INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE image (
        id TEXT PRIMARY KEY,
        manifest TEXT NOT NULL,
        metadata_key TEXT NOT NULL,
        metadata_bytes INTEGER NOT NULL,
        pulled INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE tag (
        name TEXT PRIMARY KEY,
        image TEXT NOT NULL REFERENCES image (id)
    ) STRICT;
    CREATE TABLE repo_digest (
        name TEXT PRIMARY KEY,
        image TEXT NOT NULL REFERENCES image (id)
    ) STRICT;
    CREATE INDEX tag_image ON tag (image);
    CREATE INDEX repo_digest_image ON repo_digest (image);
";

/// The tables.
#[derive(Debug)]
pub(crate) struct Database {
    dir: PathBuf,
    connection: Mutex<Connection>,
}

/// A layer that is whole.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct LayerRow {
    /// Length of its file.
    pub(crate) image_bytes: u64,
    /// Bytes of its regular files.
    pub(crate) content_bytes: u64,
}

/// An image that is whole.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct ImageRow {
    /// Digest of its config.
    pub(crate) id: Digest,
    /// Digest of its manifest.
    pub(crate) manifest: Digest,
    /// Names the file that merges its layers.
    pub(crate) metadata_key: Digest,
    /// Length of that file.
    pub(crate) metadata_bytes: u64,
}

/// Full names of an image.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Names {
    /// `docker.io/library/busybox:latest`, sorted.
    pub(crate) tags: Vec<String>,
    /// `docker.io/library/busybox@sha256:…`, sorted.
    pub(crate) digests: Vec<String>,
}

impl Database {
    /// Opens the database of the store at `dir`, whose lock the caller holds.
    pub(crate) fn open(dir: &Path) -> Result<Self, ImageError> {
        let failed = |error| ImageError::database("opening", dir, error);
        let connection = Connection::open(dir.join(FILE)).map_err(failed)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
        // One process has it open, so the log's index need not be shared memory, which a full
        // disk would make fail by signal.
        connection
            .execute_batch(
                "PRAGMA locking_mode = EXCLUSIVE;
                 PRAGMA journal_mode = WAL;
                 PRAGMA synchronous = FULL;
                 PRAGMA foreign_keys = ON;",
            )
            .map_err(failed)?;
        let database = Self { dir: dir.to_owned(), connection: Mutex::new(connection) };
        database.prepare()?;
        Ok(database)
    }

    fn prepare(&self) -> Result<(), ImageError> {
        let format: i64 = self
            .lock()
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .map_err(|error| self.failed("reading the format", error))?;
        match format {
            FORMAT => Ok(()),
            0 => self.write("making the tables", |transaction| {
                transaction.execute_batch(SCHEMA)?;
                transaction.pragma_update(None, "user_version", FORMAT)
            }),
            found => Err(ImageError::Format { dir: self.dir.clone(), found, expected: FORMAT }),
        }
    }

    /// The layer, if it is whole.
    pub(crate) fn layer(&self, diff_id: Digest) -> Result<Option<LayerRow>, ImageError> {
        self.lock()
            .query_row(
                "SELECT image_bytes, content_bytes FROM layer WHERE diff_id = ?1",
                [diff_id.to_string()],
                |row| Ok(LayerRow { image_bytes: row.get(0)?, content_bytes: row.get(1)? }),
            )
            .optional()
            .map_err(|error| self.failed("reading a layer", error))
    }

    /// Records a layer whose file is durable.
    pub(crate) fn add_layer(&self, diff_id: Digest, row: LayerRow) -> Result<(), ImageError> {
        self.write("recording a layer", |transaction| {
            transaction
                .execute(
                    "INSERT OR REPLACE INTO layer VALUES (?1, ?2, ?3)",
                    params![diff_id.to_string(), row.image_bytes, row.content_bytes],
                )
                .map(drop)
        })
    }

    /// Records an image whose files are durable, under its names; true if a name changed.
    pub(crate) fn add_image(&self, row: &ImageRow, names: &Names) -> Result<bool, ImageError> {
        let id = row.id.to_string();
        self.write("recording an image", |transaction| {
            transaction.execute(
                "INSERT INTO image VALUES (?1, ?2, ?3, ?4,
                     (SELECT coalesce(max(pulled), 0) + 1 FROM image))
                 ON CONFLICT (id) DO UPDATE SET manifest = excluded.manifest,
                     metadata_key = excluded.metadata_key,
                     metadata_bytes = excluded.metadata_bytes, pulled = excluded.pulled",
                params![
                    id,
                    row.manifest.to_string(),
                    row.metadata_key.to_string(),
                    row.metadata_bytes
                ],
            )?;
            let mut changed = 0;
            for (table, names) in [("tag", &names.tags), ("repo_digest", &names.digests)] {
                for name in names {
                    changed += transaction.execute(
                        &format!(
                            "INSERT INTO {table} VALUES (?1, ?2) ON CONFLICT (name)
                             DO UPDATE SET image = excluded.image
                             WHERE image <> excluded.image"
                        ),
                        params![name, id],
                    )?;
                }
            }
            Ok(changed > 0)
        })
    }

    /// The image that has this full name, as tag or by digest.
    pub(crate) fn image_named(&self, name: &str) -> Result<Option<ImageRow>, ImageError> {
        self.images(
            "WHERE id IN (SELECT image FROM tag WHERE name = ?1
                 UNION ALL SELECT image FROM repo_digest WHERE name = ?1)",
            [name],
        )
        .map(|rows| rows.into_iter().next())
    }

    /// Up to two images whose ID begins with these hexadecimal digits.
    pub(crate) fn images_by_prefix(&self, prefix: &str) -> Result<Vec<ImageRow>, ImageError> {
        let prefix = format!("sha256:{prefix}");
        self.images("WHERE substr(id, 1, length(?1)) = ?1 LIMIT 2", [prefix])
    }

    /// All images, newest pull first.
    pub(crate) fn all_images(&self) -> Result<Vec<ImageRow>, ImageError> {
        self.images("ORDER BY pulled DESC", [])
    }

    /// The names of an image.
    pub(crate) fn names(&self, id: Digest) -> Result<Names, ImageError> {
        let connection = self.lock();
        let names_in = |table: &str| -> rusqlite::Result<Vec<String>> {
            connection
                .prepare_cached(&format!(
                    "SELECT name FROM {table} WHERE image = ?1 ORDER BY name"
                ))?
                .query_map([id.to_string()], |row| row.get(0))?
                .collect()
        };
        names_in("tag")
            .and_then(|tags| Ok(Names { tags, digests: names_in("repo_digest")? }))
            .map_err(|error| self.failed("reading names", error))
    }

    fn images(&self, clause: &str, params: impl Params) -> Result<Vec<ImageRow>, ImageError> {
        let connection = self.lock();
        let select =
            format!("SELECT id, manifest, metadata_key, metadata_bytes FROM image {clause}");
        let rows = || -> rusqlite::Result<Vec<ImageRow>> {
            connection
                .prepare_cached(&select)?
                .query_map(params, |row| {
                    Ok(ImageRow {
                        id: digest_at(row, 0)?,
                        manifest: digest_at(row, 1)?,
                        metadata_key: digest_at(row, 2)?,
                        metadata_bytes: row.get(3)?,
                    })
                })?
                .collect()
        };
        rows().map_err(|error| self.failed("reading images", error))
    }

    fn write<T>(
        &self,
        attempt: &'static str,
        change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, ImageError> {
        let mut connection = self.lock();
        let run = || {
            let transaction = connection.transaction()?;
            let value = change(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        run().map_err(|error| self.failed(attempt, error))
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().expect("no panic while the database is held")
    }

    fn failed(&self, attempt: &'static str, error: rusqlite::Error) -> ImageError {
        ImageError::database(attempt, &self.dir, error)
    }
}

fn digest_at(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Digest> {
    let text: String = row.get(column)?;
    text.parse().map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(
            column,
            rusqlite::types::Type::Text,
            Box::new(error),
        )
    })
}
