//! `mount_setattr(2)`.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use rustix::mount::MountAttrFlags;

use super::check_long;

/// Sets attributes of the mount behind `mount`, and of all below it if `recursive`.
///
/// # Errors
/// The kernel's.
pub fn set_attributes(mount: impl AsFd, set: MountAttrFlags, recursive: bool) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: u64::from(set.bits()),
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the descriptor is open, the path is an empty C string, and the last two arguments
    // are a mount_attr and its size.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    check_long(result).map(drop)
}
