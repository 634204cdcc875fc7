//! A container's standard input on its way from attached clients to the agent.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use husk_protocol::chunk;
use husk_protocol::limits::CHUNK_MAX;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use crate::limits::INPUT_QUEUE;

/// What clients send.
#[derive(Debug)]
enum Input {
    Bytes(Bytes),
    /// No more will come (`StdinOnce`, and the client is gone).
    End,
}

/// Where clients' input waits for a process that may not run yet.
#[derive(Debug)]
pub(crate) struct InputHub {
    /// Whether input ends with the first client.
    once: bool,
    queue: Mutex<Queue>,
}

#[derive(Debug)]
struct Queue {
    sender: mpsc::Sender<Input>,
    receiver: Option<mpsc::Receiver<Input>>,
}

impl Queue {
    fn new() -> Self {
        let (sender, receiver) = mpsc::channel(INPUT_QUEUE);
        Self { sender, receiver: Some(receiver) }
    }
}

impl InputHub {
    pub(crate) fn new(once: bool) -> Arc<Self> {
        Arc::new(Self { once, queue: Mutex::new(Queue::new()) })
    }

    /// Attaches a client: what it sends goes to this run, or the next one if none is under way.
    pub(crate) fn attach(&self) -> mpsc::Sender<Bytes> {
        let (client, mut bytes) = mpsc::channel::<Bytes>(INPUT_QUEUE);
        let queue = self.lock().sender.clone();
        let once = self.once;
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    // The run is over: the client's sends fail from here on.
                    () = queue.closed() => return,
                    chunk = bytes.recv() => match chunk {
                        Some(chunk) => if queue.send(Input::Bytes(chunk)).await.is_err() { return },
                        None => break,
                    },
                }
            }
            if once {
                // A run that is over needs no end.
                let _ = queue.send(Input::End).await;
            }
        });
        client
    }

    /// What clients send, for the run that starts; `lost` says that a former daemon had clients,
    /// which are gone.
    pub(crate) fn start_run(&self, lost: bool) -> InputSource {
        let mut queue = self.lock();
        let receiver = queue.receiver.take().unwrap_or_else(|| {
            *queue = Queue::new();
            queue.receiver.take().expect("it is new")
        });
        InputSource { receiver, is_over: lost && self.once }
    }

    /// Ends a run; clients that attach from now on wait for the next one.
    pub(crate) fn end_run(&self) {
        *self.lock() = Queue::new();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().expect("nobody panics with it")
    }
}

/// What clients send to one run.
#[derive(Debug)]
pub(crate) struct InputSource {
    receiver: mpsc::Receiver<Input>,
    is_over: bool,
}

impl InputSource {
    /// Carries it to the agent, until it ends or the connection does.
    pub(crate) async fn run(mut self, mut connection: UnixStream) -> std::io::Result<()> {
        let chunk_max = usize::try_from(CHUNK_MAX).expect("it is small");
        while !self.is_over {
            match self.receiver.recv().await {
                Some(Input::Bytes(bytes)) => {
                    for piece in bytes.chunks(chunk_max) {
                        let length = u32::try_from(piece.len()).expect("it is a chunk");
                        let header = chunk::encode_header(length).map_err(std::io::Error::other)?;
                        connection.write_all(&header).await?;
                        connection.write_all(piece).await?;
                    }
                }
                Some(Input::End) | None => self.is_over = true,
            }
        }
        let end = chunk::encode_header(0).map_err(std::io::Error::other)?;
        connection.write_all(&end).await
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    async fn carried(hub: &InputHub, lost: bool) -> Vec<u8> {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        hub.start_run(lost).run(ours).await.unwrap();
        let mut bytes = Vec::new();
        theirs.read_to_end(&mut bytes).await.unwrap();
        bytes
    }

    #[tokio::test]
    async fn input_sent_before_the_start_arrives_and_ends_with_the_client() {
        let hub = InputHub::new(true);
        let client = hub.attach();
        client.send(Bytes::from("hi")).await.unwrap();
        drop(client);
        assert_eq!(carried(&hub, false).await, b"\x02\0\0\0hi\0\0\0\0");
    }

    #[tokio::test]
    async fn clients_lost_with_a_former_daemon_end_the_input() {
        let hub = InputHub::new(true);
        assert_eq!(carried(&hub, true).await, b"\0\0\0\0");
    }

    #[tokio::test]
    async fn a_client_of_a_run_that_is_over_cannot_send() {
        let hub = InputHub::new(true);
        let source = hub.start_run(false);
        let client = hub.attach();
        drop(source);
        hub.end_run();
        client.closed().await;
        assert!(client.send(Bytes::from("late")).await.is_err());
    }
}
