//! Is `/dev/kvm` what it seems to be?
//!
//! Some hosts offer one that interprets kernel-mode code, thousands of times too slow and without
//! half of the instructions. A loop of a million rounds tells: 1 ms on hardware, 20 ms where the
//! hardware is itself emulated, more than a second where it is interpreted. What counts is how far it
//! gets in the time that the vCPU's thread has, in the best of several short looks: a host that is
//! busy elsewhere, or whose own host is, is not unusable.

use std::io;
use std::time::Duration;

use husk_vmm_config::KvmStatus;
use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use rustix::time::{ClockId, clock_gettime};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

use crate::sys::Alarm;

/// The API that has been stable since Linux 2.6.22.
const API_VERSION: i32 = 12;

/// Rounds of the loop.
const ROUNDS: u32 = 1_000_000;

/// Whoever needs longer for all rounds does not run the loop but reads it.
const LOOP_US_MAX: u64 = 200_000;

/// The time of one look; on most hosts the loop is over by then.
const LOOK: Duration = Duration::from_millis(5);

/// Looks before a host is called slow.
const LOOKS_MIN: u32 = 8;

/// The CPU time without which it is not.
const EVIDENCE: Duration = Duration::from_millis(5);

/// How often the thread may be left without it.
const LOOKS_MAX: u32 = 200;

/// One page, of which the last bytes of the address space of real mode are no part.
const MEMORY_LENGTH: usize = 4096;

/// `mov ecx, ROUNDS; again: dec ecx; jnz again; hlt` in real mode.
fn code() -> Vec<u8> {
    let mut code = vec![0x66, 0xb9];
    code.extend(ROUNDS.to_le_bytes());
    code.extend([0x66, 0x49, 0x75, 0xfc, 0xf4]);
    code
}

/// Why the probe guest did not run.
#[derive(Debug, thiserror::Error)]
enum ProbeError {
    #[error("/dev/kvm has API version {0}, not {API_VERSION}")]
    Version(i32),
    #[error("failed to {attempt}: {source}")]
    Call { attempt: &'static str, source: io::Error },
    #[error("the probe guest ended with {0}")]
    Exit(String),
}

/// Opens `/dev/kvm` and runs a guest of five instructions on it.
pub(crate) fn probe() -> KvmStatus {
    match Kvm::new() {
        Err(error) if error.errno() == libc::ENOENT => KvmStatus::Absent,
        Err(error) => {
            let error = io::Error::from_raw_os_error(error.errno());
            KvmStatus::Unavailable { error: format!("failed to open /dev/kvm: {error}") }
        }
        Ok(kvm) => measure(&kvm)
            .unwrap_or_else(|error| KvmStatus::Unavailable { error: error.to_string() }),
    }
}

fn measure(kvm: &Kvm) -> Result<KvmStatus, ProbeError> {
    let version = kvm.get_api_version();
    if version != API_VERSION {
        return Err(ProbeError::Version(version));
    }
    let vm = kvm.create_vm().map_err(call("create a VM"))?;
    let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), MEMORY_LENGTH)]).map_err(
        |error| ProbeError::Call { attempt: "map guest memory", source: io::Error::other(error) },
    )?;
    // Slots before vCPUs: the order that is fast on every kernel.
    add_slot(&vm, &memory)?;
    let mut vcpu = vm.create_vcpu(0).map_err(call("create a vCPU"))?;
    load(&vcpu, &memory)?;
    let loop_us = time_loop(&mut vcpu)?;
    let sound = loop_us <= LOOP_US_MAX;
    Ok(if sound { KvmStatus::Sound { loop_us } } else { KvmStatus::Interpreting { loop_us } })
}

fn add_slot(vm: &VmFd, memory: &GuestMemoryMmap<()>) -> Result<(), ProbeError> {
    let host = memory.get_host_address(GuestAddress(0)).expect("the region starts at zero");
    let region = kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: 0,
        memory_size: MEMORY_LENGTH as u64,
        userspace_addr: host as u64,
    };
    // SAFETY: the address and length are those of `memory`, which the caller keeps until the VM
    // is gone; no other slot overlaps, since there is none.
    unsafe { vm.set_user_memory_region(region) }.map_err(call("add a memory slot"))
}

