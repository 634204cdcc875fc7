//! Which device answers at an address.

use std::sync::Arc;

/// What lies on a bus, shared by all vCPU threads.
pub trait BusDevice: Send + Sync {
    /// Fills `data` from `offset` within the device's range; all of it lies inside.
    fn read(&self, offset: u64, data: &mut [u8]);

    /// Takes a write at `offset` within the device's range; all of it lies inside.
    fn write(&self, offset: u64, data: &[u8]);
}

/// A device and its addresses.
struct Entry {
    start: u64,
    /// The last address, so that a range may end at the top of the address space.
    last: u64,
    device: Arc<dyn BusDevice>,
}

/// An address space: what is on it was decided when it was made, so that looking up takes no lock.
#[derive(Default)]
pub struct Bus {
    /// In ascending order, disjoint.
    entries: Vec<Entry>,
}

/// Why a device cannot be put on a bus.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BusError {
    /// Its range is empty, or goes beyond the last address.
    #[error("{length:#x} bytes at {start:#x} are no range of addresses")]
    Range {
        /// The first address.
        start: u64,
        /// Bytes.
        length: u64,
    },
    /// Another device is there.
    #[error("{length:#x} bytes at {start:#x} overlap the device at {other:#x}")]
    Overlap {
        /// The first address.
        start: u64,
        /// Bytes.
        length: u64,
        /// Where the other device begins.
        other: u64,
    },
}

impl Bus {
    /// An empty bus.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a device on `length` addresses from `start`.
    pub fn insert(
        &mut self,
        start: u64,
        length: u64,
        device: Arc<dyn BusDevice>,
    ) -> Result<(), BusError> {
        let last = length.checked_sub(1).and_then(|rest| start.checked_add(rest));
        let last = last.ok_or(BusError::Range { start, length })?;
        let place = self.entries.partition_point(|entry| entry.last < start);
        match self.entries.get(place) {
            Some(next) if next.start <= last => {
                Err(BusError::Overlap { start, length, other: next.start })
            }
            _ => {
                self.entries.insert(place, Entry { start, last, device });
                Ok(())
            }
        }
    }

    /// Reads from the device there; false where none is, or where the access leaves its range:
    /// then `data` is all ones, as on a bus that nobody drives.
    pub fn read(&self, address: u64, data: &mut [u8]) -> bool {
        let Some((device, offset)) = self.find(address, data.len()) else {
            data.fill(0xff);
            return false;
        };
        device.read(offset, data);
        true
    }

    /// Writes to the device there; false where none is, or where the access leaves its range:
    /// then nothing happens.
    pub fn write(&self, address: u64, data: &[u8]) -> bool {
        let Some((device, offset)) = self.find(address, data.len()) else { return false };
        device.write(offset, data);
        true
    }

    fn find(&self, address: u64, length: usize) -> Option<(&dyn BusDevice, u64)> {
        let rest = u64::try_from(length).ok()?.checked_sub(1)?;
        let last = address.checked_add(rest)?;
        let place = self.entries.partition_point(|entry| entry.last < address);
        let entry = self.entries.get(place)?;
        (entry.start <= address && last <= entry.last)
            .then(|| (&*entry.device, address - entry.start))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Answers with its name, and remembers what was written.
    struct Echo(u8, Mutex<Vec<(u64, Vec<u8>)>>);

    impl BusDevice for Echo {
        fn read(&self, offset: u64, data: &mut [u8]) {
            data.fill(self.0 + u8::try_from(offset).unwrap());
        }

        fn write(&self, offset: u64, data: &[u8]) {
            self.1.lock().unwrap().push((offset, data.to_vec()));
        }
    }

    fn echo(name: u8) -> Arc<Echo> {
        Arc::new(Echo(name, Mutex::default()))
    }

    #[test]
    fn each_access_reaches_the_device_of_its_address() {
        let mut bus = Bus::new();
        let (low, high) = (echo(0x10), echo(0x80));
        bus.insert(0x2000, 0x1000, high.clone()).unwrap();
        bus.insert(0x1000, 0x10, low.clone()).unwrap();
        let mut data = [0; 4];
        assert!(bus.read(0x1004, &mut data) && data == [0x14; 4]);
        assert!(bus.read(0x2000, &mut data) && data == [0x80; 4]);
        assert!(bus.write(0x2ffe, &[1, 2]));
        assert_eq!(*high.1.lock().unwrap(), [(0xffe, vec![1, 2])]);
        assert!(low.1.lock().unwrap().is_empty());
    }

    #[test]
    fn what_hits_nothing_or_straddles_is_refused() {
        let mut bus = Bus::new();
        let device = echo(0);
        bus.insert(0x1000, 0x10, device.clone()).unwrap();
        bus.insert(0x1010, 0x10, device.clone()).unwrap();
        for (address, length) in [
            (0xfff, 1),
            (0xffe, 4),
            (0x100e, 4),
            (0x101e, 4),
            (0x1020, 1),
            (u64::MAX, 2),
            (0x1000, 0),
        ] {
            let mut data = vec![0; length];
            assert!(!bus.read(address, &mut data), "{address:#x} {length}");
            assert!(data.iter().all(|&byte| byte == 0xff));
            assert!(!bus.write(address, &data), "{address:#x} {length}");
        }
        assert!(device.1.lock().unwrap().is_empty());
    }

    #[test]
    fn overlapping_and_impossible_ranges_are_refused() {
        let mut bus = Bus::new();
        bus.insert(0x1000, 0x1000, echo(0)).unwrap();
        for (start, length) in [(0x1000, 1), (0xfff, 2), (0x1fff, 9), (0, 0x10_0000), (0x1800, 1)] {
            let overlap = BusError::Overlap { start, length, other: 0x1000 };
            assert_eq!(bus.insert(start, length, echo(0)), Err(overlap));
        }
        for (start, length) in [(0, 0), (u64::MAX, 2), (2, u64::MAX)] {
            assert_eq!(bus.insert(start, length, echo(0)), Err(BusError::Range { start, length }));
        }
        bus.insert(0x2000, 1, echo(0)).unwrap();
        bus.insert(u64::MAX, 1, echo(7)).unwrap();
        let mut data = [0];
        assert!(bus.read(u64::MAX, &mut data) && data == [7], "the last address is one");
    }
}
