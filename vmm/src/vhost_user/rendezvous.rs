//! A socket for a program that insists on calling a name.

use std::io;
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::socket_peercred;

use crate::sys::random_bytes;

/// A listening socket in the abstract namespace: no file, gone when this is dropped. In a jail with
/// a network namespace of its own nobody else can see it, and elsewhere only one process is let in.
#[derive(Debug)]
pub(crate) struct Rendezvous {
    listener: UnixListener,
    name: String,
}

impl Rendezvous {
    /// A socket of a name that nobody guesses.
    pub(crate) fn new() -> io::Result<Self> {
        let mut bytes = [0; 16];
        random_bytes(&mut bytes)?;
        let name = format!("husk-{:032x}", u128::from_ne_bytes(bytes));
        let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, name })
    }

    /// What to call, of letters, digits and dashes.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Waits for the process of that ID to call. None comes once `ended` is readable, or in that
    /// time.
    pub(crate) fn accept(
        &self,
        caller: u32,
        ended: impl AsFd,
        patience: Duration,
    ) -> io::Result<Option<UnixStream>> {
        let mut watched =
            [PollFd::new(&self.listener, PollFlags::IN), PollFd::new(&ended, PollFlags::IN)];
        let timeout = Timespec::try_from(patience).map_err(io::Error::other)?;
        loop {
            match poll(&mut watched, Some(&timeout)) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?,
            };
            if watched[0].revents().is_empty() {
                return Ok(None);
            }
            let stream = match self.listener.accept() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                other => other?.0,
            };
            let peer = socket_peercred(&stream)?.pid.as_raw_nonzero().get();
            if u32::try_from(peer) == Ok(caller) {
                stream.set_nonblocking(false)?;
                return Ok(Some(stream));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;

    fn call(rendezvous: &Rendezvous) -> UnixStream {
        let address = SocketAddr::from_abstract_name(rendezvous.name()).unwrap();
        UnixStream::connect_addr(&address).unwrap()
    }

    #[test]
    fn only_the_awaited_process_is_let_in() {
        let rendezvous = Rendezvous::new().unwrap();
        let (never, other) = UnixStream::pair().unwrap();
        let own = std::process::id();
        let accept = |caller, patience| {
            rendezvous.accept(caller, &never, Duration::from_secs(patience)).unwrap()
        };
        let _caller = call(&rendezvous);
        assert!(accept(own, 10).is_some());
        let _stranger = call(&rendezvous);
        assert!(accept(own + 1, 0).is_none());
        drop(OwnedFd::from(other));
        assert!(accept(own, 10).is_none(), "the awaited process has ended");
    }
}
