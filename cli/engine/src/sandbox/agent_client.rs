//! The host's side of the protocol with the agent; everything the agent says is the guest's word.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use husk_protocol::frame::{self, FrameError};
use husk_protocol::{
    AGENT_PORT, AgentError, GENERATION, Open, Opened, Reply, ReplyBody, Request, RequestBody,
};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::limits::AGENT_REPLY_DEADLINE;

/// Why the agent could not be asked, or refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentCallError {
    /// Nobody listens in the guest, or the connection broke.
    #[error("failed to talk to the agent in the guest")]
    Connection(#[source] io::Error),
    /// The agent is of another generation.
    #[error("the agent in the guest speaks generation {0}, husk speaks {GENERATION}")]
    Generation(u32),
    /// What it says makes no sense.
    #[error("the agent in the guest sent a malformed message")]
    Malformed(#[from] FrameError),
    /// It answered something else than what was asked.
    #[error("the agent in the guest sent an answer that does not fit")]
    Unexpected,
    /// It did not answer in time.
    #[error("the agent in the guest did not answer within {0:?}")]
    Deadline(Duration),
    /// It refused.
    #[error(transparent)]
    Refused(AgentError),
}

impl From<io::Error> for AgentCallError {
    fn from(error: io::Error) -> Self {
        Self::Connection(error)
    }
}

/// Requests that wait for their reply; `None` once the connection is gone.
type Pending = Arc<Mutex<Option<HashMap<u64, oneshot::Sender<ReplyBody>>>>>;

/// A control connection to an agent; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct AgentClient {
    socket: PathBuf,
    requests: mpsc::Sender<(RequestBody, oneshot::Sender<ReplyBody>)>,
}

impl AgentClient {
    /// Connects by way of the VMM's vsock listener at `socket`.
    pub(crate) async fn connect(socket: &Path) -> Result<Self, AgentCallError> {
        let stream = open(socket, &Open::Control { generation: GENERATION }).await?;
        let (mut read, mut write) = stream.into_split();
        let (requests, mut queue) = mpsc::channel::<(RequestBody, oneshot::Sender<ReplyBody>)>(8);
        let pending: Pending = Arc::new(Mutex::new(Some(HashMap::new())));

        let table = Arc::clone(&pending);
        let reader = tokio::spawn(async move {
            loop {
                match read_frame::<Reply>(&mut read).await {
                    Ok(reply) => deliver(&table, reply),
                    Err(error) => {
                        tracing::debug!(%error, "control connection to the agent ended");
                        // Dropping the senders tells everybody who waits.
                        table.lock().expect("nobody panics with it").take();
                        return;
                    }
                }
            }
        });
        tokio::spawn(async move {
            let mut id = 0;
            while let Some((body, reply)) = queue.recv().await {
                id += 1;
                match pending.lock().expect("nobody panics with it").as_mut() {
                    Some(table) => drop(table.insert(id, reply)),
                    None => break,
                }
                let bytes = match frame::encode(&Request { id, body }) {
                    Ok(bytes) => bytes,
                    Err(error) => {
                        tracing::error!(%error, "request to the agent is too large");
                        let mut table = pending.lock().expect("nobody panics with it");
                        table.as_mut().and_then(|table| table.remove(&id));
                        continue;
                    }
                };
                if write.write_all(&bytes).await.is_err() {
                    break;
                }
            }
            reader.abort();
            pending.lock().expect("nobody panics with it").take();
        });
        Ok(Self { socket: socket.to_owned(), requests })
    }

    /// Asks, and waits for the answer as long as it takes.
    pub(crate) async fn call(&self, body: RequestBody) -> Result<ReplyBody, AgentCallError> {
        let broken = || AgentCallError::Connection(io::ErrorKind::ConnectionReset.into());
        let (reply, answer) = oneshot::channel();
        self.requests.send((body, reply)).await.map_err(|_| broken())?;
        match answer.await.map_err(|_| broken())? {
            ReplyBody::Error(error) => Err(AgentCallError::Refused(error)),
            body => Ok(body),
        }
    }

    /// Asks for something that takes no time, and expects it done.
    pub(crate) async fn command(&self, body: RequestBody) -> Result<(), AgentCallError> {
        match timeout(AGENT_REPLY_DEADLINE, self.call(body)).await {
            Ok(Ok(ReplyBody::Done)) => Ok(()),
            Ok(Ok(_)) => Err(AgentCallError::Unexpected),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(AgentCallError::Deadline(AGENT_REPLY_DEADLINE)),
        }
    }

    /// Opens a further connection, for a stream.
    pub(crate) async fn open(&self, purpose: &Open) -> Result<UnixStream, AgentCallError> {
        open(&self.socket, purpose).await
    }
}

fn deliver(table: &Pending, reply: Reply) {
    let mut table = table.lock().expect("nobody panics with it");
    let waiting = table.as_mut().and_then(|table| table.remove(&reply.id));
    match waiting {
        // Whoever waited may have given up.
        Some(waiting) => drop(waiting.send(reply.body)),
        None => tracing::debug!(id = reply.id, "the agent answered what nobody asked"),
    }
}

async fn open(socket: &Path, purpose: &Open) -> Result<UnixStream, AgentCallError> {
    let attempt = async {
        let mut stream = connect_port(socket, AGENT_PORT).await?;
        stream.write_all(&frame::encode(purpose)?).await?;
        let opened: Opened = read_frame(&mut stream).await?;
        if opened.generation != GENERATION {
            return Err(AgentCallError::Generation(opened.generation));
        }
        match opened.error {
            Some(error) => Err(AgentCallError::Refused(error)),
            None => Ok(stream),
        }
    };
    timeout(AGENT_REPLY_DEADLINE, attempt)
        .await
        .map_err(|_| AgentCallError::Deadline(AGENT_REPLY_DEADLINE))?
}

/// Connects to a port in the guest: `CONNECT <port>\n`, answered by `OK <port>\n`.
async fn connect_port(socket: &Path, port: u32) -> io::Result<UnixStream> {
    /// The longest answer: `OK ` and a number of ten digits.
    const ANSWER_MAX: usize = 16;
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(format!("CONNECT {port}\n").as_bytes()).await?;
    let mut answer = Vec::new();
    // Byte by byte: what follows the newline is the connection's.
    while answer.last() != Some(&b'\n') {
        if answer.len() == ANSWER_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        answer.push(stream.read_u8().await?);
    }
    if answer.starts_with(b"OK ") { Ok(stream) } else { Err(io::ErrorKind::InvalidData.into()) }
}

async fn read_frame<T: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<T, AgentCallError> {
    let mut header = [0; frame::HEADER_LEN];
    stream.read_exact(&mut header).await?;
    let mut json = vec![0; frame::decode_length(header)?];
    stream.read_exact(&mut json).await?;
    Ok(frame::decode(&json)?)
}
