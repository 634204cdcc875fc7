//! Descriptor chains as two runs of guest memory, checked before anything is done.
//!
//! Drivers may split a request over descriptors as they like (section 2.7.4 of virtio 1.2), so a
//! device sees only bytes: those it reads, then those it writes.

use virtio_queue::DescriptorChain;
use vm_memory::{GuestMemory, Permissions, VolatileSlice};

use super::Memory;

/// Descriptors of one chain that are looked at: an indirect table may name 65,535.
const DESCRIPTORS_MAX: usize = 1024;

/// Bytes of one chain in one direction: far above what drivers send, far below what would keep
/// the device's thread from everything else.
const LENGTH_MAX: usize = 64 << 20;

/// Why a chain was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ChainError {
    /// A descriptor points outside guest memory.
    #[error("a descriptor points outside guest memory")]
    OutsideMemory,
    /// A readable descriptor follows a writable one (section 2.7.4.2).
    #[error("a readable descriptor follows a writable one")]
    Order,
    /// More descriptors than any request needs, or a loop of them.
    #[error("the chain has more than {DESCRIPTORS_MAX} descriptors")]
    TooManyDescriptors,
    /// More bytes than any request needs.
    #[error("the chain is longer than {LENGTH_MAX} bytes")]
    TooLong,
    /// Fewer bytes than were asked for.
    #[error("the chain is shorter than its request")]
    TooShort,
}

/// A chain, in both of its directions.
#[derive(Debug)]
pub struct Chain<'m> {
    /// What the driver wrote for the device.
    pub readable: Buffers<'m>,
    /// Where the device may answer.
    pub writable: Buffers<'m>,
}

impl<'m> Chain<'m> {
    /// Walks the chain once.
    pub fn collect(
        chain: DescriptorChain<&'m Memory>,
        memory: &'m Memory,
    ) -> Result<Self, ChainError> {
        let mut readable = Buffers::default();
        let mut writable = Buffers::default();
        for (count, descriptor) in chain.enumerate() {
            if count == DESCRIPTORS_MAX {
                return Err(ChainError::TooManyDescriptors);
            }
            let (run, access) = if descriptor.is_write_only() {
                (&mut writable, Permissions::Write)
            } else if writable.slices.is_empty() {
                (&mut readable, Permissions::Read)
            } else {
                return Err(ChainError::Order);
            };
            let length = descriptor.len() as usize;
            if length > LENGTH_MAX - run.length {
                return Err(ChainError::TooLong);
            }
            let slices = memory
                .get_slices(descriptor.addr(), length, access)
                .map_err(|_| ChainError::OutsideMemory)?;
            for slice in slices {
                run.push(slice.map_err(|_| ChainError::OutsideMemory)?);
            }
        }
        Ok(Self { readable, writable })
    }
}

/// A run of guest memory, scattered.
#[derive(Clone, Debug, Default)]
pub struct Buffers<'m> {
    slices: Vec<VolatileSlice<'m>>,
    length: usize,
}

impl<'m> Buffers<'m> {
    /// Its pieces in order, none of them empty.
    pub fn slices(&self) -> &[VolatileSlice<'m>] {
        &self.slices
    }

    /// Its bytes.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Cuts the first `count` bytes off and returns them.
    pub fn take(&mut self, count: usize) -> Result<Self, ChainError> {
        if count > self.length {
            return Err(ChainError::TooShort);
        }
        let mut front = Self::default();
        let mut whole = 0;
        for slice in &mut self.slices {
            let missing = count - front.length;
            if missing == 0 {
                break;
            }
            if slice.len() <= missing {
                front.push(*slice);
                whole += 1;
            } else {
                let (head, tail) = slice.split_at(missing).map_err(|_| ChainError::TooShort)?;
                front.push(head);
                *slice = tail;
            }
        }
        self.slices.drain(..whole);
        self.length -= count;
        Ok(front)
    }

    /// Keeps the first `count` bytes only.
    pub fn truncate(&mut self, count: usize) {
        if let Ok(front) = self.take(count) {
            *self = front;
        }
    }

    /// Cuts `N` bytes off the front and copies them, so that the driver can change them no more.
    pub fn read<const N: usize>(&mut self) -> Result<[u8; N], ChainError> {
        let front = self.take(N)?;
        let mut bytes = [0; N];
        front.copy_to(&mut bytes);
        Ok(bytes)
    }

