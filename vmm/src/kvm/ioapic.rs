//! The I/O APIC: registers that say which interrupt message each device's line becomes.
//!
//! The part of Intel's 82093AA (data sheet 290566, section 3) that a guest without a legacy
//! interrupt controller uses, as a state machine that knows neither KVM nor threads. Lines are
//! edges: a device's interrupt is a message, sent once. So the trigger bit of an entry is kept but
//! changes nothing, "remote IRR" stays zero, and there is no end of interrupt to wait for. As in
//! the chip, an edge on a masked line is lost.
//!
//! It has as many lines as there are devices, and one more, since line 0 was the PC's timer: Linux
//! visits each of them three times when it boots, and every access leaves the guest.

/// The version that Linux expects of a chip that is no newer.
const VERSION: u32 = 0x11;

/// Offsets of the two registers that the guest sees.
const SELECT: u64 = 0x00;
const WINDOW: u64 = 0x10;

/// Indices behind the window.
const ID: u8 = 0;
const VERSION_INDEX: u8 = 1;
const ARBITRATION: u8 = 2;
const ENTRIES: u8 = 0x10;

const MASKED: u64 = 1 << 16;
/// Delivery status and remote IRR: the chip's to write.
const READ_ONLY: u64 = 1 << 12 | 1 << 14;
/// Bits of an entry that exist.
const WRITABLE: u64 = (0xff << 56 | 0x1_ffff) & !READ_ONLY;

/// The interrupt message of a line, as a PCI device would write it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Message {
    /// Where to.
    pub(crate) address: u32,
    /// Vector and delivery mode.
    pub(crate) data: u32,
}

/// The chip.
#[derive(Debug)]
pub(crate) struct Ioapic {
    select: u8,
    id: u32,
    entries: Vec<u64>,
}

impl Ioapic {
    /// A chip with so many lines (at most 240), all of them masked.
    pub(crate) fn new(lines: u8) -> Self {
        Self { select: 0, id: 0, entries: vec![MASKED; usize::from(lines)] }
    }

    /// Reads a register; what is none reads as zeros.
    pub(crate) fn read(&self, offset: u64, data: &mut [u8]) {
        let value = match offset {
            SELECT => u32::from(self.select),
            WINDOW => self.register(),
            _ => 0,
        };
        data.fill(0);
        let bytes = value.to_le_bytes();
        let length = data.len().min(bytes.len());
        data[..length].copy_from_slice(&bytes[..length]);
    }

    /// Writes a register. True if a message has changed, or a line was masked or unmasked.
    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) -> bool {
        // The chip takes 32 bits at once; the index has 8, which Linux writes as 32 as well.
        let Some(&first) = data.first() else { return false };
        match (offset, data.first_chunk()) {
            (SELECT, _) => {
                self.select = first;
                false
            }
            (WINDOW, Some(bytes)) => self.write_register(u32::from_le_bytes(*bytes)),
            _ => false,
        }
    }

    /// Each line's message, or none while it is masked.
    pub(crate) fn messages(&self) -> impl Iterator<Item = Option<Message>> {
        self.entries.iter().map(|&entry| message(entry))
    }

    fn register(&self) -> u32 {
        match self.select {
            ID | ARBITRATION => self.id,
            VERSION_INDEX => {
                let last = u32::try_from(self.entries.len().saturating_sub(1));
                last.expect("lines are counted in a byte") << 16 | VERSION
            }
            _ => match self.entry() {
                Some((place, true)) => upper(self.entries[place]),
                Some((place, false)) => lower(self.entries[place]),
                None => 0,
            },
        }
    }

    fn write_register(&mut self, value: u32) -> bool {
        let Some((place, is_upper)) = self.entry() else {
            if self.select == ID {
                self.id = value & 0x0f00_0000;
            }
            return false;
        };
        let entry = &mut self.entries[place];
        let before = message(*entry);
        let changed = if is_upper {
            u64::from(value) << 32 | u64::from(lower(*entry))
        } else {
            u64::from(upper(*entry)) << 32 | u64::from(value)
        };
        *entry = changed & WRITABLE;
        message(*entry) != before
    }

    /// The selected entry, and whether its upper half is.
    fn entry(&self) -> Option<(usize, bool)> {
        let index = self.select.checked_sub(ENTRIES)?;
        let place = usize::from(index / 2);
        (place < self.entries.len()).then_some((place, index % 2 == 1))
    }
}

