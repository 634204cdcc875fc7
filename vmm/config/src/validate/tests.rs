//! Each limit, from both of its sides.

use super::*;
use crate::{
    Balloon, Disk, FdIndex, MacAddress, Net, Pmem, RateLimit, Segment, TokenBucket, Vsock,
};

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
        kvm: None,
        nets: Vec::new(),
        pmems: Vec::new(),
        balloon: None,
    }
}

/// With every kind of device; ten descriptors.
fn sound_on_kvm() -> VmConfig {
    VmConfig {
        accelerator: Accelerator::Kvm,
        emulator: None,
        kvm: Some(FdIndex(7)),
        nets: vec![net(2, 8)],
        pmems: vec![Pmem { fd: FdIndex(9), length: 4 << 20 }],
        balloon: Some(Balloon { free_page_reporting: true, ..Balloon::default() }),
        ..sound()
    }
}

fn net(last: u8, tap: u32) -> Net {
    Net {
        tap: FdIndex(tap),
        mac: MacAddress([0x52, 0x54, 0, 0, 0, last]),
        mtu: 1500,
        rx_rate_limit: None,
        tx_rate_limit: Some(limit(bucket())),
    }
}

fn bucket() -> TokenBucket {
    TokenBucket { size: 1 << 20, one_time_burst: 0, refill_per_second: 1 << 20 }
}

fn limit(bytes: TokenBucket) -> RateLimit {
    RateLimit { bytes: Some(bytes), operations: None }
}

fn disk(serial: &str, segments: &[(u32, u64)], read_only: bool) -> Disk {
    let segments =
        segments.iter().map(|&(fd, length)| Segment { fd: FdIndex(fd), length }).collect();
    Disk { serial: serial.into(), segments, read_only, rate_limit: None }
}

fn refused(change: impl FnOnce(&mut VmConfig)) -> ConfigError {
    let mut config = sound();
    change(&mut config);
    config.validate(7).expect_err("the change makes it wrong")
}

fn refused_on_kvm(change: impl FnOnce(&mut VmConfig)) -> String {
    let mut config = sound_on_kvm();
    change(&mut config);
    config.validate(10).expect_err("the change makes it wrong").to_string()
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
}

#[test]
fn the_kvm_accelerator_wants_its_device_and_no_other_does() {
    assert_eq!(sound_on_kvm().validate(10), Ok(()));
    assert!(refused_on_kvm(|config| config.kvm = None).contains("/dev/kvm"));
    let error = refused(|config| config.kvm = Some(FdIndex(6)));
    assert_eq!(error, ConfigError::UnusedKvm { index: 6 });
}

#[test]
fn a_document_without_the_newer_parts_has_none_of_them() {
    let mut json = serde_json::to_value(sound()).unwrap();
    for part in ["kvm", "nets", "pmems", "balloon"] {
        json.as_object_mut().unwrap().remove(part).unwrap();
    }
    json["disks"][0].as_object_mut().unwrap().remove("rate_limit").unwrap();
    assert_eq!(serde_json::from_value::<VmConfig>(json).unwrap(), sound());
    let config = sound_on_kvm();
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<VmConfig>(&json).unwrap(), config);
}

#[test]
fn a_net_has_an_address_and_a_tap_of_its_own() {
    let error = refused_on_kvm(|config| config.nets[0].mac.0[0] = 0x53);
    assert_eq!(error, "net 53:54:00:00:00:02 has the address of a group");
    refused_on_kvm(|config| config.nets[0].mac.0 = [0xff; 6]);
    assert!(refused_on_kvm(|config| config.nets[0].mac.0 = [0; 6]).contains("no address"));
    assert!(refused_on_kvm(|config| config.nets[0].mtu = 67).contains("MTU"));
    assert!(refused_on_kvm(|config| config.nets.push(net(2, 6))).contains("another net"));
    assert!(refused_on_kvm(|config| config.nets.push(net(3, 8))).contains("another purpose"));
    assert!(refused_on_kvm(|config| config.nets[0].tap = FdIndex(7)).contains("another purpose"));
    assert!(refused_on_kvm(|config| config.nets[0].tap = FdIndex(10)).contains("only 10 came"));
    let many = (0..9).map(|place| net(place, u32::from(place) + 8)).collect();
    assert_eq!(refused_on_kvm(|config| config.nets = many), "nets is 9, outside 0 to 8");
}

#[test]
fn persistent_memory_is_whole_pages_of_the_guest_and_kvm_only() {
    for length in [0, 4096, (4 << 20) + 512] {
        let error = refused_on_kvm(|config| config.pmems[0].length = length);
        assert!(error.starts_with("pmem 0 has a length"), "{error}");
    }
    assert!(refused_on_kvm(|config| config.pmems[0].length = 2 << 40).contains("longer"));
    assert!(refused_on_kvm(|config| config.pmems[0].fd = FdIndex(6)).contains("pmems.fd"));
    refused_on_kvm(|config| config.pmems = vec![config.pmems[0].clone(); 5]);
    let mut config = sound_on_kvm();
    config.pmems[0].fd = config.disks[0].segments[0].fd;
    assert_eq!(config.validate(10), Ok(()), "both only read");
    let pmem = Pmem { fd: FdIndex(6), length: 2 << 20 };
    assert_eq!(refused(|config| config.pmems = vec![pmem]), ConfigError::SoftwarePmem);
}

#[test]
fn a_balloon_does_something() {
    assert_eq!(refused(|c| c.balloon = Some(Balloon::default())), ConfigError::EmptyBalloon);
}

#[test]
fn a_rate_limit_lets_something_through() {
    let (none, huge) = (0, TOKENS_MAX + 1);
    for (wrong, expected) in [
        (RateLimit { bytes: None, operations: None }, "without a bucket"),
        (limit(TokenBucket { size: none, ..bucket() }), "nothing through"),
        (limit(TokenBucket { refill_per_second: none, ..bucket() }), "nothing through"),
        (limit(TokenBucket { size: huge, ..bucket() }), "beyond 2^40"),
        (limit(TokenBucket { one_time_burst: huge, ..bucket() }), "beyond 2^40"),
        (limit(TokenBucket { refill_per_second: huge, ..bucket() }), "beyond 2^40"),
    ] {
        for error in [
            refused_on_kvm(|config| config.disks[1].rate_limit = Some(wrong)),
            refused_on_kvm(|config| config.nets[0].rx_rate_limit = Some(wrong)),
            refused_on_kvm(|config| config.nets[0].tx_rate_limit = Some(wrong)),
        ] {
            assert!(error.contains(expected), "{error}");
        }
    }
}

#[test]
fn the_machine_has_a_place_for_every_device() {
    let disks = |count| (0..count).map(|i| disk(&format!("d{i}"), &[(4, 512)], true)).collect();
    let mut config = sound();
    config.disks = disks(5);
    assert_eq!(config.validate(7), Ok(()));
    let error = refused(|config| config.disks = disks(6));
    assert_eq!(error.to_string(), "devices is 9, outside 0 to 8");
    let mut config = sound_on_kvm();
    config.disks = disks(8);
    config.nets.extend([net(3, 5), net(4, 6)]);
    assert_eq!(config.validate(10), Ok(()));
    config.nets.push(net(5, 10));
    assert_eq!(config.validate(11).unwrap_err().to_string(), "devices is 17, outside 0 to 16");
}
