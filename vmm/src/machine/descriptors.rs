//! The descriptors that came along with a configuration, each checked to be what it was given for.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use husk_vmm_config::FdIndex;
use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat, makedev};
use rustix::net::sockopt::socket_acceptconn;

use super::MachineError;

/// The numbers of `/dev/kvm` (the kernel's `admin-guide/devices.txt`).
const KVM_DEVICE: (u32, u32) = (10, 232);

/// The numbers of `/dev/net/tun`.
const TUN_DEVICE: (u32, u32) = (10, 200);

/// The descriptors that came along, taken out by index.
#[derive(Debug)]
pub(crate) struct Descriptors(Vec<OwnedFd>);

impl Descriptors {
    /// Takes the received descriptors over.
    pub(crate) fn new(fds: Vec<OwnedFd>) -> Self {
        Self(fds)
    }

    /// A listening unix stream socket.
    pub(crate) fn listener(
        &self,
        fd: FdIndex,
        purpose: &'static str,
    ) -> Result<UnixListener, MachineError> {
        let owned = self.duplicate(fd, purpose)?;
        match socket_acceptconn(&owned) {
            Ok(true) => Ok(UnixListener::from(owned)),
            _ => Err(MachineError::Kind { index: fd.0, purpose, expected: "a listening socket" }),
        }
    }

    /// A regular file, open for reading, or for both.
    pub(crate) fn file(
        &self,
        fd: FdIndex,
        purpose: &'static str,
        writable: bool,
    ) -> Result<File, MachineError> {
        let failed = |error: rustix::io::Errno| MachineError::Fd {
            index: fd.0,
            purpose,
            source: error.into(),
        };
        let owned = self.duplicate(fd, purpose)?;
        let kind = |expected| Err(MachineError::Kind { index: fd.0, purpose, expected });
        if FileType::from_raw_mode(fstat(&owned).map_err(failed)?.st_mode) != FileType::RegularFile
        {
            return kind("a regular file");
        }
        let access = fcntl_getfl(&owned).map_err(failed)? & OFlags::RWMODE;
        match (access, writable) {
            (OFlags::RDWR, _) | (OFlags::RDONLY, false) => Ok(File::from(owned)),
            (OFlags::WRONLY, true) if purpose == "report" => Ok(File::from(owned)),
            (_, true) => kind("open for writing"),
            (_, false) => kind("open for reading"),
        }
    }

    /// The device of KVM, open for reading and writing.
    pub(crate) fn kvm(&self, fd: FdIndex) -> Result<File, MachineError> {
        let expected = "/dev/kvm, open for reading and writing";
        self.device(fd, "kvm", KVM_DEVICE, expected)
    }

    /// A tap, open for reading and writing.
    pub(crate) fn tap(&self, fd: FdIndex) -> Result<File, MachineError> {
        let expected = "/dev/net/tun, open for reading and writing";
        self.device(fd, "tap", TUN_DEVICE, expected)
    }

    /// A character device of that number, open for reading and writing.
    fn device(
        &self,
        fd: FdIndex,
        purpose: &'static str,
        (major, minor): (u32, u32),
        expected: &'static str,
    ) -> Result<File, MachineError> {
        let failed = |error: rustix::io::Errno| MachineError::Fd {
            index: fd.0,
            purpose,
            source: error.into(),
        };
        let owned = self.duplicate(fd, purpose)?;
        let status = fstat(&owned).map_err(failed)?;
        let right = FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice
            && status.st_rdev == makedev(major, minor)
            && fcntl_getfl(&owned).map_err(failed)? & OFlags::RWMODE == OFlags::RDWR;
        if right {
            return Ok(File::from(owned));
        }
        Err(MachineError::Kind { index: fd.0, purpose, expected })
    }

    fn duplicate(&self, fd: FdIndex, purpose: &'static str) -> Result<OwnedFd, MachineError> {
        let failed = |source| MachineError::Fd { index: fd.0, purpose, source };
        let owned = self.0.get(fd.0 as usize).ok_or(io::ErrorKind::NotFound.into());
        owned.and_then(OwnedFd::try_clone).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_known_by_its_number_and_must_be_open_for_both() {
        let open = |path, write: bool| {
            OwnedFd::from(File::options().read(true).write(write).open(path).unwrap())
        };
        let mut fds = vec![open("/dev/null", true), open("/proc/self/stat", false)];
        if let Ok(tun) = File::options().read(true).write(true).open("/dev/net/tun") {
            fds.push(tun.into());
            fds.push(open("/dev/net/tun", false));
        }
        let fds = Descriptors::new(fds);
        for index in [0, 1, 3] {
            fds.tap(FdIndex(index)).unwrap_err();
            fds.kvm(FdIndex(index)).unwrap_err();
        }
        assert_eq!(fds.tap(FdIndex(2)).is_ok(), fds.0.len() > 2);
        let error = fds.kvm(FdIndex(0)).unwrap_err().to_string();
        assert_eq!(error, "descriptor 0 (kvm) is not /dev/kvm, open for reading and writing");
    }
}
