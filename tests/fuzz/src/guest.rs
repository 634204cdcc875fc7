//! Guest memory, and how a hostile driver points into it.

use std::sync::OnceLock;

use arbitrary::Arbitrary;
use husk_devices::virtio::Memory;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

/// Two regions that touch, so that buffers cross their border, and one behind a hole.
const REGIONS: [(u64, usize); 3] = [(0, 0x1_0000), (0x1_0000, 0x1_0000), (0x4_0000, 0x1_0000)];

/// The guest's memory, the same for every run: mapping it is dearer than most runs.
pub fn memory() -> &'static Memory {
    static MEMORY: OnceLock<Memory> = OnceLock::new();
    MEMORY.get_or_init(|| {
        let ranges = REGIONS.map(|(start, length)| (GuestAddress(start), length));
        Memory::from_ranges(&ranges).expect("the regions do not overlap")
    })
}

/// Makes all of it zeros, so that a run depends on its own bytes only.
pub fn clear() {
    static ZEROS: [u8; 0x1_0000] = [0; 0x1_0000];
    for region in memory().iter() {
        let length = usize::try_from(region.len()).expect("small").min(ZEROS.len());
        memory().write_slice(&ZEROS[..length], region.start_addr()).expect("it is there");
    }
}

/// An address, mostly one that exists.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Place {
    /// In the first region, with the rings.
    Low(u16),
    /// Around the border of the first two regions.
    Border(i8),
    /// Behind the rings, where data belongs.
    Data(u16),
    /// In the region behind the hole.
    High(u16),
    /// Around the end of the address space.
    End(u8),
    /// Anywhere.
    Wild(u64),
}

impl Place {
    /// The guest physical address.
    pub fn address(self) -> u64 {
        match self {
            Self::Low(offset) => offset.into(),
            Self::Border(offset) => 0x1_0000_u64.saturating_add_signed(offset.into()),
            Self::Data(offset) => 0x8000 + u64::from(offset),
            Self::High(offset) => 0x4_0000 + u64::from(offset),
            Self::End(offset) => u64::MAX - u64::from(offset),
            Self::Wild(address) => address,
        }
    }
}

/// A length, mostly a small one.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Length {
    /// Up to 255 bytes.
    Short(u8),
    /// Up to 64 KiB.
    Long(u16),
    /// Whole sectors.
    Sectors(u8),
    /// Up to 4 GiB, which no chain may have.
    Wild(u32),
}

impl Length {
    /// In bytes.
    pub fn bytes(self) -> u32 {
        match self {
            Self::Short(length) => length.into(),
            Self::Long(length) => length.into(),
            Self::Sectors(count) => 512 * u32::from(count),
            Self::Wild(length) => length,
        }
    }
}

/// One descriptor of a chain.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct Part {
    /// Where its buffer lies.
    pub place: Place,
    /// How long it is.
    pub length: Length,
    /// The device may write to it.
    pub writable: bool,
}
