//! A container's output on its way: from the agent into the log, then to attached clients.
//!
//! Log first, then deliver, then acknowledge: a daemon killed at any moment finds in the log how
//! far it came, and the agent sends the rest again. An attached client that does not read holds
//! the container up, as with Docker, but not its end.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use husk_api::{ApiError, ErrorCode};
use husk_protocol::chunk::{self, HEADER_LEN};
use husk_protocol::{Open, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::container::log::{LogReader, LogWriter, Selection, Stored};
use crate::limits::{ATTACHED_MAX, CLIENT_QUEUE, CLIENT_STALL_DEADLINE, LOG_PAYLOAD_MAX};
use crate::request::{LogQuery, OutputChunk};
use crate::sandbox::{AgentCallError, AgentClient};

/// Connections to one stream that break without a byte of progress before it is given up.
const BREAKS_MAX: u32 = 3;

/// How far the log has come, for those who follow it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Progress {
    /// Bytes of the file.
    end: u64,
    /// Whether more may come.
    is_live: bool,
}

/// The log of a container and the clients attached to it.
#[derive(Debug)]
pub(crate) struct OutputHub {
    path: PathBuf,
    inner: Mutex<Inner>,
    progress: watch::Sender<Progress>,
    /// How long a client may stall once the process has ended.
    stall: Duration,
}

#[derive(Debug, Default)]
struct Inner {
    writer: Option<LogWriter>,
    clients: Vec<mpsc::Sender<OutputChunk>>,
    has_complained: bool,
}

impl OutputHub {
    pub(crate) fn new(path: PathBuf) -> Arc<Self> {
        let inner = Mutex::new(Inner::default());
        let progress = watch::Sender::new(Progress::default());
        Arc::new(Self { path, inner, progress, stall: CLIENT_STALL_DEADLINE })
    }

    /// Opens the log for a run that starts, or (`resume`) one that a former daemon saw start;
    /// answers what of the run is stored. Blocks.
    pub(crate) fn open_log(&self, resume: bool) -> io::Result<Stored> {
        let mut writer = LogWriter::open(&self.path)?;
        if !resume {
            writer.start_run()?;
        }
        let stored = writer.stored();
        self.progress.send_replace(Progress { end: writer.end(), is_live: true });
        let mut inner = self.lock();
        inner.writer = Some(writer);
        inner.has_complained = false;
        Ok(stored)
    }

    /// Ends a run: closes the log and lets every client go.
    pub(crate) fn close(&self) {
        let mut inner = self.lock();
        inner.writer = None;
        inner.clients.clear();
        drop(inner);
        self.progress.send_modify(|progress| progress.is_live = false);
    }

    /// Attaches a client; with `logs` it first gets what the log holds already.
    pub(crate) fn attach(
        self: &Arc<Self>,
        logs: bool,
        stream: bool,
    ) -> Result<mpsc::Receiver<OutputChunk>, ApiError> {
        let (client, receiver) = mpsc::channel(CLIENT_QUEUE);
        let mut inner = self.lock();
        inner.clients.retain(|client| !client.is_closed());
        if inner.clients.len() >= ATTACHED_MAX {
            return Err(ApiError::new(
                ErrorCode::Conflict,
                format!("{ATTACHED_MAX} clients are attached already: detach one"),
            ));
        }
        // Up to here from the log, from here on from the stream: nothing twice, nothing missed.
        let end = inner.writer.as_ref().map(LogWriter::end);
        if !logs {
            if stream {
                inner.clients.push(client);
            }
            return Ok(receiver);
        }
        let (live, mut following) = mpsc::channel(CLIENT_QUEUE);
        if stream {
            inner.clients.push(live);
        }
        drop(inner);
        let hub = Arc::clone(self);
        tokio::spawn(async move {
            let query = LogQuery { stdout: true, stderr: true, ..LogQuery::default() };
            if let Err(error) = hub.replay(query, end, &client).await {
                tracing::error!(%error, path = %hub.path.display(), "failed to read log");
            }
            while let Some(chunk) = following.recv().await {
                if client.send(chunk).await.is_err() {
                    return;
                }
            }
        });
        Ok(receiver)
    }

