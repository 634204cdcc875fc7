//! From the I/O APIC's entries to KVM's routes: a device rings its line, KVM sends the message.

use std::sync::{Arc, Mutex, PoisonError};

use kvm_bindings::{
    KVM_IRQ_ROUTING_MSI, KvmIrqRouting, kvm_irq_routing_entry, kvm_irq_routing_msi,
};
use kvm_ioctls::VmFd;

use super::error::{KvmError, call};
use super::ioapic::{Ioapic, Message};

/// The I/O APIC and the VM to which its messages go.
#[derive(Debug)]
pub(crate) struct InterruptController {
    vm: Arc<VmFd>,
    chip: Mutex<Ioapic>,
}

impl InterruptController {
    /// A chip with so many lines, none of them connected to anything.
    pub(super) fn new(vm: Arc<VmFd>, lines: u8) -> Self {
        Self { vm, chip: Mutex::new(Ioapic::new(lines)) }
    }

    /// A vCPU reads a register of the chip.
    pub(super) fn read(&self, offset: u64, data: &mut [u8]) {
        self.chip.lock().unwrap_or_else(PoisonError::into_inner).read(offset, data);
    }

    /// A vCPU writes one. The routes are KVM's before this returns, under the lock: two vCPUs
    /// cannot set theirs in another order than they changed the chip.
    pub(super) fn write(&self, offset: u64, data: &[u8]) -> Result<(), KvmError> {
        let mut chip = self.chip.lock().unwrap_or_else(PoisonError::into_inner);
        if chip.write(offset, data) {
            let routing = routing(chip.messages());
            self.vm.set_gsi_routing(&routing).map_err(call("route the devices' interrupts"))?;
        }
        Ok(())
    }
}

/// KVM's table: line `n` of the chip is its interrupt `n`; a masked one has no route.
fn routing(messages: impl Iterator<Item = Option<Message>>) -> KvmIrqRouting {
    let entries: Vec<_> = (0..)
        .zip(messages)
        .filter_map(|(gsi, message)| {
            let Message { address, data } = message?;
            let mut entry =
                kvm_irq_routing_entry { gsi, type_: KVM_IRQ_ROUTING_MSI, ..Default::default() };
            entry.u.msi = kvm_irq_routing_msi { address_lo: address, data, ..Default::default() };
            Some(entry)
        })
        .collect();
    KvmIrqRouting::from_entries(&entries).expect("lines are counted in a byte")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_with_a_message_have_a_route() {
        let message = |data| Some(Message { address: 0xfee0_1000, data });
        let routing = routing([None, message(0x31), None, message(0x32)].into_iter());
        let lines: Vec<_> = routing.as_slice().iter().map(|entry| entry.gsi).collect();
        assert_eq!(lines, [1, 3]);
        assert_eq!(routing.as_slice()[0].type_, KVM_IRQ_ROUTING_MSI);
    }
}
