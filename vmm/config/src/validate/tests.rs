//! Each limit, from both of its sides.

use super::*;
use crate::{Segment, Vsock};

/// Four descriptors for the VM itself, then one for each disk.
fn sound() -> VmConfig {
    VmConfig {
        id: "sandbox-1".into(),
        accelerator: Accelerator::Software,
        vcpus: 2,
        memory_mib: 256,
        kernel: FdIndex(0),
        cmdline: vec!["quiet".into(), "husk.run=a,b".into()],
        disks: vec![
            disk("system", &[(4, 4096), (5, 512)], true),
            disk("data", &[(6, 8192)], false),
        ],
        vsock: Vsock { guest_cid: 3, listener: FdIndex(1), directory: "/run/husk/x".into() },
        control: FdIndex(2),
        report: FdIndex(3),
        emulator: Some("/usr/bin/qemu-system-x86_64".into()),
    }
}

fn disk(serial: &str, segments: &[(u32, u64)], read_only: bool) -> Disk {
    let segments =
        segments.iter().map(|&(fd, length)| Segment { fd: FdIndex(fd), length }).collect();
    Disk { serial: serial.into(), segments, read_only }
}

fn refused(change: impl FnOnce(&mut VmConfig)) -> ConfigError {
    let mut config = sound();
    change(&mut config);
    config.validate(7).expect_err("the change makes it wrong")
}

fn disk_refused(disk: Disk) -> &'static str {
    match refused(|config| config.disks = vec![disk]) {
        ConfigError::Disk { reason, .. } => reason,
        other => panic!("not a disk error: {other}"),
    }
}

#[test]
fn a_sound_configuration_passes_and_survives_json() {
    let config = sound();
    assert_eq!(config.validate(7), Ok(()));
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<VmConfig>(&json).unwrap(), config);
}

#[test]
fn unknown_fields_are_refused() {
    let mut json = serde_json::to_value(sound()).unwrap();
    json["surprise"] = true.into();
    assert!(serde_json::from_value::<VmConfig>(json).is_err());
}

#[test]
fn numbers_outside_their_range_name_field_and_range() {
    let error = refused(|config| config.vcpus = 0);
    assert_eq!(error.to_string(), "vcpus is 0, outside 1 to 32");
    refused(|config| config.vcpus = 33);
    refused(|config| config.memory_mib = 4);
    refused(|config| config.memory_mib = u32::MAX);
    refused(|config| config.vsock.guest_cid = 2);
    refused(|config| config.vsock.guest_cid = u32::MAX);
}

#[test]
fn every_descriptor_must_have_come_along() {
    assert!(matches!(sound().validate(6), Err(ConfigError::NoSuchFd { index: 6, count: 6, .. })));
    refused(|config| config.kernel = FdIndex(7));
    refused(|config| config.control = FdIndex(u32::MAX));
    refused(|config| config.report = FdIndex(7));
    refused(|config| config.vsock.listener = FdIndex(7));
}

#[test]
fn one_descriptor_has_one_purpose_but_segments_read_may_share() {
    assert!(matches!(
        refused(|config| config.report = config.control),
        ConfigError::SharedFd { index: 2, .. }
    ));
    refused(|config| config.disks[1].segments[0].fd = FdIndex(4));
    refused(|config| config.disks[0].segments[0].fd = FdIndex(3));
    let mut config = sound();
    config.disks[0].segments[1].fd = FdIndex(4);
    assert_eq!(config.validate(7), Ok(()));
}

#[test]
fn a_writable_disk_shared_with_a_reader_is_refused_in_either_order() {
    for swapped in [false, true] {
        let mut config = sound();
        config.disks[1].segments[0].fd = config.disks[0].segments[0].fd;
        if swapped {
            config.disks.swap(0, 1);
        }
        assert!(matches!(config.validate(7), Err(ConfigError::SharedFd { index: 4, .. })));
    }
}

#[test]
fn disks_are_well_formed() {
    assert!(disk_refused(disk("", &[(4, 512)], true)).contains("1 to 20"));
    assert!(disk_refused(disk(&"x".repeat(21), &[(4, 512)], true)).contains("1 to 20"));
    assert!(disk_refused(disk("a b", &[(4, 512)], true)).contains("blanks"));
    assert!(disk_refused(disk("é", &[(4, 512)], true)).contains("non-ASCII"));
    assert!(disk_refused(disk("d", &[], true)).contains("no segment"));
    assert!(disk_refused(disk("d", &[(4, 513)], true)).contains("512"));
    assert!(disk_refused(disk("d", &[(4, 0)], true)).contains("512"));
    assert!(disk_refused(disk("d", &[(4, 512), (5, 512)], false)).contains("more than one"));
    let huge = 1 << 62;
    assert!(disk_refused(disk("d", &[(4, huge), (5, huge)], true)).contains("longer"));
    let huge = u64::MAX - 511;
    assert!(disk_refused(disk("d", &[(4, huge), (5, huge)], true)).contains("longer"));
}

#[test]
fn serials_are_unique_and_disks_and_segments_counted() {
    refused(|config| config.disks[1].serial = "system".into());
    refused(|config| {
        config.disks = (0..9).map(|i| disk(&format!("d{i}"), &[(4, 512)], true)).collect();
    });
    refused(|config| {
        config.disks[0].segments = vec![Segment { fd: FdIndex(4), length: 512 }; 1100];
    });
    let mut config = sound();
    config.disks[0].segments = vec![Segment { fd: FdIndex(4), length: 512 }; 1099];
    assert_eq!(config.validate(7), Ok(()));
}

#[test]
fn kernel_parameters_arrive_as_they_are() {
    for parameter in ["", "a b", "a\nb", "a\0b", "\"", "é", "--"] {
        let error = refused(|config| config.cmdline = vec![parameter.into()]);
        assert!(matches!(error, ConfigError::Cmdline { .. }), "{parameter:?}");
    }
    refused(|config| config.cmdline = vec!["x".repeat(CMDLINE_LENGTH_MAX + 1)]);
    refused(|config| config.cmdline = vec!["x".repeat(CMDLINE_LENGTH_MAX / 2); 3]);
    refused(|config| config.cmdline = vec!["x".into(); PARAMETERS_MAX + 1]);
}

#[test]
fn identifiers_and_directories_are_plain() {
    for id in ["", "a/b", "a b", &"x".repeat(65)] {
        assert!(matches!(refused(|config| config.id = id.into()), ConfigError::Id { .. }));
    }
    for directory in ["", "run", &format!("/{}", "x".repeat(84))] {
        let error = refused(|config| config.vsock.directory = directory.into());
        assert!(matches!(error, ConfigError::Directory { .. }));
    }
}

#[test]
fn the_software_accelerator_wants_a_program() {
    assert_eq!(refused(|config| config.emulator = None), ConfigError::NoEmulator);
    let mut config = sound();
    config.emulator = None;
    config.accelerator = Accelerator::Kvm;
    assert_eq!(config.validate(7), Ok(()));
}
