//! What the engine says to a running `husk-vmm`, and what it hears.
//!
//! JSON, one document a line, over the control socket. Whoever connects first hears every past
//! event again, so that a restarted daemon knows where it stands.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Accelerator;

/// What the engine asks of a running VMM.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Ends the microVM at once.
    Stop,
    /// Asks for [`Event::Statistics`], told to the client that asks and to no other.
    Statistics,
}

/// What a VMM tells.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The first event on every connection.
    Hello {
        /// The version of `husk-vmm`.
        version: String,
        /// Its process ID.
        pid: u32,
    },
    /// Guest code runs.
    Started {
        /// On which accelerator.
        accelerator: Accelerator,
    },
    /// What happened so far; not repeated to those who connect later.
    Statistics(Statistics),
    /// The microVM is gone; the last event.
    Stopped {
        /// Why.
        reason: StopReason,
        /// The guest's last console lines, at most 4 KiB.
        console: String,
    },
}

/// What a microVM did so far.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Statistics {
    /// The steps of its start, in the order in which they were reached.
    pub steps: Vec<Step>,
    /// Exits of all vCPUs to user space by reason; empty where the accelerator has none.
    pub exits: BTreeMap<String, u64>,
    /// What became of the guest's memory on the host.
    pub memory: MemoryUse,
}

/// A step of a start.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Step {
    /// What was reached, one of [`step`]'s names.
    pub name: String,
    /// When, in microseconds since the process began.
    pub us: u64,
}

/// The names of the steps.
pub mod step {
    /// Configuration and descriptors are there.
    pub const CONFIGURED: &str = "configured";
    /// The devices are built.
    pub const DEVICES: &str = "devices";
    /// Guest memory is mapped, with the kernel in it, and the accelerator knows it.
    pub const MEMORY: &str = "memory";
    /// Interrupt controller and vCPUs exist.
    pub const VCPUS: &str = "vcpus";
    /// The process is in its jail.
    pub const JAILED: &str = "jailed";
    /// Guest code runs.
    pub const ENTERED: &str = "entered";
    /// A driver of the guest drives the first device.
    pub const DRIVER: &str = "driver";
    /// A program of the guest has called the host.
    pub const CALLED: &str = "called";
}

/// Bytes of guest memory that the host had to provide; multiples of the host's page size.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct MemoryUse {
    /// Read or written by the guest or a device.
    pub touched: u64,
    /// Of these the ones that no other process can share: written.
    pub dirty: u64,
}

/// Why a microVM ended.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum StopReason {
    /// The guest shut itself down or rebooted.
    Guest,
    /// [`Command::Stop`] or a termination signal.
    Requested,
    /// It could not be set up.
    Setup {
        /// The error chain, one line.
        error: String,
    },
    /// The guest's kernel panicked.
    Panic,
    /// What ran it failed.
    Accelerator {
        /// What happened, one line.
        error: String,
    },
}

/// What `husk-vmm probe` prints about this host.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Probe {
    /// The state of `/dev/kvm`.
    pub kvm: KvmStatus,
    /// The emulator found on the search path, if any.
    pub emulator: Option<std::path::PathBuf>,
    /// Its version line.
    pub emulator_version: Option<String>,
}

/// What `/dev/kvm` turned out to be.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum KvmStatus {
    /// There is no such device.
    Absent,
    /// It may not be opened, or answered wrongly.
    Unavailable {
        /// The error, one line.
        error: String,
    },
    /// Kernel-mode guest code is interpreted: thousands of times too slow, and incomplete.
    Interpreting {
        /// Time of the probe's loop in microseconds.
        loop_us: u64,
    },
    /// It runs guest code as hardware does.
    Sound {
        /// Time of the probe's loop in microseconds.
        loop_us: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_on_the_wire_are_these() {
        let stop = serde_json::to_string(&Command::Stop).unwrap();
        assert_eq!(stop, r#"{"command":"stop"}"#);
        let event = Event::Stopped {
            reason: StopReason::Accelerator { error: "it died".into() },
            console: "last words".into(),
        };
        let json = serde_json::to_string(&event).unwrap();
        assert_eq!(
            json,
            r#"{"event":"stopped","reason":{"kind":"accelerator","error":"it died"},"console":"last words"}"#
        );
        assert_eq!(serde_json::from_str::<Event>(&json).unwrap(), event);
        let started = Event::Started { accelerator: Accelerator::Software };
        let json = serde_json::to_string(&started).unwrap();
        assert_eq!(json, r#"{"event":"started","accelerator":"software"}"#);
    }

    #[test]
    fn statistics_are_flat_in_their_event() {
        let statistics = Statistics {
            steps: vec![Step { name: step::ENTERED.into(), us: 1200 }],
            exits: BTreeMap::from([("mmio_write".into(), 3)]),
            memory: MemoryUse { touched: 8192, dirty: 4096 },
        };
        let event = Event::Statistics(statistics);
        let json = serde_json::to_string(&event).unwrap();
        assert_eq!(
            json,
            r#"{"event":"statistics","steps":[{"name":"entered","us":1200}],"exits":{"mmio_write":3},"memory":{"touched":8192,"dirty":4096}}"#
        );
        assert_eq!(serde_json::from_str::<Event>(&json).unwrap(), event);
    }

    #[test]
    fn an_unknown_command_is_refused() {
        assert!(serde_json::from_str::<Command>(r#"{"command":"reboot"}"#).is_err());
    }

    #[test]
    fn a_probe_survives_json() {
        let probe = Probe {
            kvm: KvmStatus::Interpreting { loop_us: 50_000 },
            emulator: Some("/usr/bin/qemu-system-x86_64".into()),
            emulator_version: None,
        };
        let json = serde_json::to_string(&probe).unwrap();
        assert!(json.starts_with(r#"{"kvm":{"kind":"interpreting","loop_us":50000}"#));
        assert_eq!(serde_json::from_str::<Probe>(&json).unwrap(), probe);
    }
}