/// What a line with that entry sends; always as an edge.
fn message(entry: u64) -> Option<Message> {
    if entry & MASKED != 0 {
        return None;
    }
    let destination = upper(entry) >> 24;
    let logical = lower(entry) >> 11 & 1;
    // Vector and delivery mode are at the same place in both forms.
    Some(Message {
        address: 0xfee0_0000 | destination << 12 | logical << 2,
        data: lower(entry) & 0x7ff,
    })
}

fn lower(entry: u64) -> u32 {
    u32::try_from(entry & u64::from(u32::MAX)).expect("32 bits fit")
}

fn upper(entry: u64) -> u32 {
    u32::try_from(entry >> 32).expect("32 bits fit")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn write(chip: &mut Ioapic, index: u8, value: u32) -> bool {
        assert!(!chip.write(SELECT, &u32::from(index).to_le_bytes()));
        chip.write(WINDOW, &value.to_le_bytes())
    }

    fn read(chip: &mut Ioapic, index: u8) -> u32 {
        chip.write(SELECT, &[index]);
        let mut data = [9; 4];
        chip.read(WINDOW, &mut data);
        u32::from_le_bytes(data)
    }

    #[test]
    fn the_chip_tells_how_many_lines_it_has() {
        for lines in [1, 4, 24, 240] {
            let mut chip = Ioapic::new(lines);
            assert_eq!(read(&mut chip, VERSION_INDEX), u32::from(lines - 1) << 16 | 0x11);
            assert!(chip.messages().all(|message| message.is_none()), "masked at first");
        }
    }

    #[test]
    fn an_unmasked_line_sends_its_message() {
        let mut chip = Ioapic::new(4);
        assert!(!write(&mut chip, 0x15, 3 << 24), "still masked: no message changes");
        assert!(write(&mut chip, 0x14, 0x0041));
        let messages: Vec<_> = chip.messages().collect();
        let expected = Message { address: 0xfee0_3000, data: 0x41 };
        assert_eq!(messages, [None, None, Some(expected), None]);
        assert!(!write(&mut chip, 0x14, 0x0041), "nothing new");
        assert!(write(&mut chip, 0x14, 0x1_0041), "masked again");
        assert!(chip.messages().all(|message| message.is_none()));
    }

    #[test]
    fn delivery_and_destination_modes_reach_the_message_and_the_trigger_does_not() {
        let mut chip = Ioapic::new(1);
        write(&mut chip, 0x11, 0xff << 24);
        // Level, low, logical, lowest priority.
        write(&mut chip, 0x10, 1 << 15 | 1 << 13 | 1 << 11 | 1 << 8 | 0x30);
        let message = chip.messages().next().unwrap().unwrap();
        assert_eq!(message, Message { address: 0xfeef_f004, data: 0x130 });
        assert_eq!(read(&mut chip, 0x10), 0xa930, "but what was written is kept");
    }

    #[test]
    fn status_bits_are_the_chips() {
        let mut chip = Ioapic::new(1);
        write(&mut chip, 0x10, u32::MAX);
        assert_eq!(read(&mut chip, 0x10), 0x1_afff);
        write(&mut chip, 0x11, u32::MAX);
        assert_eq!(read(&mut chip, 0x11), 0xff00_0000);
    }

    #[test]
    fn the_identifier_is_kept() {
        let mut chip = Ioapic::new(1);
        write(&mut chip, ID, u32::MAX);
        assert_eq!((read(&mut chip, ID), read(&mut chip, ARBITRATION)), (0x0f00_0000, 0x0f00_0000));
    }

    proptest! {
        #[test]
        fn no_access_does_harm(
            accesses in prop::collection::vec(
                (0_u64..0x40, prop::collection::vec(any::<u8>(), 0..9), any::<bool>()), 0..64),
        ) {
            let mut chip = Ioapic::new(5);
            for (offset, mut data, is_write) in accesses {
                let before: Vec<_> = chip.messages().collect();
                if is_write {
                    let changed = chip.write(offset, &data);
                    prop_assert_eq!(changed, before != chip.messages().collect::<Vec<_>>());
                } else {
                    chip.read(offset, &mut data);
                }
                prop_assert!(chip.entries.iter().all(|entry| entry & !WRITABLE == 0));
            }
        }
    }
}
