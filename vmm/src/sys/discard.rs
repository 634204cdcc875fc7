//! Guest memory back to the host.

use std::io;

use vm_memory::VolatileSlice;

use super::succeeded;

/// Gives whole pages of the host within `memory` back; what is read there afterwards are zeros, or
/// the content of the file that the memory is a private mapping of.
pub(crate) fn discard_memory(memory: &VolatileSlice<'_>) -> io::Result<()> {
    // SAFETY: no preconditions.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let page = usize::try_from(page).expect("every system has a page size");
    let guard = memory.ptr_guard_mut();
    let start = guard.as_ptr();
    let skipped = start.align_offset(page);
    let length = memory.len().saturating_sub(skipped) / page * page;
    if length == 0 {
        return Ok(());
    }
    let start = start.wrapping_add(skipped).cast::<libc::c_void>();
    // A page of a shared file is there until the file has none: that call is for shared memory
    // only, and fails on any other.
    // SAFETY: `start` and `length` are whole pages within the slice, which guarantees that they
    // are mapped while it is borrowed. They are guest memory, no Rust object: it may change.
    if succeeded(unsafe { libc::madvise(start, length, libc::MADV_REMOVE) }.into()).is_ok() {
        return Ok(());
    }
    // SAFETY: as above.
    let result = unsafe { libc::madvise(start, length, libc::MADV_DONTNEED) };
    succeeded(result.into())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::MetadataExt;

    use husk_devices::virtio::Memory;
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
    use vm_memory::{
        Bytes, FileOffset, GuestAddress, GuestMemory, GuestMemoryRegion, GuestRegionMmap,
        MmapRegion, Permissions,
    };

    use super::*;

    const LENGTH: usize = 1 << 20;

    fn discard(memory: &Memory, start: u64, length: usize) {
        memory.write_slice(&vec![7; LENGTH], GuestAddress(0)).unwrap();
        let slices = memory.get_slices(GuestAddress(start), length, Permissions::Write).unwrap();
        for slice in slices {
            discard_memory(&slice.unwrap()).unwrap();
        }
    }

    fn byte(memory: &Memory, address: u64) -> u8 {
        memory.read_obj(GuestAddress(address)).unwrap()
    }

    #[test]
    fn whole_pages_of_private_memory_read_as_zeros() {
        let memory = Memory::from_ranges(&[(GuestAddress(0), LENGTH)]).unwrap();
        discard(&memory, 4095, 4098);
        assert_eq!([4095, 4096, 8191, 8192].map(|at| byte(&memory, at)), [7, 0, 0, 7]);
    }

    #[test]
    fn whole_pages_of_shared_memory_leave_the_file() {
        let file = File::from(memfd_create("shared", MemfdFlags::CLOEXEC).unwrap());
        ftruncate(&file, LENGTH as u64).unwrap();
        let region = MmapRegion::from_file(FileOffset::new(file.try_clone().unwrap(), 0), LENGTH);
        let region = GuestRegionMmap::new(region.unwrap(), GuestAddress(0)).unwrap();
        assert_eq!(region.len(), LENGTH as u64);
        let memory = Memory::from_regions(vec![region]).unwrap();
        discard(&memory, 0, LENGTH / 2);
        assert_eq!(file.metadata().unwrap().blocks() * 512, LENGTH as u64 / 2);
        assert_eq!([0, LENGTH as u64 - 1].map(|at| byte(&memory, at)), [0, 7]);
    }
}
