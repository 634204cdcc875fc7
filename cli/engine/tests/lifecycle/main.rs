//! Lives of containers, from create to remove, over a `husk-vmm` without a VM: all of the engine's
//! logic, and no guest. Stories with a real guest are in the workspace's `tests/`.

#![allow(clippy::unwrap_used, reason = "what fails here fails a test")]
#![allow(clippy::exit, reason = "the fake husk-vmm ends as a process does")]

mod fake_vmm;
mod recovery;
mod stories;
mod world;

/// Not a test of its own: the process that the engine starts as `husk-vmm`.
#[test]
fn fake_vmm_process() {
    if std::env::var_os("HUSK_FAKE_VMM").is_some() {
        fake_vmm::run();
    }
}
