//! The guest's physical memory: where everything lies, what backs it, and the kernel in it.
//!
//! | module | owns |
//! |---|---|
//! | `layout` | every guest physical address, as a pure function of what the guest has |
//! | `elf` | the kernel's headers, read as a stranger's |
//! | `ram` | the mappings behind guest memory |
//! | `kernel` | the kernel's pages, mapped over them |
//! | `usage` | what of it the host had to provide |

mod elf;
mod kernel;
mod layout;
mod ram;
mod usage;

pub(crate) use elf::KernelImage;
pub(crate) use kernel::{LoadError, load_kernel};
pub(crate) use layout::{
    IDENTITY_MAP, IOAPIC, LOCAL_APIC, LOW_MEMORY_END, Layout, LayoutError, Range, TSS,
    WINDOW_LENGTH,
};
pub(crate) use ram::{ReadOnlyMapping, map_ram};
pub(crate) use usage::Usage;

/// Reads a kernel's headers, for the fuzzer: whatever the bytes, the answer is an image or an error.
#[doc(hidden)]
pub fn fuzz_kernel(bytes: &[u8], memory_end: u64) -> bool {
    elf::parse(&bytes, memory_end).is_ok()
}
