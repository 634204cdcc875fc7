//! The device status field (section 2.1) as a pure function.

use virtio_bindings::virtio_config::{
    VIRTIO_CONFIG_S_ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER, VIRTIO_CONFIG_S_DRIVER_OK,
    VIRTIO_CONFIG_S_FAILED, VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_NEEDS_RESET,
};

/// The driver has found the device.
const FOUND: u32 = VIRTIO_CONFIG_S_ACKNOWLEDGE;
/// It knows how to drive it, and may choose features.
const CHOOSING: u32 = FOUND | VIRTIO_CONFIG_S_DRIVER;
/// The features are fixed, and the queues may be set up.
const SETTING_UP: u32 = CHOOSING | VIRTIO_CONFIG_S_FEATURES_OK;
/// The device is live.
const LIVE: u32 = SETTING_UP | VIRTIO_CONFIG_S_DRIVER_OK;

const NEEDS_RESET: u32 = VIRTIO_CONFIG_S_NEEDS_RESET;
const FAILED: u32 = VIRTIO_CONFIG_S_FAILED;

/// How far the driver has come with the device.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Status(u32);

/// What a write to the status register amounts to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// Everything starts over.
    Reset,
    /// The same again.
    Nothing,
    /// The next stage of the initialisation (section 3.1.1).
    Advance(Status),
    /// The next stage, if the chosen features are acceptable.
    FixFeatures(Status),
    /// The driver is ready.
    Activate(Status),
    /// The driver gives up until a reset.
    Fail(Status),
    /// No driver may write this now.
    Refuse,
}

impl Status {
    /// What reads from the register.
    pub(super) fn bits(self) -> u32 {
        self.0
    }

    /// What the driver's write of `written` means.
    pub(super) fn step(self, written: u32) -> Step {
        if written == 0 {
            return Step::Reset;
        }
        // The driver reads, adds a bit and writes: the device's own bit comes back with it.
        let theirs = written & !(self.0 & NEEDS_RESET);
        let stage = self.0 & !NEEDS_RESET;
        if theirs == stage {
            return Step::Nothing;
        }
        if theirs == stage | FAILED {
            return Step::Fail(Self(self.0 | FAILED));
        }
        match (self.0, theirs) {
            (0, FOUND) | (FOUND, CHOOSING) => Step::Advance(Self(theirs)),
            (CHOOSING, SETTING_UP) => Step::FixFeatures(Self(theirs)),
            (SETTING_UP, LIVE) => Step::Activate(Self(theirs)),
            _ => Step::Refuse,
        }
    }

    /// The device cannot go on without a reset.
    pub(super) fn broken(self) -> Self {
        Self(self.0 | NEEDS_RESET)
    }

    /// Whether the driver may choose features.
    pub(super) fn is_choosing(self) -> bool {
        self.0 == CHOOSING
    }

    /// Whether the driver may set queues up.
    pub(super) fn is_setting_up(self) -> bool {
        self.0 == SETTING_UP
    }

    /// Whether the device is live.
    pub(super) fn is_live(self) -> bool {
        self.0 == LIVE
    }

    /// Whether the driver may write to the configuration space: it drives the device, and neither
    /// has given up.
    pub(super) fn is_driven(self) -> bool {
        matches!(self.0, CHOOSING | SETTING_UP | LIVE)
    }

    /// Whether the driver listens to interrupts: it was ready once.
    pub(super) fn was_live(self) -> bool {
        self.0 & VIRTIO_CONFIG_S_DRIVER_OK != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every status that can be reached.
    const REACHABLE: [u32; 5] = [0, FOUND, CHOOSING, SETTING_UP, LIVE];

    /// All 256 values, and some beyond the eight bits.
    fn writes() -> impl Iterator<Item = u32> {
        (0..=0xff).chain([0x100, 0x10f, 0x8000_0000, u32::MAX])
    }

    #[test]
    fn a_healthy_device_takes_the_one_next_step_and_no_other() {
        for (place, &now) in REACHABLE.iter().enumerate() {
            let next = REACHABLE.get(place + 1).copied();
            for written in writes() {
                let step = Status(now).step(written);
                let expected = match written {
                    0 => Step::Reset,
                    _ if written == now => Step::Nothing,
                    _ if written == now | FAILED => Step::Fail(Status(now | FAILED)),
                    _ if Some(written) == next => match written {
                        SETTING_UP => Step::FixFeatures(Status(SETTING_UP)),
                        LIVE => Step::Activate(Status(LIVE)),
                        _ => Step::Advance(Status(written)),
                    },
                    _ => Step::Refuse,
                };
                assert_eq!(step, expected, "{now:#x} -> {written:#x}");
            }
        }
    }

    #[test]
    fn a_failed_or_broken_device_waits_for_its_reset() {
        for stage in REACHABLE {
            for trouble in [FAILED, NEEDS_RESET, FAILED | NEEDS_RESET] {
                let now = Status(stage | trouble);
                for written in writes() {
                    let theirs = written & !(now.0 & NEEDS_RESET);
                    let step = now.step(written);
                    let expected = match theirs {
                        _ if written == 0 => Step::Reset,
                        _ if theirs == now.0 & !NEEDS_RESET => Step::Nothing,
                        _ if theirs == stage | FAILED => Step::Fail(Status(now.0 | FAILED)),
                        _ => Step::Refuse,
                    };
                    assert_eq!(step, expected, "{:#x} -> {written:#x}", now.0);
                }
                assert!(!now.is_live() && !now.is_setting_up() && !now.is_choosing());
            }
        }
    }
}