/// Real mode, every segment at zero.
fn load(vcpu: &VcpuFd, memory: &GuestMemoryMmap<()>) -> Result<(), ProbeError> {
    memory.write_slice(&code(), GuestAddress(0)).expect("the code is shorter than a page");
    let mut sregs = vcpu.get_sregs().map_err(call("read the segments"))?;
    sregs.cs.base = 0;
    sregs.cs.selector = 0;
    vcpu.set_sregs(&sregs).map_err(call("set the segments"))?;
    let mut regs = vcpu.get_regs().map_err(call("read the registers"))?;
    regs.rip = 0;
    regs.rflags = 2;
    vcpu.set_regs(&regs).map_err(call("set the registers"))
}

/// Microseconds of CPU time for all rounds, at the pace of the best look.
fn time_loop(vcpu: &mut VcpuFd) -> Result<u64, ProbeError> {
    let began = thread_time();
    let (mut best, mut left) = (u64::MAX, u64::from(ROUNDS));
    for look in 1..=LOOKS_MAX {
        let started = thread_time();
        let finished = run(vcpu)?;
        let now = thread_time();
        let rest = vcpu.get_regs().map_err(call("read the registers"))?.rcx;
        best = best.min(estimate(now.saturating_sub(started), left.saturating_sub(rest)));
        left = rest;
        let is_slow = look >= LOOKS_MIN && now.saturating_sub(began) >= EVIDENCE;
        if finished || best <= LOOP_US_MAX || is_slow {
            return Ok(best);
        }
    }
    Err(ProbeError::Exit(format!("no CPU time within {:?}", LOOK * LOOKS_MAX)))
}

/// Microseconds of all rounds, if so many took `spent`.
fn estimate(spent: Duration, done: u64) -> u64 {
    micros(spent).saturating_mul(ROUNDS.into()).checked_div(done).unwrap_or(u64::MAX)
}

fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("a thread's time is not negative")
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Whether the loop came to its end before the next look.
fn run(vcpu: &mut VcpuFd) -> Result<bool, ProbeError> {
    let alarm = |source| ProbeError::Call { attempt: "set a timer", source };
    let _alarm = Alarm::set(LOOK).map_err(alarm)?;
    match vcpu.run() {
        Ok(VcpuExit::Hlt) => Ok(true),
        Ok(exit) => Err(ProbeError::Exit(format!("{exit:?}"))),
        Err(error) if error.errno() == libc::EINTR || error.errno() == libc::EAGAIN => Ok(false),
        Err(error) => Err(call("run the probe guest")(error)),
    }
}

fn call(attempt: &'static str) -> impl Fn(kvm_ioctls::Error) -> ProbeError {
    move |error| ProbeError::Call { attempt, source: io::Error::from_raw_os_error(error.errno()) }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_loop_is_judged_by_how_far_it_got() {
        // A third of the rounds in 20 ms: busy, but sound.
        assert!(estimate(Duration::from_millis(20), 333_333) < LOOP_US_MAX);
        // Interpreted: some 700 rounds in a millisecond.
        assert!(estimate(Duration::from_millis(5), 3_500) > LOOP_US_MAX);
        assert_eq!(estimate(Duration::from_millis(5), 0), u64::MAX, "it has not begun");
    }

    #[test]
    fn the_jump_goes_back_to_the_decrement() {
        let code = code();
        let jump = code.iter().position(|&byte| byte == 0x75).unwrap();
        let back = i8::from_ne_bytes([code[jump + 1]]);
        let target = jump + 2 - usize::from(back.unsigned_abs());
        assert_eq!(code[target..target + 2], [0x66, 0x49]);
    }

    #[test]
    fn the_answer_comes_soon_whatever_it_is() {
        let started = Instant::now();
        let status = probe();
        assert!(started.elapsed() < Duration::from_millis(500), "{status:?}");
    }
}