    /// Cuts as many bytes off the front as `bytes` holds and writes those there.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ChainError> {
        let front = self.take(bytes.len())?;
        front.copy_from(bytes);
        Ok(())
    }

    /// Copies from its front as much as both hold; returns the bytes copied.
    pub fn copy_to(&self, mut bytes: &mut [u8]) -> usize {
        let mut total = 0;
        for slice in &self.slices {
            if bytes.is_empty() {
                break;
            }
            let copied = slice.copy_to(bytes);
            bytes = &mut bytes[copied..];
            total += copied;
        }
        total
    }

    /// Overwrites its front with as much as both hold; returns the bytes copied.
    pub fn copy_from(&self, mut bytes: &[u8]) -> usize {
        let mut total = 0;
        for slice in &self.slices {
            if bytes.is_empty() {
                break;
            }
            let count = slice.len().min(bytes.len());
            slice.copy_from(&bytes[..count]);
            bytes = &bytes[count..];
            total += count;
        }
        total
    }

    /// Overwrites all of it with zeros.
    pub fn zero(&self) {
        const ZEROS: [u8; 4096] = [0; 4096];
        for slice in &self.slices {
            let mut rest = *slice;
            while !rest.is_empty() {
                let count = rest.len().min(ZEROS.len());
                rest.copy_from(&ZEROS[..count]);
                let Ok(next) = rest.offset(count) else { break };
                rest = next;
            }
        }
    }

    fn push(&mut self, slice: VolatileSlice<'m>) {
        if !slice.is_empty() {
            self.length += slice.len();
            self.slices.push(slice);
        }
    }
}

impl<'m> From<Vec<VolatileSlice<'m>>> for Buffers<'m> {
    fn from(slices: Vec<VolatileSlice<'m>>) -> Self {
        let mut run = Self::default();
        slices.into_iter().for_each(|slice| run.push(slice));
        run
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtio::driver::Driver;

    fn collect(parts: &[(u64, u32, bool)]) -> Result<(usize, usize), ChainError> {
        let memory = Driver::memory();
        let mut driver = Driver::new(&memory);
        driver.offer(parts);
        let chain = driver.pop();
        Chain::collect(chain, &memory).map(|chain| (chain.readable.len(), chain.writable.len()))
    }

    #[test]
    fn lengths_add_up_in_both_directions() {
        let parts = [(0x1000, 16, false), (0x3000, 5, false), (0x5000, 7, true)];
        assert_eq!(collect(&parts), Ok((21, 7)));
        assert_eq!(collect(&[(0x1000, 0, false)]), Ok((0, 0)));
    }

    #[test]
    fn chains_outside_memory_or_out_of_order_are_refused() {
        assert_eq!(collect(&[(1 << 40, 16, false)]), Err(ChainError::OutsideMemory));
        assert_eq!(collect(&[(u64::MAX - 4, 16, true)]), Err(ChainError::OutsideMemory));
        assert_eq!(collect(&[(0x1000, 1, true), (0x1000, 1, false)]), Err(ChainError::Order));
        assert_eq!(collect(&[(0x1000, u32::MAX, true)]), Err(ChainError::TooLong));
    }

    #[test]
    fn a_loop_of_descriptors_ends() {
        let memory = Driver::memory();
        let mut driver = Driver::new(&memory);
        driver.offer_loop(0x1000, 16);
        let chain = driver.pop();
        let length = Chain::collect(chain, &memory).unwrap().readable.len();
        assert_eq!(length, 16 * usize::from(Driver::SIZE));
    }

    #[test]
    fn an_indirect_table_of_thousands_is_refused() {
        let memory = Driver::memory();
        let mut driver = Driver::new(&memory);
        driver.offer_indirect_loop(0x2000, 2000);
        let chain = driver.pop();
        assert_eq!(Chain::collect(chain, &memory).unwrap_err(), ChainError::TooManyDescriptors);
    }

    #[test]
    fn taking_splits_across_pieces() {
        let mut first = [1, 2, 3];
        let mut second = [4, 5, 6, 7];
        let slices =
            vec![VolatileSlice::from(&mut first[..]), VolatileSlice::from(&mut second[..])];
        let mut run = Buffers::from(slices);
        assert_eq!(run.read::<4>().unwrap(), [1, 2, 3, 4]);
        assert_eq!(run.len(), 3);
        run.write(&[8]).unwrap();
        assert_eq!(run.read::<3>(), Err(ChainError::TooShort));
        run.truncate(1);
        run.zero();
        assert_eq!(run.len(), 1);
        assert_eq!(second, [4, 8, 0, 7]);
    }
}
