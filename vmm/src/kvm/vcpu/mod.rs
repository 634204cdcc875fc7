//! The threads that run the guest.
//!
//! A vCPU's thread enters the guest until it has to come out, does what the guest waits for, and
//! enters it again. It ends when it is told to, or when the guest has reset or broken the machine;
//! why is told once, by what it is given for that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};

use husk_devices::bus::Bus;
use kvm_ioctls::{VcpuExit, VcpuFd};

use super::error::KvmError;
use super::exits::{ExitCounters, ExitReason};
use super::interrupt::InterruptController;
use super::kick::{ExitFlag, install_handler};
use super::vm::Held;
use crate::memory::IOAPIC;

/// An access to a device's register is the deepest call, with a few KiB of buffers at its most.
const STACK_LENGTH: usize = 128 << 10;

/// Command register of the keyboard controller, which resets a PC.
const KEYBOARD_COMMAND: u16 = 0x64;
const RESET: u8 = 0xfe;

/// Why a vCPU does not run any more.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum VcpuEnd {
    /// It was told to stop.
    Stopped,
    /// The guest has reset the machine: by the keyboard controller, or by a triple fault.
    Reset,
    /// It cannot go on: one line.
    Failed(String),
}

/// What a vCPU works with.
pub(crate) struct Surroundings {
    /// The devices' registers.
    pub(crate) bus: Arc<Bus>,
    /// The I/O APIC.
    pub(crate) interrupts: Arc<InterruptController>,
    /// The guest's memory, which must not go while a vCPU may be in the guest.
    pub(crate) held: Arc<Held>,
    /// Called on the thread before the guest is entered for the first time; its error is the
    /// vCPU's end.
    pub(crate) entering: Box<dyn FnOnce() -> Result<(), String> + Send>,
    /// Called on the thread once it has ended.
    pub(crate) ended: Box<dyn FnOnce(VcpuEnd) + Send>,
}

/// A vCPU's thread. Dropping it gets the vCPU out of the guest and waits for the thread's end.
#[derive(Debug)]
pub(crate) struct VcpuThread {
    flag: ExitFlag,
    stop: Arc<AtomicBool>,
    counters: Arc<ExitCounters>,
    thread: Option<JoinHandle<VcpuFd>>,
}

impl VcpuThread {
    /// Runs a vCPU.
    pub(crate) fn start(
        number: u8,
        mut vcpu: VcpuFd,
        surroundings: Surroundings,
    ) -> std::io::Result<Self> {
        install_handler()?;
        let flag = ExitFlag::of(&mut vcpu);
        let stop = Arc::new(AtomicBool::new(false));
        let counters = Arc::new(ExitCounters::default());
        let mut runner = Runner { vcpu, stop: stop.clone(), counters: counters.clone() };
        let Surroundings { bus, interrupts, held, entering, ended } = surroundings;
        let thread = Builder::new()
            .name(format!("husk-vcpu{number}"))
            .stack_size(STACK_LENGTH)
            .spawn(move || {
                ended(match entering() {
                    Ok(()) => runner.run(&bus, &interrupts),
                    Err(error) => VcpuEnd::Failed(error),
                });
                drop(held);
                // Kicks may come until this thread is joined: they need the vCPU's page.
                runner.vcpu
            })?;
        Ok(Self { flag, stop, counters, thread: Some(thread) })
    }

    /// Why it left the guest so far.
    pub(crate) fn counters(&self) -> &ExitCounters {
        &self.counters
    }

    /// Tells it to end, without waiting for it: several end at once.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = &self.thread {
            self.flag.kick(thread);
        }
    }
}

impl Drop for VcpuThread {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("a panic ends the process before it ends a thread");
        }
    }
}

struct Runner {
    vcpu: VcpuFd,
    stop: Arc<AtomicBool>,
    counters: Arc<ExitCounters>,
}

impl Runner {
    fn run(&mut self, bus: &Bus, interrupts: &InterruptController) -> VcpuEnd {
        loop {
            let exit = self.vcpu.run();
            let handled = match exit {
                Ok(exit) => handle(exit, &self.counters, bus, interrupts),
                Err(error) if error.errno() == libc::EINTR || error.errno() == libc::EAGAIN => {
                    self.counters.count(ExitReason::Interrupted);
                    if self.stop.load(Ordering::SeqCst) { Handled::Stopped } else { Handled::Done }
                }
                Err(error) => {
                    let error = std::io::Error::from_raw_os_error(error.errno());
                    Handled::Broken(format!("failed to run a vCPU: {error}"))
                }
            };
            match handled {
                Handled::Done => {}
                Handled::Stopped => return VcpuEnd::Stopped,
                Handled::Reset => return VcpuEnd::Reset,
                Handled::Broken(what) => return VcpuEnd::Failed(self.with_place(&what)),
                Handled::InternalError => {
                    let what = format!("KVM met an internal error ({})", self.suberror());
                    return VcpuEnd::Failed(self.with_place(&what));
                }
            }
        }
    }

