//! The device models behind the MMIO transport, driven by a guest that breaks every rule.
//!
//! Nothing that a driver does may make a device panic, hang, hold memory without bound, write to
//! memory or files that are not its to write, or keep a thread busy. Each test asks that of every
//! device in [`subject::all`].
//!
//! | class of flaw, as others had it | where it is tried |
//! |---|---|
//! | queue registers changed after `DRIVER_OK` | `registers` |
//! | status machine, widths and offsets abused | `registers` |
//! | the guest sizes what the host allocates | `chains`, `growth` |
//! | event loop kept busy for nothing | `storms` |
//! | completion after a reset | `resets` |
//! | read-only not enforced by the VMM | `read_only` |
//! | console and sockets that grow | `growth` |
//! | torn or lying ring indices | `rings`, `chains` |
//! | arithmetic on the guest's numbers | `rings`, `chains`, `requests` |

mod chains;
mod growth;
mod guest;
mod read_only;
mod registers;
mod requests;
mod resets;
mod rings;
mod storms;
mod subject;
