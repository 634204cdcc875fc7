//! The emulator's command line, as a pure function.

use std::ffi::OsString;
use std::os::fd::RawFd;

use husk_devices::virtio::DeviceKind;
use husk_vmm_config::{Balloon, MacAddress};

/// What the command line depends on; descriptors by their numbers in the emulator.
pub(super) struct Arguments<'a> {
    /// The sandbox's name, of plain characters only.
    pub(super) id: String,
    pub(super) vcpus: u8,
    pub(super) memory_mib: u32,
    pub(super) kernel_fd: RawFd,
    pub(super) console_fd: RawFd,
    pub(super) cmdline: String,
    /// Rate of the host's time stamp counter, if it is known.
    pub(super) tsc_khz: Option<u64>,
    pub(super) devices: &'a [DeviceArgument],
}

/// A device and the way to it.
#[derive(Debug)]
pub(super) enum DeviceArgument {
    /// One of ours, at the other end of an inherited socket.
    Socket { kind: DeviceKind, fd: RawFd },
    /// A network device of ours. The emulator wants to call such a one by name, and to know its
    /// configuration.
    Net { name: String, mac: MacAddress, mtu: u16 },
    /// A balloon of the emulator's own: it knows of no other.
    Balloon(Balloon),
}

/// The machine: no ACPI, no serial port, no option ROMs; devices are announced on the kernel's
/// command line. The RTC stays: without one the kernel polls its port for a second.
const MACHINE: &str = "microvm,acpi=off,rtc=on,isa-serial=off,x-option-roms=off,\
                       auto-kernel-cmdline=on,memory-backend=memory";

/// PIT and PIC are needed to measure clocks whose rates are not told.
fn timers(tsc_khz: Option<u64>) -> &'static str {
    if tsc_khz.is_some() { "pit=off,pic=off" } else { "pit=on,pic=on" }
}

/// Memory for translated code, where the default takes up to 1 GiB: the cgroup makes room for this.
const TRANSLATED_MIB: u32 = 256;

/// Rate of the emulated APIC's timer.
const APIC_TIMER_KHZ: u64 = 1_000_000;

/// Timer ticks a second of the guest kernel (`CONFIG_HZ`).
const KERNEL_HZ: u64 = 250;

/// What the emulator may not do: become another user, start programs, change its scheduling.
const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/// The arguments behind the program's name.
pub(super) fn arguments(wanted: &Arguments<'_>) -> Vec<OsString> {
    let mut list = Vec::new();
    let mut option = |name: &str, value: String| {
        list.push(name.into());
        list.push(OsString::from(value));
    };
    option("-name", format!("husk-{}", wanted.id));
    option("-M", format!("{MACHINE},{}", timers(wanted.tsc_khz)));
    option("-accel", format!("tcg,thread=multi,tb-size={TRANSLATED_MIB}"));
    option("-cpu", "max".into());
    option("-smp", wanted.vcpus.to_string());
    option("-m", format!("{}M", wanted.memory_mib));
    // Shared, or the devices could not see it; never in a core dump.
    let memory = format!(
        "memory-backend-memfd,id=memory,size={}M,share=on,prealloc=off,dump=off",
        wanted.memory_mib
    );
    option("-object", memory);
    option("-global", "virtio-mmio.force-legacy=false".into());
    option("-sandbox", SANDBOX.into());
    for (place, device) in wanted.devices.iter().enumerate() {
        match device {
            DeviceArgument::Socket { kind, fd } => {
                option("-chardev", format!("socket,id=device{place},fd={fd}"));
                option("-device", front_end(*kind, place));
            }
            DeviceArgument::Net { name, mac, mtu } => {
                let socket = format!("socket,id=device{place},path={name},abstract=on,tight=on");
                option("-chardev", socket);
                option("-netdev", format!("vhost-user,id=net{place},chardev=device{place}"));
                let device = format!("{NET},netdev=net{place},mac={mac},host_mtu={mtu}");
                option("-device", device);
            }
            DeviceArgument::Balloon(balloon) => option("-device", emulated_balloon(*balloon)),
        }
    }
    option("-chardev", format!("socket,id=console,fd={}", wanted.console_fd));
    option("-device", "virtio-serial-device".into());
    option("-device", "virtconsole,chardev=console".into());
    option("-kernel", format!("/proc/self/fd/{}", wanted.kernel_fd));
    option("-append", wanted.cmdline.clone());
    let flags = ["-nodefaults", "-no-user-config", "-no-reboot"];
    list.extend(flags.map(OsString::from));
    list.extend(["-display", "none", "-monitor", "none", "-serial", "none"].map(OsString::from));
    list
}