    /// Where the guest was.
    fn with_place(&self, what: &str) -> String {
        match self.vcpu.get_regs() {
            Ok(regs) => format!("{what}; the guest was at {:#x}", regs.rip),
            Err(_) => what.to_owned(),
        }
    }

    /// What an internal error was, in the words of the kernel's documentation.
    fn suberror(&mut self) -> &'static str {
        let run = self.vcpu.get_kvm_run();
        // SAFETY: the exit's reason, which KVM has just set, says that this member is in use; any
        // bytes are a valid number.
        match unsafe { run.__bindgen_anon_1.internal.suberror } {
            1 => "it cannot emulate an instruction",
            2 => "simultaneous exceptions",
            3 => "an event could not be delivered",
            4 => "an exit of no known reason",
            _ => "unknown",
        }
    }
}

/// What an exit amounts to.
enum Handled {
    Done,
    Stopped,
    Reset,
    InternalError,
    Broken(String),
}

fn handle(
    exit: VcpuExit<'_>,
    counters: &ExitCounters,
    bus: &Bus,
    interrupts: &InterruptController,
) -> Handled {
    match exit {
        VcpuExit::MmioRead(address, data) => {
            let reason = read(address, data, bus, interrupts);
            counters.count(reason);
            Handled::Done
        }
        VcpuExit::MmioWrite(address, data) => {
            let written = write(address, data, bus, interrupts);
            counters.count(*written.as_ref().unwrap_or(&ExitReason::IoapicWrite));
            match written {
                Ok(_) => Handled::Done,
                Err(error) => Handled::Broken(format!("failed to {error}")),
            }
        }
        VcpuExit::IoIn(port, data) => {
            counters.count(ExitReason::IoIn);
            // The controller has nothing to say; where nothing is, the bus floats.
            data.fill(if port == KEYBOARD_COMMAND { 0 } else { 0xff });
            Handled::Done
        }
        VcpuExit::IoOut(port, data) => {
            counters.count(ExitReason::IoOut);
            let reset = port == KEYBOARD_COMMAND && data.last() == Some(&RESET);
            if reset { Handled::Reset } else { Handled::Done }
        }
        VcpuExit::Shutdown => {
            counters.count(ExitReason::Shutdown);
            Handled::Reset
        }
        VcpuExit::Intr => {
            counters.count(ExitReason::Interrupted);
            Handled::Done
        }
        VcpuExit::InternalError => {
            counters.count(ExitReason::InternalError);
            Handled::InternalError
        }
        VcpuExit::FailEntry(reason, _) => {
            counters.count(ExitReason::InternalError);
            Handled::Broken(format!("the processor refused to enter the guest ({reason:#x})"))
        }
        VcpuExit::Hlt => {
            // With its APIC in the kernel, a vCPU waits there. An exit means that it has none.
            counters.count(ExitReason::Halt);
            Handled::Broken("a vCPU halted for ever".into())
        }
        // An interrupt was acknowledged that is no edge: nothing waits for it.
        VcpuExit::IoapicEoi(_) => {
            counters.count(ExitReason::Other);
            Handled::Done
        }
        other => {
            counters.count(ExitReason::Other);
            Handled::Broken(format!("KVM left the guest for a reason of no use: {other:?}"))
        }
    }
}

fn read(address: u64, data: &mut [u8], bus: &Bus, interrupts: &InterruptController) -> ExitReason {
    if IOAPIC.contains(address) {
        interrupts.read(address - IOAPIC.start, data);
        return ExitReason::IoapicRead;
    }
    if bus.read(address, data) { ExitReason::MmioRead } else { ExitReason::Unmapped }
}

/// Writes to read-only memory arrive here as well, and change nothing.
fn write(
    address: u64,
    data: &[u8],
    bus: &Bus,
    interrupts: &InterruptController,
) -> Result<ExitReason, KvmError> {
    if IOAPIC.contains(address) {
        return interrupts.write(address - IOAPIC.start, data).map(|()| ExitReason::IoapicWrite);
    }
    Ok(if bus.write(address, data) { ExitReason::MmioWrite } else { ExitReason::Unmapped })
}

#[cfg(test)]
mod tests;
