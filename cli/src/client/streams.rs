//! The pumps of an attached container: one thread a direction, blocking, for speed.
//!
//! The output thread ends with the connection. The input thread may sit in a read of the
//! terminal for ever; it ends with the process.

use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use rustix::io::Errno;
use tokio::sync::mpsc;

use super::{Attached, ClientError};
use crate::multiplex::{Decoder, Output};
use crate::printer;
use crate::terminal::detach::{DetachKeys, Scan};

/// Bytes moved at once.
const PIECE_BYTES: usize = 128 << 10;

/// What to send to the container.
#[derive(Debug)]
pub(crate) enum Input {
    /// Nothing.
    None,
    /// Standard input as it is.
    Plain,
    /// Standard input, watched for the detach keys.
    Watched(DetachKeys),
}

/// Why the streams ended.
#[derive(Debug)]
pub(crate) enum StreamsEnd {
    /// All output came, or it could not be passed on.
    Output(Result<(), ClientError>),
    /// The user left.
    Detached,
}

/// The running pumps.
#[derive(Debug)]
pub(crate) struct Streams(mpsc::Receiver<StreamsEnd>);

impl Streams {
    /// Starts both threads.
    pub(crate) fn start(attached: Attached, tty: bool, input: Input) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel(2);
        let Attached { socket, early } = attached;
        let writer = socket.try_clone()?;
        let output_end = sender.clone();
        std::thread::Builder::new().name("output".to_owned()).spawn(move || {
            let result = pass_output(socket, &early, tty);
            // The receiver is gone when the command has ended for another reason.
            let _ = output_end.blocking_send(StreamsEnd::Output(result));
        })?;
        match input {
            Input::None => writer.shutdown(Shutdown::Write)?,
            Input::Plain => spawn_input(writer, None, sender)?,
            Input::Watched(keys) => spawn_input(writer, Some(keys), sender)?,
        }
        Ok(Self(receiver))
    }

    /// Waits for the end of the output or for the detach keys.
    pub(crate) async fn end(&mut self) -> StreamsEnd {
        self.0.recv().await.unwrap_or(StreamsEnd::Output(Ok(())))
    }
}

fn pass_output(mut socket: UnixStream, early: &[u8], tty: bool) -> Result<(), ClientError> {
    let mut decoder = Decoder::default();
    print(&mut decoder, early, tty)?;
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        match socket.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(len) => print(&mut decoder, &buffer[..len], tty)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(ClientError::connection("read output from", &error)),
        }
    }
}

fn print(decoder: &mut Decoder, mut bytes: &[u8], tty: bool) -> Result<(), ClientError> {
    if tty {
        return Ok(printer::write(Output::Stdout, bytes)?);
    }
    while let Some((output, piece)) = decoder.next(&mut bytes)? {
        printer::write(output, piece)?;
    }
    Ok(())
}

fn spawn_input(
    writer: UnixStream,
    keys: Option<DetachKeys>,
    end: mpsc::Sender<StreamsEnd>,
) -> io::Result<()> {
    std::thread::Builder::new().name("input".to_owned()).spawn(move || {
        if pass_input(&writer, keys) {
            let _ = end.blocking_send(StreamsEnd::Detached);
        } else {
            // The container reads to the end, and goes on writing. It may be gone already.
            let _ = writer.shutdown(Shutdown::Write);
        }
    })?;
    Ok(())
}

/// Returns whether the user detached; otherwise the input ended, or nobody takes it any more.
fn pass_input(mut writer: &UnixStream, mut keys: Option<DetachKeys>) -> bool {
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        let len = match rustix::io::read(rustix::stdio::stdin(), &mut buffer[..]) {
            Ok(0) => return false,
            Ok(len) => len,
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => {
                wait_for_input();
                continue;
            }
            Err(_) => return false,
        };
        let typed = &buffer[..len];
        let (sent, detached) = match &mut keys {
            None => (writer.write_all(typed), false),
            Some(keys) => match keys.scan(typed) {
                Scan::Pass(bytes) => (writer.write_all(&bytes), false),
                Scan::Detach(bytes) => (writer.write_all(&bytes), true),
            },
        };
        if detached || sent.is_err() {
            return detached;
        }
    }
}

/// Standard input may be non-blocking when another program shares it.
fn wait_for_input() {
    use rustix::event::{PollFd, PollFlags, poll};
    let mut descriptors = [PollFd::from_borrowed_fd(rustix::stdio::stdin(), PollFlags::IN)];
    // An error shows again in the read that follows.
    let _ = poll(&mut descriptors, None);
}