    /// Reads the log as `query` wants it; a reader that follows ends with the run.
    pub(crate) fn read(self: &Arc<Self>, query: LogQuery) -> mpsc::Receiver<OutputChunk> {
        let (client, receiver) = mpsc::channel(CLIENT_QUEUE);
        let hub = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = hub.replay(query, None, &client).await {
                tracing::error!(%error, path = %hub.path.display(), "failed to read log");
            }
        });
        receiver
    }

    /// Sends the log up to `end`, or all there is, to `client`; then what comes, if it follows.
    async fn replay(
        &self,
        query: LogQuery,
        end: Option<u64>,
        client: &mpsc::Sender<OutputChunk>,
    ) -> io::Result<()> {
        let follow = query.follow;
        let mut progress = self.progress.subscribe();
        let mut now = *progress.borrow_and_update();
        let path = self.path.clone();
        let mut limit = end.or(now.is_live.then_some(now.end)).unwrap_or(u64::MAX);
        let opened = spawn_blocking(move || {
            let Some(mut reader) = LogReader::open(&path)? else { return Ok(None) };
            let limit = limit.min(path.metadata()?.len());
            let selection = Selection::prepare(query, &mut reader, limit)?;
            io::Result::Ok(Some((reader, selection)))
        });
        let Some(mut reading) = opened.await.map_err(io::Error::other)?? else { return Ok(()) };
        loop {
            let (back, chunks) = spawn_blocking(move || {
                let (mut reader, mut selection) = reading;
                let chunks = next_chunks(&mut reader, &mut selection, limit);
                ((reader, selection), chunks)
            })
            .await
            .map_err(io::Error::other)?;
            reading = back;
            let (chunks, at_end) = chunks?;
            for chunk in chunks {
                if client.send(chunk).await.is_err() {
                    return Ok(());
                }
            }
            if !at_end {
                continue;
            }
            if !follow || (now.is_live && client.is_closed()) {
                return Ok(());
            }
            // What was written before the run ended is read before the end is believed.
            if !now.is_live {
                return Ok(());
            }
            tokio::select! {
                changed = progress.changed() => if changed.is_err() { return Ok(()) },
                () = client.closed() => return Ok(()),
            }
            now = *progress.borrow_and_update();
            limit = now.end;
        }
    }

    /// Stores bytes of one stream and delivers them; answers how many of the run are stored.
    async fn publish(
        self: &Arc<Self>,
        stderr: bool,
        bytes: Bytes,
        ending: &CancellationToken,
    ) -> u64 {
        let hub = Arc::clone(self);
        let payload = bytes.clone();
        let stored = spawn_blocking(move || hub.store(stderr, &payload)).await;
        let Some((time_unix_ns, stored, clients)) = stored.expect("storing does not panic") else {
            return 0;
        };
        for client in clients {
            let chunk = OutputChunk { stderr, time_unix_ns, bytes: bytes.clone() };
            let stalled = async {
                ending.cancelled().await;
                sleep(self.stall).await;
            };
            let is_gone = tokio::select! {
                sent = client.send(chunk) => sent.is_err(),
                () = stalled => true,
            };
            if is_gone {
                self.lock().clients.retain(|other| !other.same_channel(&client));
            }
        }
        stored
    }

    fn store(
        &self,
        stderr: bool,
        bytes: &[u8],
    ) -> Option<(i64, u64, Vec<mpsc::Sender<OutputChunk>>)> {
        let mut inner = self.lock();
        let writer = inner.writer.as_mut()?;
        let (time, result) = writer.append(stderr, bytes);
        let stored = writer.stored();
        let end = writer.end();
        if let Err(error) = result
            && !std::mem::replace(&mut inner.has_complained, true)
        {
            tracing::error!(%error, path = %self.path.display(), "log loses output");
        }
        let clients = inner.clients.clone();
        drop(inner);
        self.progress.send_modify(|progress| progress.end = end);
        Some((time, if stderr { stored.stderr } else { stored.stdout }, clients))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nobody panics with it")
    }
}

