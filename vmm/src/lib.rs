//! `husk-vmm`: the process that runs one microVM.
//!
//! It receives a [`VmConfig`](husk_vmm_config::VmConfig) with every descriptor that the microVM
//! needs, builds the devices, hands them to an accelerator, and tells on its control socket what
//! happens until the guest is gone. It opens no image, sets up no network and knows nothing of
//! containers.
//!
//! | module | owns |
//! |---|---|
//! | `run` | the life of the process, from handover to exit status |
//! | `handover`, `control` | what comes from the engine and goes to it |
//! | `machine`, `cmdline` | `VmConfig` and descriptors → devices and kernel parameters |
//! | `accelerator` | what runs the guest's instructions |
//! | `device_thread` | the threads that serve device models, whatever their transport |
//! | `vhost_user`, `backend` | the transport of the software accelerator; the devices' host side |
//! | `supervisor`, `console` | waiting for the end, and saying why it came |
//! | `timeline` | when each step of the start was reached |
//! | `probe` | what this host can do |
//! | `kvm`, `memory` | microVMs on `/dev/kvm`, and the guest's memory with the kernel in it |
//! | `jail`, `seccomp` | what is left to the process once a guest runs |
//! | `panic` | an error of our own is the end, at once |
//! | `sys` | system calls without a safe wrapper |

mod accelerator;
mod backend;
mod cmdline;
mod console;
mod control;
mod device_thread;
mod handover;
mod jail;
#[expect(unsafe_code, reason = "guest memory is given to KVM, and vCPUs share pages with it")]
mod kvm;
mod machine;
#[expect(unsafe_code, reason = "guest memory and the kernel in it are mapped")]
mod memory;
mod panic;
mod poll;
mod probe;
mod run;
mod seccomp;
mod supervisor;
#[expect(unsafe_code, reason = "system calls that no safe wrapper covers")]
mod sys;
mod timeline;
mod vhost_user;

#[doc(hidden)]
pub use memory::fuzz_kernel;
pub use panic::abort_on_panic;
pub use probe::probe;
pub use run::{RunError, run};
