//! What the engine says to a running `husk-vmm`, and what it hears.
//!
//! JSON, one document a line, over the control socket. Whoever connects first hears every past
//! event again, so that a restarted daemon knows where it stands.

use serde::{Deserialize, Serialize};

use crate::Accelerator;

/// What the engine asks of a running VMM.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Ends the microVM at once.
    Stop,
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
    /// The microVM is gone; the last event.
    Stopped {
        /// Why.
        reason: StopReason,
        /// The guest's last console lines, at most 4 KiB.
        console: String,
    },
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