/// A batch of chunks, and whether the log ended with it.
fn next_chunks(
    reader: &mut LogReader,
    selection: &mut Selection,
    limit: u64,
) -> io::Result<(Vec<OutputChunk>, bool)> {
    const BATCH: usize = 32;
    let mut chunks = Vec::new();
    while chunks.len() < BATCH {
        let position = reader.position();
        match reader.next(limit)? {
            Some(entry) => chunks.extend(selection.take(position, &entry)),
            None => return Ok((chunks, true)),
        }
    }
    Ok((chunks, false))
}

/// One output stream of a process, and where it goes.
#[derive(Debug)]
pub(crate) struct Pump {
    /// The agent.
    pub(crate) agent: AgentClient,
    /// The process.
    pub(crate) process: String,
    /// Which stream; not `Stdin`.
    pub(crate) stream: Stream,
    /// Where it goes.
    pub(crate) hub: Arc<OutputHub>,
    /// Fires once the process has ended.
    pub(crate) ending: CancellationToken,
}

impl Pump {
    /// Opens the stream at `offset`.
    pub(crate) async fn open(&self, offset: u64) -> Result<UnixStream, AgentCallError> {
        let process = self.process.clone();
        self.agent.open(&Open::Output { process, stream: self.stream, offset }).await
    }

    /// Carries the stream to its end; a connection that breaks is opened again where it broke.
    pub(crate) async fn run(
        self,
        mut connection: UnixStream,
        mut offset: u64,
    ) -> Result<(), AgentCallError> {
        let mut breaks = 0;
        loop {
            let before = offset;
            let error = match self.carry(connection, &mut offset).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            breaks = if offset > before { 1 } else { breaks + 1 };
            if breaks > BREAKS_MAX {
                return Err(error.into());
            }
            tracing::debug!(%error, process = self.process, "output stream broke");
            connection = self.open(offset).await?;
        }
    }

