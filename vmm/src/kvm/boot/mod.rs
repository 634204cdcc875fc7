//! What the guest finds when it starts: its parameters, the MP table, and the first vCPU's
//! registers.
//!
//! Two protocols. PVH (Xen's `docs/misc/pvh.pandoc`) is taken wherever the kernel has its note, as
//! ours does: registers and one small structure, with nothing for us to know about the kernel's
//! inside; what it costs is some fifty instructions of 32-bit code. The kernel's own 64-bit
//! protocol (`Documentation/arch/x86/boot.rst`) starts those that have none: it wants page tables,
//! a descriptor table and the kernel's own structure, which grows with every version.
//!
//! ```text
//! 0x0500  descriptor table        64-bit only
//! 0x6000  start information       PVH only; the memory map behind it
//! 0x7000  zero page               64-bit only
//! 0x9000  page tables             64-bit only
//! 0x20000 the kernel's parameters
//! 0x9fc00 MP table
//! ```

mod linux64;
mod mptable;
mod pvh;
mod registers;

use husk_devices::virtio::Memory;
use vm_memory::{Bytes, GuestAddress};

use super::error::KvmError;
use crate::memory::{KernelImage, Layout};

pub(crate) use registers::BootInfo;

/// Where the kernel's parameters are.
const COMMAND_LINE: u64 = 0x2_0000;
/// Bytes that Linux takes on x86 (`COMMAND_LINE_SIZE`), with the zero at the end.
const COMMAND_LINE_MAX: usize = 2048;

/// Writes what a kernel needs into memory, and tells how to enter it.
///
/// `lines` are the interrupt lines of the I/O APIC.
pub(crate) fn prepare(
    memory: &Memory,
    layout: &Layout,
    image: &KernelImage,
    cmdline: &str,
    (vcpus, lines): (u8, u8),
) -> Result<BootInfo, KvmError> {
    if cmdline.len() >= COMMAND_LINE_MAX {
        return Err(KvmError::CommandLine { length: cmdline.len(), most: COMMAND_LINE_MAX - 1 });
    }
    let mut line = cmdline.as_bytes().to_vec();
    line.push(0);
    write(memory, &line, COMMAND_LINE, "kernel's parameters")?;
    write(memory, &mptable::table(vcpus, lines), mptable::ADDRESS, "MP table")?;
    match image.pvh_entry {
        Some(entry) => {
            pvh::write_start_info(memory, layout)?;
            Ok(BootInfo::Pvh { entry })
        }
        None => {
            linux64::write_structures(memory, layout)?;
            Ok(BootInfo::Linux64 { entry: image.entry })
        }
    }
}

fn write(memory: &Memory, bytes: &[u8], at: u64, what: &'static str) -> Result<(), KvmError> {
    memory.write_slice(bytes, GuestAddress(at)).map_err(|_| KvmError::Boot { what })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::map_ram;

    fn image(pvh_entry: Option<u32>) -> KernelImage {
        KernelImage { segments: Vec::new(), entry: 0x100_0100, pvh_entry }
    }

    #[test]
    fn pvh_is_taken_where_the_kernel_has_it() {
        let layout = Layout::new(64, &[], 0).unwrap();
        let memory = map_ram(&layout).unwrap();
        let start = |image| prepare(&memory, &layout, &image, "quiet", (1, 1)).unwrap();
        assert_eq!(start(image(Some(0x100_0000))), BootInfo::Pvh { entry: 0x100_0000 });
        assert_eq!(start(image(None)), BootInfo::Linux64 { entry: 0x100_0100 });
        let mut line = [1; 6];
        memory.read_slice(&mut line, GuestAddress(COMMAND_LINE)).unwrap();
        assert_eq!(&line, b"quiet\0");
    }

    #[test]
    fn parameters_that_linux_would_cut_are_refused() {
        let layout = Layout::new(64, &[], 0).unwrap();
        let memory = map_ram(&layout).unwrap();
        let start = |line: &str| prepare(&memory, &layout, &image(None), line, (1, 1));
        start(&"x".repeat(2047)).unwrap();
        let error = start(&"x".repeat(2048)).unwrap_err().to_string();
        assert_eq!(error, "the kernel's parameters are 2048 bytes, more than its 2047");
    }
}
