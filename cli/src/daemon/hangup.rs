//! Tells a client that is gone from one that only ended its input.
//!
//! Both read as end-of-file. A closed unix socket also reports a hang-up (EPOLLHUP), which a
//! half-closed one does not; a second descriptor with a registration of its own waits for it
//! without disturbing the readers and writers of the first.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream as BlockingStream;

use tokio::io::Interest;
use tokio::net::UnixStream;

/// Waits for a socket's peer to close both directions.
#[derive(Debug)]
pub(super) struct Hangup(UnixStream);

impl Hangup {
    /// Watches `socket`.
    pub(super) fn of(socket: &UnixStream) -> io::Result<Self> {
        let second = BlockingStream::from(socket.as_fd().try_clone_to_owned()?);
        UnixStream::from_std(second).map(Self)
    }

    /// Ends when the peer is gone.
    pub(super) async fn wait(&self) {
        // An error here means the runtime is going down, and the connection with it.
        while let Ok(ready) = self.0.ready(Interest::WRITABLE).await {
            if ready.is_write_closed() {
                return;
            }
            // Says that it is not writable, so that the next event is waited for.
            let _: io::Result<()> =
                self.0.try_io(Interest::WRITABLE, || Err(io::ErrorKind::WouldBlock.into()));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_half_close_is_no_hangup_and_a_close_is() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let hangup = Hangup::of(&ours).unwrap();
        theirs.shutdown().await.unwrap();
        assert_eq!(ours.read(&mut [0; 1]).await.unwrap(), 0);
        ours.write_all(b"still").await.unwrap();
        let mut waiting = std::pin::pin!(hangup.wait());
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        drop(theirs);
        waiting.await;
    }
}