    async fn carry(&self, connection: UnixStream, offset: &mut u64) -> io::Result<()> {
        let (mut read, mut write) = connection.into_split();
        let stderr = self.stream == Stream::Stderr;
        let mut buffer = BytesMut::with_capacity(2 * LOG_PAYLOAD_MAX);
        loop {
            let (payload, is_end) = take_payload(&mut buffer)?;
            if !payload.is_empty() {
                let stored = self.hub.publish(stderr, payload, &self.ending).await;
                *offset = stored.max(*offset);
                write.write_all(&offset.to_le_bytes()).await?;
                // More, and the end too, may be in the buffer already.
                continue;
            }
            if is_end {
                return Ok(());
            }
            buffer.reserve(LOG_PAYLOAD_MAX);
            if read.read_buf(&mut buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// Takes whole chunks out of `buffer` and joins their payloads, up to what one log record holds;
/// true at the end of the stream.
fn take_payload(buffer: &mut BytesMut) -> io::Result<(Bytes, bool)> {
    let mut joined = BytesMut::new();
    while let Some(header) = buffer.first_chunk::<HEADER_LEN>() {
        let length = chunk::decode_header(*header).map_err(io::Error::other)?;
        if length == 0 {
            // What was joined goes first; the end is found again.
            let is_end = joined.is_empty();
            return Ok((joined.freeze(), is_end));
        }
        if buffer.len() < HEADER_LEN + length || joined.len() + length > LOG_PAYLOAD_MAX {
            break;
        }
        buffer.advance(HEADER_LEN);
        joined.extend_from_slice(&buffer[..length]);
        buffer.advance(length);
    }
    Ok((joined.freeze(), false))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk_of(bytes: &[u8]) -> Vec<u8> {
        let mut chunk = chunk::encode_header(u32::try_from(bytes.len()).unwrap()).unwrap().to_vec();
        chunk.extend_from_slice(bytes);
        chunk
    }

    #[test]
    fn chunks_are_joined_and_split_ones_waited_for() {
        let mut buffer = BytesMut::new();
        buffer.extend_from_slice(&chunk_of(b"ab"));
        buffer.extend_from_slice(&chunk_of(b"cd"));
        buffer.extend_from_slice(&chunk_of(b"ef")[..5]);
        assert_eq!(take_payload(&mut buffer).unwrap(), (Bytes::from("abcd"), false));
        assert_eq!(take_payload(&mut buffer).unwrap(), (Bytes::new(), false));
        buffer.extend_from_slice(b"f");
        buffer.extend_from_slice(&chunk_of(b""));
        assert_eq!(take_payload(&mut buffer).unwrap(), (Bytes::from("ef"), false));
        assert_eq!(take_payload(&mut buffer).unwrap(), (Bytes::new(), true));
    }

    #[test]
    fn a_chunk_over_the_limit_is_refused() {
        let mut buffer = BytesMut::from(&u32::MAX.to_le_bytes()[..]);
        assert!(take_payload(&mut buffer).is_err());
    }

    #[tokio::test]
    async fn an_attached_client_gets_the_log_and_then_the_stream_without_a_seam() {
        let dir = tempfile::tempdir().unwrap();
        let hub = OutputHub::new(dir.path().join("log"));
        hub.open_log(false).unwrap();
        let ending = CancellationToken::new();
        assert_eq!(hub.publish(false, Bytes::from("one "), &ending).await, 4);
        let mut client = hub.attach(true, true).unwrap();
        let mut late = hub.attach(false, true).unwrap();
        assert_eq!(hub.publish(false, Bytes::from("two"), &ending).await, 7);
        assert_eq!(hub.publish(true, Bytes::from("err"), &ending).await, 3);
        hub.close();
        let mut found = Vec::new();
        while let Some(chunk) = client.recv().await {
            found.push((chunk.stderr, chunk.bytes));
        }
        let expected =
            [(false, "one "), (false, "two"), (true, "err")].map(|(s, b)| (s, Bytes::from(b)));
        assert_eq!(found, expected);
        assert_eq!(late.recv().await.unwrap().bytes, "two");
        assert_eq!(late.recv().await.unwrap().bytes, "err");
        assert!(late.recv().await.is_none());
    }

    #[tokio::test]
    async fn a_follower_hears_all_and_ends_with_the_run() {
        let dir = tempfile::tempdir().unwrap();
        let hub = OutputHub::new(dir.path().join("log"));
        hub.open_log(false).unwrap();
        let ending = CancellationToken::new();
        hub.publish(false, Bytes::from("a\n"), &ending).await;
        let query = LogQuery { stdout: true, follow: true, ..LogQuery::default() };
        let mut follower = hub.read(query);
        assert_eq!(follower.recv().await.unwrap().bytes, "a\n");
        hub.publish(false, Bytes::from("b\n"), &ending).await;
        assert_eq!(follower.recv().await.unwrap().bytes, "b\n");
        hub.publish(false, Bytes::from("c\n"), &ending).await;
        hub.close();
        assert_eq!(follower.recv().await.unwrap().bytes, "c\n");
        assert!(follower.recv().await.is_none());
    }

    #[tokio::test]
    async fn a_stalled_client_is_let_go_once_the_process_has_ended() {
        let dir = tempfile::tempdir().unwrap();
        let mut hub = OutputHub::new(dir.path().join("log"));
        Arc::get_mut(&mut hub).unwrap().stall = Duration::from_millis(20);
        hub.open_log(false).unwrap();
        let ending = CancellationToken::new();
        let stalled = hub.attach(false, true).unwrap();
        ending.cancel();
        for _ in 0..=CLIENT_QUEUE {
            hub.publish(false, Bytes::from("x"), &ending).await;
        }
        assert!(hub.lock().clients.is_empty());
        drop(stalled);
    }
}
