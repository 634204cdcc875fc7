//! The kernel in guest memory: its pages are mapped from the file, not copied.
//!
//! Whole pages of a segment become private mappings of the file over guest memory: a page that
//! nobody writes to is the page cache's, one for all microVMs, and one that nobody reads costs
//! nothing. What does not fill a page, or does not lie in the file as it does in memory, is copied.
//! Zeros need nothing: memory is new.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use husk_devices::virtio::Memory;
use vm_memory::{GuestAddress, GuestMemoryBackend};

use super::elf::{self, KernelError, KernelImage, LoadSegment};
use super::layout::Layout;
use crate::sys::read_at;

const PAGE: u64 = 4096;

/// Why a kernel is not in memory.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// It is none, or not for this guest.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// Its pages.
    #[error("failed to map the kernel")]
    Map(#[source] io::Error),
}

/// Part of a segment that is put into memory in one way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Piece {
    offset: u64,
    address: u64,
    length: u64,
    mapped: bool,
}

/// Checks the kernel and puts it into new memory.
pub(crate) fn load_kernel(
    file: &File,
    memory: &Memory,
    layout: &Layout,
) -> Result<KernelImage, LoadError> {
    let image = elf::parse(file, layout.kernel_end())?;
    for piece in image.segments.iter().flat_map(pieces) {
        let placed =
            if piece.mapped { map(file, memory, piece) } else { copy(file, memory, piece) };
        placed.map_err(LoadError::Map)?;
    }
    Ok(image)
}

/// What to do with a segment's bytes of the file.
fn pieces(segment: &LoadSegment) -> impl Iterator<Item = Piece> {
    let end = segment.address + segment.file_length;
    let piece = |from: u64, to: u64, mapped| Piece {
        offset: segment.offset + (from - segment.address),
        address: from,
        length: to - from,
        mapped,
    };
    let first = segment.address.next_multiple_of(PAGE);
    let last = end - end % PAGE;
    let pieces = if segment.offset % PAGE == segment.address % PAGE && first < last {
        [piece(segment.address, first, false), piece(first, last, true), piece(last, end, false)]
    } else {
        let none = piece(segment.address, segment.address, false);
        [piece(segment.address, end, false), none, none]
    };
    pieces.into_iter().filter(|piece| piece.length > 0)
}

fn map(file: &File, memory: &Memory, piece: Piece) -> io::Result<()> {
    let Piece { offset, address, length, .. } = piece;
    let length = usize::try_from(length).map_err(io::Error::other)?;
    let slice = memory.get_slice(GuestAddress(address), length).map_err(io::Error::other)?;
    let host = slice.ptr_guard_mut().as_ptr();
    let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
    let flags = libc::MAP_PRIVATE | libc::MAP_FIXED;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: the slice is `length` bytes of one mapping that `memory` owns, at a page boundary;
    // it is replaced by one of the same length and protection that goes with the rest of the
    // region. Guest memory is no Rust object: no reference to it exists.
    let mapped =
        unsafe { libc::mmap(host.cast(), length, protection, flags, file.as_raw_fd(), offset) };
    if mapped == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: address and length are those of the mapping just made, and nothing in it changes.
    unsafe { libc::madvise(mapped, length, libc::MADV_DONTDUMP) };
    Ok(())
}

fn copy(file: &File, memory: &Memory, piece: Piece) -> io::Result<()> {
    let Piece { offset, address, length, .. } = piece;
    let length = usize::try_from(length).map_err(io::Error::other)?;
    let mut slice = memory.get_slice(GuestAddress(address), length).map_err(io::Error::other)?;
    let mut offset = offset;
    while !slice.is_empty() {
        let count = read_at(file.as_fd(), &[slice], offset)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        offset += count as u64;
        slice = slice.offset(count).map_err(io::Error::other)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use proptest::prelude::*;
    use vm_memory::Bytes;

    use super::*;
    use crate::memory::map_ram;

    #[test]
    fn mapped_and_copied_pieces_hold_what_the_file_holds() {
        let file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..60_000_u32).map(|place| (place % 251) as u8).collect();
        file.write_all_at(&bytes, 0).unwrap();
        let layout = Layout::new(32, &[], 0).unwrap();
        let memory = map_ram(&layout).unwrap();
        let segment = |offset, address| LoadSegment {
            offset,
            file_length: 20_000,
            address,
            memory_length: 30_000,
        };
        // Aligned to each other, aligned but not to a page, and not aligned.
        for (offset, address) in [(8192, 0x10_0000), (100, 0x20_0064), (101, 0x30_0064)] {
            for piece in pieces(&segment(offset, address)) {
                let place = if piece.mapped { map } else { copy };
                place(&file, &memory, piece).unwrap();
            }
            let mut found = vec![1; 30_000];
            memory.read_slice(&mut found, GuestAddress(address)).unwrap();
            let start = usize::try_from(offset).unwrap();
            assert_eq!(found[..20_000], bytes[start..start + 20_000], "{offset}");
            assert!(found[20_000..].iter().all(|&byte| byte == 0), "{offset}: zeros behind it");
        }
        // What is written there stays private.
        memory.write_slice(&[0xee; 16], GuestAddress(0x10_1000)).unwrap();
        let mut kept = [0; 16];
        file.read_exact_at(&mut kept, 8192 + 4096).unwrap();
        assert_eq!(kept[..], bytes[8192 + 4096..][..16]);
    }

    proptest! {
        #[test]
        fn pieces_cover_a_segment_and_only_whole_pages_are_mapped(
            offset in 0_u64..1 << 20,
            address in 0_u64..1 << 20,
            file_length in 0_u64..1 << 16,
            same in any::<bool>(),
        ) {
            let offset = if same { offset - offset % PAGE + address % PAGE } else { offset };
            let segment = LoadSegment { offset, file_length, address, memory_length: file_length };
            let mut next = address;
            for piece in pieces(&segment) {
                prop_assert_eq!(piece.address, next);
                prop_assert_eq!(piece.offset - offset, piece.address - address);
                if piece.mapped {
                    prop_assert_eq!(piece.address % PAGE, 0);
                    prop_assert_eq!(piece.offset % PAGE, 0);
                    prop_assert_eq!(piece.length % PAGE, 0);
                } else if same {
                    prop_assert!(piece.length < 2 * PAGE);
                }
                next += piece.length;
            }
            prop_assert_eq!(next, address + file_length);
        }
    }
}
