//! Tables of the state database, and the version that names them.

use rusqlite::Connection;

use super::StoreError;

/// `user_version` of a database with these tables. Raise it with every change of a table, and add
/// the statements that lead there to [`MIGRATIONS`].
pub(super) const VERSION: u32 = 1;

/// Statements that lead from version `i` to `i + 1`.
const MIGRATIONS: [&str; VERSION as usize] = ["
    CREATE TABLE container (
        id         TEXT PRIMARY KEY,
        name       TEXT NOT NULL UNIQUE,
        created_ns INTEGER NOT NULL,
        definition TEXT NOT NULL,
        status     TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
"];

/// Brings a database to [`VERSION`]; one of a newer Husk is refused.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let found: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if found > VERSION {
        return Err(StoreError::Newer { found, known: VERSION });
    }
    let transaction = connection.transaction()?;
    for statements in &MIGRATIONS[found as usize..] {
        transaction.execute_batch(statements)?;
    }
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()?;
    Ok(())
}
