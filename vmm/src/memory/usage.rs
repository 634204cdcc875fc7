//! What of the guest's memory the host had to provide, from `/proc/self/smaps`.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek};
use std::ops::Range;

use husk_devices::virtio::Memory;
use husk_vmm_config::MemoryUse;

use super::ram::host_ranges;

/// A look at the host's side of guest memory.
#[derive(Debug)]
pub(crate) struct Usage {
    smaps: Option<File>,
    ranges: Vec<Range<u64>>,
}

impl Usage {
    /// Prepares to look at `memory` through this process's listing.
    pub(crate) fn new(smaps: Option<File>, memory: &Memory) -> Self {
        Self { smaps, ranges: host_ranges(memory) }
    }

    /// What is in use now; nothing where the host does not tell.
    pub(crate) fn measure(&self) -> MemoryUse {
        let Some(mut smaps) = self.smaps.as_ref() else { return MemoryUse::default() };
        if smaps.rewind().is_err() {
            return MemoryUse::default();
        }
        sum(BufReader::new(smaps), &self.ranges)
    }
}

/// Sums what a listing in the form of proc(5) tells of the mappings that begin in `ranges`.
fn sum(listing: impl BufRead, ranges: &[Range<u64>]) -> MemoryUse {
    let mut sum = MemoryUse::default();
    let mut counts = false;
    for line in listing.lines().map_while(Result::ok) {
        let mut words = line.split_ascii_whitespace();
        let (Some(first), second) = (words.next(), words.next()) else { continue };
        let kib = || second.and_then(|number| number.parse::<u64>().ok()).unwrap_or(0);
        match first {
            "Rss:" if counts => sum.touched += kib() << 10,
            "Anonymous:" if counts => sum.dirty += kib() << 10,
            _ if first.ends_with(':') => {}
            _ => {
                let start = first.split('-').next();
                let start = start.and_then(|start| u64::from_str_radix(start, 16).ok());
                counts =
                    start.is_some_and(|start| ranges.iter().any(|range| range.contains(&start)));
            }
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use vm_memory::{Bytes, GuestAddress};

    use super::*;
    use crate::memory::{Layout, map_ram};

    #[test]
    fn a_touched_page_counts_and_a_new_one_does_not() {
        let memory = map_ram(&Layout::new(64, &[], 0).unwrap()).unwrap();
        let usage = Usage::new(File::open("/proc/self/smaps").ok(), &memory);
        assert_eq!(usage.measure(), MemoryUse::default());
        memory.write_obj(1_u8, GuestAddress(5 << 20)).unwrap();
        let before: u8 = memory.read_obj(GuestAddress(9 << 20)).unwrap();
        assert_eq!(before, 0);
        let measured = usage.measure();
        assert_eq!(measured.dirty, 4096);
        // The page that was only read may be the host's page of zeros, which is nobody's.
        assert!((4096..=8192).contains(&measured.touched), "{measured:?}");
    }

    #[test]
    fn only_mappings_of_the_ranges_count() {
        let listing = "1000-3000 rw-p 00000000 00:00 0 \nRss:  8 kB\nAnonymous: 4 kB\n\
                       VmFlags: rd wr\n5000-6000 r--p 00000000 08:01 7 /kernel\nRss: 4 kB\n\
                       9000-a000 rw-p 00000000 00:00 0\nRss: 400 kB\nAnonymous: 400 kB\n";
        let measured = sum(listing.as_bytes(), &[0x1000..0x3000, 0x4000..0x6000]);
        assert_eq!(measured, MemoryUse { touched: 12 << 10, dirty: 4 << 10 });
    }
}
