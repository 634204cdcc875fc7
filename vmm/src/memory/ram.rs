//! The mappings behind guest memory.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;

use husk_devices::virtio::Memory;
use vm_memory::mmap::{FromRangesError, MmapRegionBuilder};
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryRegion, GuestRegionMmap, MmapRegion};

use super::layout::{Layout, Range};

/// From here on, guests get huge pages where the host has them.
///
/// A huge page makes the guest's page walks shorter, and 2 MiB of host memory used at its first
/// touched byte. A small guest touches something in almost every 2 MiB while it boots: with huge
/// pages, a boot that needs 16 MiB would take all of a 128 MiB guest. A large guest is large for
/// a workload's sake, whose speed counts more than what rounding up costs.
const HUGE_PAGES_FROM: u64 = 2 << 30;

/// Maps memory of that layout: private, filled with zeros, without a page yet, and in no core dump.
pub(crate) fn map_ram(layout: &Layout) -> io::Result<Memory> {
    let total: u64 = layout.ram().map(|range| range.length).sum();
    let advice = if total >= HUGE_PAGES_FROM { libc::MADV_HUGEPAGE } else { libc::MADV_NOHUGEPAGE };
    let mut regions = Vec::new();
    for Range { start, length } in layout.ram() {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        // No reserve: the host decides about overcommitment when pages are touched.
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let region: MmapRegion<()> = MmapRegionBuilder::new(length)
            .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
            .with_mmap_flags(flags)
            .build()
            .map_err(io::Error::other)?;
        advise(&region, libc::MADV_DONTDUMP)?;
        // Where the host's kernel has no huge pages, it has no advice on them either.
        let _ = advise(&region, advice);
        let region = GuestRegionMmap::new(region, GuestAddress(start));
        regions.push(region.ok_or_else(|| io::Error::other("a region ends behind all addresses"))?);
    }
    Memory::from_regions(regions).map_err(|error| io::Error::other(FromRangesError::from(error)))
}

fn advise(region: &MmapRegion<()>, advice: libc::c_int) -> io::Result<()> {
    // SAFETY: address and length are those of a mapping that `region` owns; none of the advice
    // given here changes what can be read from it.
    let result = unsafe { libc::madvise(region.as_ptr().cast(), region.size(), advice) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The host addresses of all memory, for those who look at the process from outside.
pub(crate) fn host_ranges(memory: &Memory) -> Vec<std::ops::Range<u64>> {
    let range = |region: &GuestRegionMmap<()>| {
        let start = region.as_ptr() as u64;
        start..start + region.len()
    };
    memory.iter().map(range).collect()
}

/// A file that can only be read, shared with everyone who maps it, as long as its window.
#[derive(Debug)]
pub(crate) struct ReadOnlyMapping {
    address: NonNull<libc::c_void>,
    length: usize,
}

// SAFETY: the mapping belongs to this value alone and nobody writes to it through this process;
// a pointer to it may move to another thread.
unsafe impl Send for ReadOnlyMapping {}
// SAFETY: nothing can be done with a shared reference but to ask where the mapping is.
unsafe impl Sync for ReadOnlyMapping {}

impl ReadOnlyMapping {
    /// Maps a file of `file_length` bytes into a window of `window` bytes, at least one: what lies
    /// behind the file's end reads as zeros.
    pub(crate) fn new(file: &File, file_length: u64, window: u64) -> io::Result<Self> {
        let length = usize::try_from(window).map_err(io::Error::other)?;
        let file_length = usize::try_from(file_length.min(window)).map_err(io::Error::other)?;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: no address is asked for, so that nothing that exists is replaced.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), length, libc::PROT_READ, flags, -1, 0) };
        let address = mapped(start)?;
        let mapping = Self { address, length };
        if file_length == 0 {
            return Ok(mapping);
        }
        let flags = libc::MAP_SHARED | libc::MAP_FIXED;
        // SAFETY: the address is that of the mapping above, which is at least as long and belongs
        // to this value alone.
        let start = unsafe {
            libc::mmap(address.as_ptr(), file_length, libc::PROT_READ, flags, file.as_raw_fd(), 0)
        };
        mapped(start)?;
        Ok(mapping)
    }

    /// Its first host address.
    pub(crate) fn host_address(&self) -> u64 {
        self.address.as_ptr() as u64
    }

    /// Its bytes.
    pub(crate) fn len(&self) -> u64 {
        self.length as u64
    }
}

impl Drop for ReadOnlyMapping {
    fn drop(&mut self) {
        // SAFETY: address and length are those of the mapping, which nobody uses after this value.
        unsafe { libc::munmap(self.address.as_ptr(), self.length) };
    }
}

fn mapped(address: *mut libc::c_void) -> io::Result<NonNull<libc::c_void>> {
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(address).ok_or_else(|| io::Error::other("mapped at address zero"))
}

#[cfg(test)]
mod tests {
    use vm_memory::Bytes;

    use super::*;

    #[test]
    fn memory_is_there_on_both_sides_of_the_gap() {
        let layout = Layout::new(4 << 10, &[], 0).unwrap();
        let memory = map_ram(&layout).unwrap();
        for address in [0, 0xbfff_fff8, 1 << 32, (5 << 30) - 8] {
            memory.write_obj(7_u64, GuestAddress(address)).unwrap();
        }
        for address in [0xc000_0000, (1 << 32) - 8, 5 << 30] {
            memory.write_obj(7_u64, GuestAddress(address)).unwrap_err();
        }
        assert_eq!(
            host_ranges(&memory).iter().map(|range| range.end - range.start).sum::<u64>(),
            4 << 30
        );
    }

    #[test]
    fn a_read_only_mapping_is_as_long_as_its_window() {
        let file = tempfile::tempfile().unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"image", 0).unwrap();
        let mapping = ReadOnlyMapping::new(&file, 5, 2 << 20).unwrap();
        assert_eq!(mapping.len(), 2 << 20);
        let read = |offset: usize| {
            let byte = mapping.address.as_ptr().cast::<u8>().wrapping_add(offset);
            // SAFETY: the mapping is two MiB long and readable.
            unsafe { byte.read() }
        };
        assert_eq!((read(0), read(4), read(5), read(8192)), (b'i', b'e', 0, 0));
    }
}
