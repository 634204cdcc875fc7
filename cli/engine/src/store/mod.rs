//! Durable state: one SQLite database, used by one thread.
//!
//! `synchronous=FULL`: what was written is there after a power cut. A record is written before
//! the effects that it stands for, so that [`crate::recovery`] can finish or undo them.

mod record;
mod schema;

use std::path::Path;
use std::sync::mpsc;
use std::thread;

use rusqlite::{Connection, ErrorCode, params};
use tokio::sync::oneshot;

pub(crate) use record::{Definition, Record, Status};

use crate::id::ContainerId;

/// Why the state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// SQLite said no.
    #[error("state database failed")]
    Sqlite(#[from] rusqlite::Error),
    /// A document in it is not what this version wrote.
    #[error("state of container {id} is damaged")]
    Damaged {
        /// Whose.
        id: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A newer Husk wrote it.
    #[error("state database has version {found}, this husk knows up to {known}: use a newer husk")]
    Newer {
        /// Its version.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// The name is taken.
    #[error("container name {0:?} is in use")]
    NameInUse(String),
    /// The thread is gone.
    #[error("state database is closed")]
    Closed,
    /// The thread could not be started.
    #[error("failed to start the state thread")]
    Thread(#[source] std::io::Error),
}

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// A handle on the database; cheap to clone. Its thread ends with the last one.
#[derive(Clone, Debug)]
pub(crate) struct StateStore {
    jobs: mpsc::Sender<Job>,
}

impl StateStore {
    /// Opens the database at `path`, or makes it. Blocks; not for an async task.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let mut connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        schema::migrate(&mut connection)?;
        let (jobs, queue) = mpsc::channel::<Job>();
        thread::Builder::new()
            .name("husk-state".to_owned())
            .spawn(move || {
                for job in queue {
                    job(&mut connection);
                }
            })
            .map_err(StoreError::Thread)?;
        Ok(Self { jobs })
    }

    /// Adds a container.
    pub(crate) async fn insert(&self, record: Record) -> Result<(), StoreError> {
        self.run(move |connection| {
            let inserted = connection.execute(
                "INSERT INTO container (id, name, created_ns, definition, status)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
                params![
                    record.id.as_str(),
                    record.name,
                    record.created_unix_ns,
                    to_json(&record.id, &record.definition)?,
                    to_json(&record.id, &record.status)?,
                ],
            );
            match inserted {
                Err(rusqlite::Error::SqliteFailure(failure, _))
                    if failure.code == ErrorCode::ConstraintViolation =>
                {
                    Err(StoreError::NameInUse(record.name))
                }
                Err(error) => Err(error.into()),
                Ok(_) => Ok(()),
            }
        })
        .await
    }

    /// Replaces the status of a container.
    pub(crate) async fn update(&self, id: &ContainerId, status: Status) -> Result<(), StoreError> {
        let id = id.clone();
        self.run(move |connection| {
            connection
                .prepare_cached("UPDATE container SET status = ?2 WHERE id = ?1")?
                .execute(params![id.as_str(), to_json(&id, &status)?])?;
            Ok(())
        })
        .await
    }

    /// Forgets a container.
    pub(crate) async fn delete(&self, id: &ContainerId) -> Result<(), StoreError> {
        let id = id.clone();
        self.run(move |connection| {
            connection
                .prepare_cached("DELETE FROM container WHERE id = ?1")?
                .execute(params![id.as_str()])?;
            Ok(())
        })
        .await
    }

    /// Every container, oldest first.
    pub(crate) async fn load(&self) -> Result<Vec<Record>, StoreError> {
        self.run(|connection| {
            let mut statement = connection.prepare(
                "SELECT id, name, created_ns, definition, status FROM container
                 ORDER BY created_ns, id",
            )?;
            let rows = statement.query_map([], |row| {
                Ok((
                    row.get::<_, String>(0)?,
                    row.get(1)?,
                    row.get(2)?,
                    row.get::<_, String>(3)?,
                    row.get::<_, String>(4)?,
                ))
            })?;
            rows.map(|row| {
                let (id, name, created_unix_ns, definition, status) = row?;
                let damaged = |source| StoreError::Damaged { id: id.clone(), source };
                Ok(Record {
                    id: serde_json::from_value(id.clone().into()).map_err(damaged)?,
                    name,
                    created_unix_ns,
                    definition: serde_json::from_str(&definition).map_err(damaged)?,
                    status: serde_json::from_str(&status).map_err(damaged)?,
                })
            })
            .collect()
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // Nobody waiting is no failure: the write was wanted all the same.
            let _ = reply.send(job(connection));
        });
        self.jobs.send(job).map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

fn to_json<T: serde::Serialize>(id: &ContainerId, value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value)
        .map_err(|source| StoreError::Damaged { id: id.to_string(), source })
}

#[cfg(test)]
mod tests {
    use husk_api::models::{ContainerConfig, HostConfig};

    use super::*;
    use crate::container::transition::Phase;

    fn record(name: &str) -> Record {
        Record {
            id: ContainerId::random(),
            name: name.to_owned(),
            created_unix_ns: 7,
            definition: Definition {
                image: "busybox".to_owned(),
                image_id: "sha256:0".to_owned(),
                platform: "linux".to_owned(),
                config: ContainerConfig {
                    cmd: Some(vec!["true".to_owned()]),
                    ..ContainerConfig::default()
                },
                host_config: HostConfig { auto_remove: Some(true), ..HostConfig::default() },
            },
            status: Status::created(),
        }
    }

    #[tokio::test]
    async fn records_survive_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let mut one = record("one");
        {
            let store = StateStore::open(&path).unwrap();
            store.insert(one.clone()).await.unwrap();
            one.status.phase = Phase::Running;
            one.status.started_unix_ns = Some(9);
            store.update(&one.id, one.status.clone()).await.unwrap();
        }
        let store = StateStore::open(&path).unwrap();
        assert_eq!(store.load().await.unwrap(), [one.clone()]);
        store.delete(&one.id).await.unwrap();
        assert!(store.load().await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_name_is_given_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = StateStore::open(&dir.path().join("state.db")).unwrap();
        store.insert(record("web")).await.unwrap();
        let again = store.insert(record("web")).await;
        assert!(matches!(again, Err(StoreError::NameInUse(name)) if name == "web"));
    }

    #[tokio::test]
    async fn state_of_a_newer_husk_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        drop(StateStore::open(&path).unwrap());
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update(None, "user_version", schema::VERSION + 1).unwrap();
        drop(connection);
        assert!(matches!(StateStore::open(&path), Err(StoreError::Newer { .. })));
    }
}
