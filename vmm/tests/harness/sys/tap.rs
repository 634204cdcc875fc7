//! A network of the test's own, with a tap in it.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::process::Command;

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Puts this thread, and what it starts from now on, into a new and empty network namespace.
pub fn enter_own_network() -> io::Result<()> {
    // SAFETY: a network namespace changes no descriptor and no memory.
    Ok(unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?)
}

/// A tap with the headers that a network device wants, up, with that address.
pub fn make(name: &str, address: &str) -> io::Result<File> {
    let tap = File::options().read(true).write(true).open("/dev/net/tun")?;
    // SAFETY: all-zero bytes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes().take(libc::IFNAMSIZ - 1)) {
        *place = libc::c_char::try_from(byte).unwrap();
    }
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(flags).unwrap();
    // SAFETY: TUNSETIFF reads and writes one ifreq, which `request` is.
    if unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETIFF, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    for arguments in
        [["addr", "add", address, "dev", name].as_slice(), &["link", "set", name, "up"]]
    {
        let output = Command::new("ip").args(arguments).output()?;
        if !output.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
    }
    Ok(tap)
}
