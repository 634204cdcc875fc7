//! A tap of the host behind a network device.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use husk_devices::virtio::net::{Backend, HEADER_LENGTH, Offload};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use vm_memory::VolatileSlice;

use crate::poll::{Poll, Watch};
use crate::sys::{self, TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6};

/// An interface of the host, one frame a call. Whether it is up, and where its frames go, is the
/// engine's business.
#[derive(Debug)]
pub(crate) struct Tap(File);

impl Tap {
    /// Prepares a descriptor that was attached to its interface, and watches it under `token`.
    pub(crate) fn new(file: File, poll: &Poll, token: u64) -> io::Result<Self> {
        let wanted = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
        let flags = sys::tap_flags(file.as_fd())?;
        if flags & wanted != wanted {
            return Err(io::Error::other(format!(
                "the interface was attached with flags {flags:#x}, not as a tap with headers for \
                 offloads and no packet information ({wanted:#x})"
            )));
        }
        fcntl_setfl(&file, fcntl_getfl(&file)? | OFlags::NONBLOCK)?;
        let length = libc::c_int::try_from(HEADER_LENGTH).expect("12 fits");
        sys::set_tap_header_length(file.as_fd(), length)?;
        let mut tap = Self(file);
        // All that a driver may accept, now that a failure can still be told.
        tap.set_offload(Offload { checksum: true, tso4: true, tso6: true })?;
        tap.set_offload(Offload::default())?;
        poll.add(&tap.0, token, Watch::Edges)?;
        Ok(tap)
    }
}

impl Backend for Tap {
    fn read(&mut self, buffers: &[VolatileSlice<'_>]) -> io::Result<usize> {
        sys::read_stream(self.0.as_fd(), buffers)
    }

    fn write(&mut self, buffers: &[VolatileSlice<'_>]) -> io::Result<()> {
        sys::write_stream(self.0.as_fd(), buffers).map(|_| ())
    }

    fn set_offload(&mut self, offload: Offload) -> io::Result<()> {
        let flag = |wanted: bool, flag| if wanted { flag } else { 0 };
        let flags = flag(offload.checksum, TUN_F_CSUM)
            | flag(offload.tso4, TUN_F_TSO4)
            | flag(offload.tso6, TUN_F_TSO6);
        sys::set_tap_offload(self.0.as_fd(), flags)
    }
}
