//! The kernel's parameters that belong to this machine.

use crate::memory::{Layout, WINDOW_LENGTH};

/// What a kernel needs to know of it, with the reason.
const MACHINE: [&str; 2] = [
    // Taking the lock prefixes out for one CPU would write to almost every page of the kernel.
    "noreplace-smp",
    // The counter is the host's, as good as the host's: watching it wakes an idle guest up.
    "tsc=reliable",
];

/// The machine's parameters, those given, and where the devices are.
///
/// The devices come last and in their order, which is the order in which the guest finds them.
/// Each has a line of the I/O APIC, from 1 on.
pub(super) fn parameters(given: &str, layout: &Layout) -> String {
    let mut words: Vec<String> = MACHINE.map(str::to_owned).into();
    words.push(given.to_owned());
    words.extend((1..).zip(layout.windows()).map(|(line, window)| {
        format!("virtio_mmio.device={}K@{:#x}:{line}", WINDOW_LENGTH >> 10, window.start)
    }));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_device_has_its_window_and_line() {
        let layout = Layout::new(128, &[], 2).unwrap();
        assert_eq!(
            parameters("quiet init=/x", &layout),
            "noreplace-smp tsc=reliable quiet init=/x virtio_mmio.device=4K@0xd0000000:1 \
             virtio_mmio.device=4K@0xd0001000:2"
        );
    }
}
