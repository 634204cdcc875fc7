//! The socket between the agent and a container's first process until the program runs.
//!
//! ```text
//!   agent                      process
//!     │  ◀── prepared (terminal) ──│
//!     │  ─────── start ──────────▶ │
//!     │  ◀────── closed ────────── │  the program has been executed
//! ```
//!
//! or, at any time, `failed` and the end of the process.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use husk_protocol::{AgentError, frame};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv, recvmsg, send, sendmsg,
    socketpair,
};

/// Bytes of a report at most.
const REPORT_MAX: usize = 16 << 10;

/// What the agent hears.
#[derive(Debug)]
pub enum Report {
    /// The process waits to be started.
    Prepared {
        /// The controlling side of its terminal, if it has one.
        terminal: Option<OwnedFd>,
    },
    /// It could not be prepared, or its program not be executed.
    Failed(AgentError),
    /// The process has gone: by executing its program, if nothing else was heard.
    Closed,
}

/// Makes both ends: the agent's, which does not block, and the process's.
///
/// # Errors
/// The kernel's.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let kind = SocketType::SEQPACKET;
    let (agent, process) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
    fcntl_setfl(&agent, OFlags::NONBLOCK)?;
    fcntl_setfd(&process, FdFlags::CLOEXEC)?;
    Ok((agent, process))
}

/// Tells the agent that the process is ready to be started.
///
/// # Errors
/// The kernel's.
pub fn send_prepared(channel: impl AsFd, terminal: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let report = encode(None);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors: Vec<BorrowedFd<'_>> = terminal.into_iter().collect();
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
    }
    sendmsg(channel, &[IoSlice::new(&report)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Tells the agent why the program does not run.
pub fn send_failed(channel: impl AsFd, error: &AgentError) {
    // If the agent has gone, there is nobody to tell.
    let _ = send(channel, &encode(Some(error)), SendFlags::NOSIGNAL);
}

/// Takes the next report; [`io::ErrorKind::WouldBlock`] if there is none yet.
///
/// # Errors
/// The kernel's, and for a report that is malformed.
pub fn receive(channel: impl AsFd) -> io::Result<Report> {
    let mut report = vec![0; REPORT_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut report)];
    let message = recvmsg(channel, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if message.bytes == 0 {
        return Ok(Report::Closed);
    }
    let terminal = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    match frame::decode(&report[..message.bytes]) {
        Ok(None) => Ok(Report::Prepared { terminal }),
        Ok(Some(error)) => Ok(Report::Failed(error)),
        Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
    }
}

/// Tells the process to run its program.
///
/// # Errors
/// The kernel's.
pub fn send_start(channel: impl AsFd) -> io::Result<()> {
    send(channel, b"s", SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Waits until the agent tells this process to run its program; false if the agent has gone.
pub fn wait_for_start(channel: impl AsFd) -> bool {
    let mut byte = [0; 1];
    loop {
        match recv(channel.as_fd(), &mut byte, RecvFlags::empty()) {
            Err(rustix::io::Errno::INTR) => {}
            result => return result.is_ok_and(|(count, _)| count == 1),
        }
    }
}

fn encode(error: Option<&AgentError>) -> Vec<u8> {
    let frame = frame::encode(&error).expect("an error message is cut to its limit");
    frame[frame::HEADER_LEN..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use husk_protocol::AgentErrorKind;

    #[test]
    fn reports_arrive_as_sent_and_the_end_is_seen() {
        let (agent, process) = pair().unwrap();
        assert_eq!(receive(&agent).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        send_prepared(&process, Some(process.as_fd())).unwrap();
        assert!(matches!(receive(&agent).unwrap(), Report::Prepared { terminal: Some(_) }));
        send_start(&agent).unwrap();
        assert!(wait_for_start(&process));
        let error = AgentError { kind: AgentErrorKind::Internal, message: "no".into() };
        send_failed(&process, &error);
        assert!(matches!(receive(&agent).unwrap(), Report::Failed(told) if told == error));
        drop(process);
        assert!(matches!(receive(&agent).unwrap(), Report::Closed));
    }
}
