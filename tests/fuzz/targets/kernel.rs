//! The kernel's ELF headers and PVH note: any file, and files that are almost kernels.

#![no_main]

use arbitrary::{Arbitrary, Unstructured};
use husk_fuzz::{MEBIBYTE, bounded};
use husk_vmm::fuzz_kernel;
use libfuzzer_sys::fuzz_target;

/// The end of a small guest's memory.
const MEMORY_END: u64 = 64 << 20;

/// Where the tables lie in the files made here, and how long the files are.
const HEADERS: usize = 64;
const NOTES: usize = 0x800;
const FILE_LENGTH: usize = 0x3000;

#[derive(Arbitrary, Debug)]
struct Kernel {
    segments: Vec<Segment>,
    entry: Entry,
    notes: Vec<Note>,
    /// Single bytes of the result that are changed.
    patches: Vec<(u16, u8)>,
    /// Where it ends too early.
    cut: Option<u16>,
}

#[derive(Arbitrary, Debug)]
struct Segment {
    kind: u8,
    offset: u16,
    file_length: u16,
    address: Address,
    memory_length: u32,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Address {
    Page(u8),
    Near(u32),
    Any(u64),
}

#[derive(Arbitrary, Debug)]
enum Entry {
    First,
    Any(u64),
}

#[derive(Arbitrary, Debug)]
struct Note {
    kind: u8,
    xen: bool,
    name_length: u8,
    value: Vec<u8>,
    lie: Option<u32>,
}

fuzz_target!(|bytes: &[u8]| {
    bounded(MEBIBYTE, || {
        fuzz_kernel(bytes, MEMORY_END);
        if let Ok(kernel) = Kernel::arbitrary(&mut Unstructured::new(bytes)) {
            fuzz_kernel(&kernel.bytes(), MEMORY_END);
            assert!(fuzz_kernel(&honest(&kernel), MEMORY_END), "a sound kernel is one");
        }
    });
});

impl Address {
    fn value(self) -> u64 {
        match self {
            Self::Page(page) => (1 << 20) + 4096 * u64::from(page),
            Self::Near(address) => address.into(),
            Self::Any(address) => address,
        }
    }
}

impl Kernel {
    fn bytes(&self) -> Vec<u8> {
        let segments: Vec<_> = self
            .segments
            .iter()
            .take(16)
            .map(|segment| {
                let kind = if segment.kind % 4 == 3 { segment.kind.into() } else { 1 };
                let lengths = (segment.file_length.into(), segment.memory_length.into());
                (kind, segment.offset.into(), segment.address.value(), lengths)
            })
            .collect();
        let entry = match (&self.entry, segments.first()) {
            (Entry::First, Some(first)) => first.2,
            (Entry::First, None) => 1 << 20,
            (Entry::Any(entry), _) => *entry,
        };
        let notes: Vec<u8> = self.notes.iter().take(8).flat_map(Note::bytes).collect();
        let mut file = elf(entry, &segments, &notes);
        for &(place, byte) in self.patches.iter().take(16) {
            if let Some(at) = file.get_mut(usize::from(place)) {
                *at = byte;
            }
        }
        if let Some(cut) = self.cut {
            file.truncate(cut.into());
        }
        file
    }
}

impl Note {
    fn bytes(&self) -> Vec<u8> {
        let (name, length) =
            if self.xen { (&b"Xen\0"[..], 4) } else { (&b"GNU\0"[..], self.name_length) };
        let kind = if self.kind % 2 == 0 { 18 } else { self.kind };
        let value = &self.value[..self.value.len().min(64)];
        let value_length = self.lie.unwrap_or(u32::try_from(value.len()).expect("short"));
        let mut note = Vec::new();
        note.extend(u32::from(length).to_le_bytes());
        note.extend(value_length.to_le_bytes());
        note.extend(u32::from(kind).to_le_bytes());
        note.extend(name);
        note.extend(value);
        note.resize(note.len().next_multiple_of(4), 0);
        note
    }
}

/// A kernel with one segment and a PVH note, both where the fuzzer says, inside memory.
fn honest(kernel: &Kernel) -> Vec<u8> {
    let page = kernel.segments.first().map_or(0, |segment| u64::from(segment.offset));
    let length =
        kernel.segments.first().map_or(1, |segment| u64::from(segment.file_length) % 0x2000 + 1);
    let address = (1 << 20) + 4096 * (page % 0x3000);
    let note = Note {
        kind: 18,
        xen: true,
        name_length: 4,
        value: u32::try_from(address).expect("inside memory").to_le_bytes().to_vec(),
        lie: None,
    };
    elf(address, &[(1, 0x1000, address, (length, length + page))], &note.bytes())
}

/// A program header: type, offset, address, and lengths in file and memory.
type Header = (u32, u64, u64, (u64, u64));

fn elf(entry: u64, segments: &[Header], notes: &[u8]) -> Vec<u8> {
    let notes = &notes[..notes.len().min(0x800)];
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend(2_u16.to_le_bytes()); // executable
    file.extend(62_u16.to_le_bytes()); // x86-64
    file.extend(1_u32.to_le_bytes());
    file.extend(entry.to_le_bytes());
    file.extend((HEADERS as u64).to_le_bytes());
    file.extend(0_u64.to_le_bytes());
    file.extend(0_u32.to_le_bytes());
    file.extend(64_u16.to_le_bytes());
    file.extend(56_u16.to_le_bytes());
    file.extend(u16::try_from(segments.len() + 1).expect("few").to_le_bytes());
    file.resize(HEADERS, 0);
    let note = (4, NOTES as u64, 0, (notes.len() as u64, notes.len() as u64));
    for &(kind, offset, address, (in_file, in_memory)) in segments.iter().chain([&note]) {
        file.extend(kind.to_le_bytes());
        file.extend(5_u32.to_le_bytes());
        for field in [offset, address, address, in_file, in_memory, 4096] {
            file.extend(field.to_le_bytes());
        }
    }
    file.resize(NOTES, 0);
    file.extend(notes);
    file.resize(FILE_LENGTH, 0x90);
    file
}