/// What a kernel needs to know of this machine.
///
/// Its time stamp counter is the host's. Told the rates of its clocks, the kernel does not measure
/// them against a timer whose emulation is late on a busy host, and does not distrust them later.
pub(super) fn kernel_parameters(tsc_khz: Option<u64>) -> String {
    // The timer of an emulated machine is not broken, and testing it takes time. Taking the lock
    // prefixes out for one CPU would write to almost every page of the kernel.
    let always = "no_timer_check noreplace-smp";
    match tsc_khz {
        Some(khz) => format!(
            "{always} tsc=reliable tsc_early_khz={khz} lpj={} lapic_timer_khz={APIC_TIMER_KHZ}",
            khz.saturating_mul(1000) / KERNEL_HZ
        ),
        None => always.into(),
    }
}

/// A network device without what the emulator would answer itself: a control queue, a link that
/// goes up and down. All else is what the device behind the socket offers.
const NET: &str = "virtio-net-device,ctrl_vq=off,ctrl_rx=off,ctrl_rx_extra=off,ctrl_vlan=off,\
                   ctrl_mac_addr=off,ctrl_guest_offloads=off,guest_announce=off,status=off,mq=off,\
                   rx_queue_size=256,tx_queue_size=256";

fn emulated_balloon(balloon: Balloon) -> String {
    let switch = |on| if on { "on" } else { "off" };
    format!(
        "virtio-balloon-device,free-page-reporting={},deflate-on-oom={}",
        switch(balloon.free_page_reporting),
        switch(balloon.deflate_on_oom)
    )
}

fn front_end(kind: DeviceKind, place: usize) -> String {
    let device = match kind {
        // The driver learns of a write-back cache by the flush feature alone.
        DeviceKind::Block => "vhost-user-blk,config-wce=off,num-queues=1,queue-size=128",
        DeviceKind::Vsock => "vhost-user-vsock-device",
        DeviceKind::Rng => "vhost-user-rng",
        kind => unreachable!("the emulator has no {kind:?} device at the end of a socket"),
    };
    format!("{device},chardev=device{place}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> String {
        let devices = [
            DeviceArgument::Socket { kind: DeviceKind::Block, fd: 3 },
            DeviceArgument::Socket { kind: DeviceKind::Vsock, fd: 4 },
            DeviceArgument::Socket { kind: DeviceKind::Rng, fd: 5 },
            DeviceArgument::Net {
                name: "husk-7".into(),
                mac: MacAddress([0x52, 0x54, 0, 0, 0, 2]),
                mtu: 1400,
            },
            DeviceArgument::Balloon(Balloon { free_page_reporting: true, ..Balloon::default() }),
        ];
        let arguments = arguments(&Arguments {
            id: "one".into(),
            vcpus: 2,
            memory_mib: 256,
            kernel_fd: 7,
            console_fd: 6,
            cmdline: "quiet root=/dev/vda,x".into(),
            tsc_khz: None,
            devices: &devices,
        });
        arguments.into_iter().map(|word| word.into_string().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn each_device_has_its_socket_in_order() {
        let line = line();
        assert!(line.contains(
            "-chardev socket,id=device0,fd=3 -device vhost-user-blk,config-wce=off,num-queues=1,\
             queue-size=128,chardev=device0 "
        ));
        assert!(line.contains("id=device1,fd=4 -device vhost-user-vsock-device,chardev=device1 "));
        assert!(line.contains("id=device2,fd=5 -device vhost-user-rng,chardev=device2 "));
        assert!(line.contains(
            "-chardev socket,id=device3,path=husk-7,abstract=on,tight=on \
             -netdev vhost-user,id=net3,chardev=device3 -device virtio-net-device,"
        ));
        assert!(line.contains(",netdev=net3,mac=52:54:00:00:00:02,host_mtu=1400 "));
        assert!(line.contains("-balloon-device,free-page-reporting=on,deflate-on-oom=off "));
    }

    #[test]
    fn the_rate_of_the_counter_is_told_where_it_is_known() {
        assert!(!kernel_parameters(None).contains("khz"));
        assert!(line().contains(",pit=on,pic=on "), "something has to measure the clocks");
        let told = kernel_parameters(Some(2_100_000));
        assert!(
            told.ends_with(
                "tsc=reliable tsc_early_khz=2100000 lpj=8400000 lapic_timer_khz=1000000"
            )
        );
        assert_eq!(timers(Some(2_100_000)), "pit=off,pic=off");
    }

    #[test]
    fn nothing_but_what_is_asked_for_is_there() {
        let line = line();
        for flag in ["-nodefaults", "-no-user-config", "-no-reboot", "-monitor none", "-sandbox on"]
        {
            assert!(line.contains(flag), "{flag}");
        }
        assert!(line.contains("-append quiet root=/dev/vda,x"), "the kernel's line is one word");
        assert!(line.contains("-kernel /proc/self/fd/7"));
    }
}
