//! Scattered I/O between files and guest memory, with no copy between them.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use vm_memory::VolatileSlice;

use super::checked;

/// Pieces of one call: the kernel takes 1024 (`UIO_MAXIOV`), more than a virtqueue brings.
const PIECES_MAX: usize = 64;

/// The vectors of one call, on the stack.
struct Vectors {
    vectors: [libc::iovec; PIECES_MAX],
    count: libc::c_int,
}

impl Vectors {
    /// Pointers into `buffers`, which must outlive them: both stay within one function here.
    fn new(buffers: &[VolatileSlice<'_>]) -> Self {
        let none = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        let mut vectors = [none; PIECES_MAX];
        let mut count = 0;
        for (vector, buffer) in vectors.iter_mut().zip(buffers) {
            vector.iov_base = buffer.ptr_guard_mut().as_ptr().cast();
            vector.iov_len = buffer.len();
            count += 1;
        }
        Self { vectors, count }
    }
}

/// Reads from `file` at `offset` into `buffers`, in order.
pub(crate) fn read_at(
    file: BorrowedFd<'_>,
    buffers: &[VolatileSlice<'_>],
    offset: u64,
) -> io::Result<usize> {
    let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
    let Vectors { vectors, count } = Vectors::new(buffers);
    // SAFETY: each vector names memory that its VolatileSlice guarantees to be mapped and
    // writable while `buffers` is borrowed; guest memory is no Rust object, so the kernel writing
    // to it breaks no aliasing rule.
    checked(unsafe { libc::preadv(file.as_raw_fd(), vectors.as_ptr(), count, offset) })
}

/// Writes to `file` at `offset` from `buffers`, in order.
pub(crate) fn write_at(
    file: BorrowedFd<'_>,
    buffers: &[VolatileSlice<'_>],
    offset: u64,
) -> io::Result<usize> {
    let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
    let Vectors { vectors, count } = Vectors::new(buffers);
    // SAFETY: each vector names memory that its VolatileSlice guarantees to be mapped while
    // `buffers` is borrowed; the guest may change it meanwhile, which the kernel copes with.
    checked(unsafe { libc::pwritev(file.as_raw_fd(), vectors.as_ptr(), count, offset) })
}

/// Reads from a stream into `buffers`, in order.
pub(crate) fn read_stream(
    stream: BorrowedFd<'_>,
    buffers: &[VolatileSlice<'_>],
) -> io::Result<usize> {
    let Vectors { vectors, count } = Vectors::new(buffers);
    // SAFETY: as for `read_at`.
    checked(unsafe { libc::readv(stream.as_raw_fd(), vectors.as_ptr(), count) })
}

/// Writes to a stream from `buffers`, in order.
pub(crate) fn write_stream(
    stream: BorrowedFd<'_>,
    buffers: &[VolatileSlice<'_>],
) -> io::Result<usize> {
    let Vectors { vectors, count } = Vectors::new(buffers);
    // SAFETY: as for `write_at`.
    checked(unsafe { libc::writev(stream.as_raw_fd(), vectors.as_ptr(), count) })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn files_and_streams_are_scattered_and_gathered_in_order() {
        let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let (mut first, mut second) = (*b"abc", *b"defg");
        let slices = [VolatileSlice::from(&mut first[..]), VolatileSlice::from(&mut second[..])];
        assert_eq!(write_stream(theirs.as_fd(), &slices).unwrap(), 7);
        let mut bytes = [0; 7];
        ours.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"abcdefg");
        ours.write_all(b"12345").unwrap();
        assert_eq!(read_stream(theirs.as_fd(), &slices).unwrap(), 5);
        assert_eq!((&first, &second), (b"123", b"45fg"));
    }

    #[test]
    fn offsets_beyond_a_signed_number_are_refused() {
        let file = std::fs::File::open("/dev/null").unwrap();
        read_at(file.as_fd(), &[], u64::MAX).unwrap_err();
        write_at(file.as_fd(), &[], 1 << 63).unwrap_err();
    }
}
