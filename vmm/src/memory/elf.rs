//! The kernel's ELF headers, checked as a stranger's, and its PVH note.
//!
//! A pure function over what can be read at an offset: the System V ABI's ELF-64 for the headers,
//! Xen's `XEN_ELFNOTE_PHYS32_ENTRY` for PVH. Whatever comes out lies inside the file and inside
//! memory, and no two segments overlap.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use linux_loader::elf::{
    EI_CLASS, EI_DATA, ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, Elf64_Ehdr, Elf64_Nhdr, Elf64_Phdr,
    PT_LOAD, PT_NOTE,
};
use vm_memory::ByteValued;

/// Program headers of one kernel: Linux has five.
const HEADERS_MAX: u16 = 64;
/// Bytes of notes: Linux has some hundred.
const NOTES_LENGTH_MAX: u64 = 64 << 10;
/// Below lie the boot structures.
const KERNEL_START: u64 = 1 << 20;

const CLASS_64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;
const EXECUTABLE: u16 = 2;
const X86_64: u16 = 62;
const PHYS32_ENTRY: u32 = 18;

/// Why a file is no kernel for us.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KernelError {
    /// It cannot be read.
    #[error("failed to read the kernel")]
    Read(#[source] io::Error),
    /// Another format, such as a bzImage.
    #[error("the kernel is no ELF file: an uncompressed vmlinux is needed")]
    NotElf,
    /// ELF, but not for this.
    #[error("the kernel is not a static x86-64 executable")]
    NotExecutable,
    /// Its headers contradict themselves or the file.
    #[error("the kernel's ELF headers are wrong: {0}")]
    Malformed(&'static str),
    /// It would lie where there is no memory for it.
    #[error(
        "the kernel's segment at {start:#x}, {length:#x} bytes, does not fit into the guest's \
         memory of {memory_end:#x} bytes"
    )]
    Outside {
        /// Where it wants to lie.
        start: u64,
        /// Its length.
        length: u64,
        /// Where memory ends.
        memory_end: u64,
    },
}

/// Bytes that can be read anywhere.
pub(crate) trait Source {
    /// How many there are.
    fn length(&self) -> io::Result<u64>;
    /// Fills `bytes` from `offset`, or fails.
    fn read(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;
}

impl Source for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(bytes, offset)
    }
}

impl Source for &[u8] {
    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).ok();
        let end = start.and_then(|start| start.checked_add(bytes.len()));
        let found = start.zip(end).and_then(|(start, end)| self.get(start..end));
        bytes.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// Bytes of the file and where they belong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct LoadSegment {
    /// Where they are in the file.
    pub(crate) offset: u64,
    /// How many are in the file.
    pub(crate) file_length: u64,
    /// Their guest physical address.
    pub(crate) address: u64,
    /// How many are in memory, at least as many: the rest is zero.
    pub(crate) memory_length: u64,
}

impl LoadSegment {
    fn end(&self) -> u64 {
        self.address + self.memory_length
    }
}

/// A kernel as its headers describe it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct KernelImage {
    /// In ascending order of address, none overlapping.
    pub(crate) segments: Vec<LoadSegment>,
    /// Where 64-bit code begins.
    pub(crate) entry: u64,
    /// Where 32-bit code begins that expects the PVH protocol.
    pub(crate) pvh_entry: Option<u32>,
}

/// Reads a kernel's headers; `memory_end` is the first address that is no memory.
pub(crate) fn parse(source: &impl Source, memory_end: u64) -> Result<KernelImage, KernelError> {
    let file_length = source.length().map_err(KernelError::Read)?;
    let header = read_header(source, file_length)?;
    let mut segments = Vec::new();
    let mut notes = None;
    for number in 0..u64::from(header.e_phnum) {
        let length = size_of::<Elf64_Phdr>() as u64;
        let offset =
            number.checked_mul(length).and_then(|offset| header.e_phoff.checked_add(offset));
        let offset = inside(offset, length, file_length, "a program header lies outside the file")?;
        let program: Elf64_Phdr = read(source, offset)?;
        match program.p_type {
            PT_LOAD if program.p_memsz > 0 => {
                segments.push(segment(&program, file_length, memory_end)?);
            }
            PT_NOTE if notes.is_none() => notes = Some(program),
            _ => {}
        }
    }
    segments.sort_by_key(|segment: &LoadSegment| segment.address);
    if segments.is_empty() {
        return Err(KernelError::Malformed("nothing is to be loaded"));
    }
    if segments.windows(2).any(|pair| pair[0].end() > pair[1].address) {
        return Err(KernelError::Malformed("two segments overlap"));
    }
    let code = |entry| {
        let mut segments = segments.iter();
        segments.any(|one| entry >= one.address && entry - one.address < one.file_length)
    };
    if !code(header.e_entry) {
        return Err(KernelError::Malformed("the entry point lies in no segment"));
    }
    let pvh_entry =
        notes.map(|notes| pvh_entry(source, &notes, file_length)).transpose()?.flatten();
    if pvh_entry.is_some_and(|entry| !code(u64::from(entry))) {
        return Err(KernelError::Malformed("the PVH entry point lies in no segment"));
    }
    Ok(KernelImage { segments, entry: header.e_entry, pvh_entry })
}

fn read_header(source: &impl Source, file_length: u64) -> Result<Elf64_Ehdr, KernelError> {
    if file_length < size_of::<Elf64_Ehdr>() as u64 {
        return Err(KernelError::NotElf);
    }
    let header: Elf64_Ehdr = read(source, 0)?;
    if header.e_ident[..4] != [ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3] {
        return Err(KernelError::NotElf);
    }
    let machine = (header.e_ident[EI_CLASS], header.e_ident[EI_DATA], header.e_machine);
    if machine != (CLASS_64, LITTLE_ENDIAN, X86_64) || header.e_type != EXECUTABLE {
        return Err(KernelError::NotExecutable);
    }
    if usize::from(header.e_phentsize) != size_of::<Elf64_Phdr>() {
        return Err(KernelError::Malformed("its program headers have another size"));
    }
    if header.e_phnum == 0 || header.e_phnum > HEADERS_MAX {
        return Err(KernelError::Malformed("it has no program headers, or too many"));
    }
    Ok(header)
}

fn segment(
    program: &Elf64_Phdr,
    file_length: u64,
    memory_end: u64,
) -> Result<LoadSegment, KernelError> {
    if program.p_filesz > program.p_memsz {
        return Err(KernelError::Malformed("a segment is longer in the file than in memory"));
    }
    let reason = "a segment lies outside the file";
    let offset = inside(Some(program.p_offset), program.p_filesz, file_length, reason)?;
    let (start, length) = (program.p_paddr, program.p_memsz);
    match start.checked_add(length) {
        Some(end) if start >= KERNEL_START && end <= memory_end => Ok(LoadSegment {
            offset,
            file_length: program.p_filesz,
            address: start,
            memory_length: length,
        }),
        _ => Err(KernelError::Outside { start, length, memory_end }),
    }
}

/// Looks for the PVH entry point among the notes.
fn pvh_entry(
    source: &impl Source,
    notes: &Elf64_Phdr,
    file_length: u64,
) -> Result<Option<u32>, KernelError> {
    let wrong = KernelError::Malformed("its notes are longer than notes are");
    let length = Some(notes.p_filesz).filter(|&length| length <= NOTES_LENGTH_MAX);
    let length = length.and_then(|length| usize::try_from(length).ok()).ok_or(wrong)?;
    let reason = "its notes lie outside the file";
    let offset = inside(Some(notes.p_offset), notes.p_filesz, file_length, reason)?;
    let mut bytes = vec![0; length];
    source.read(&mut bytes, offset).map_err(KernelError::Read)?;
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let note = Note::first(rest);
        let note = note.ok_or(KernelError::Malformed("a note ends behind the notes"))?;
        let Note { kind, name, description, rest: next } = note;
        rest = next;
        if kind == PHYS32_ENTRY && name == b"Xen\0" {
            // Four bytes by its description, eight from a 64-bit assembler.
            let number = description.first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
            let upper = description.get(4..).unwrap_or_default();
            let number = number.filter(|_| upper.iter().all(|&byte| byte == 0));
            let wrong = KernelError::Malformed("the PVH entry point is no 32-bit address");
            return number.map(Some).ok_or(wrong);
        }
    }
    Ok(None)
}

/// A note, and what follows it.
struct Note<'a> {
    kind: u32,
    name: &'a [u8],
    description: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Note<'a> {
    /// The first one of `bytes`.
    fn first(bytes: &'a [u8]) -> Option<Self> {
        let (head, rest) = bytes.split_at_checked(size_of::<Elf64_Nhdr>())?;
        let mut header = Elf64_Nhdr::default();
        header.as_mut_slice().copy_from_slice(head);
        let (name, rest) = padded(rest, header.n_namesz)?;
        let (description, rest) = padded(rest, header.n_descsz)?;
        Some(Self { kind: header.n_type, name, description, rest })
    }
}

/// So many bytes, and what follows them and their padding; the last one's may be missing.
fn padded(bytes: &[u8], length: u32) -> Option<(&[u8], &[u8])> {
    let length = usize::try_from(length).ok()?;
    let wanted = bytes.get(..length)?;
    let next = length.checked_next_multiple_of(4)?.min(bytes.len());
    Some((wanted, &bytes[next..]))
}

/// The offset, if so many bytes from there are in the file.
fn inside(
    offset: Option<u64>,
    length: u64,
    file_length: u64,
    reason: &'static str,
) -> Result<u64, KernelError> {
    let end = offset.and_then(|offset| offset.checked_add(length));
    match (offset, end) {
        (Some(offset), Some(end)) if end <= file_length => Ok(offset),
        _ => Err(KernelError::Malformed(reason)),
    }
}

fn read<T: ByteValued + Default>(source: &impl Source, offset: u64) -> Result<T, KernelError> {
    let mut value = T::default();
    source.read(value.as_mut_slice(), offset).map_err(KernelError::Read)?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MEMORY_END: u64 = 128 << 20;

    /// A kernel of two segments and a note, small enough to be spoiled byte by byte.
    fn kernel() -> Vec<u8> {
        let mut header = Elf64_Ehdr { e_type: EXECUTABLE, e_machine: X86_64, ..Default::default() };
        header.e_ident[..6].copy_from_slice(b"\x7fELF\x02\x01");
        header.e_entry = 0x100_0010;
        header.e_phoff = 64;
        header.e_phentsize = 56;
        header.e_phnum = 3;
        let load = |offset, address, file_length, memory_length| Elf64_Phdr {
            p_type: PT_LOAD,
            p_offset: offset,
            p_paddr: address,
            p_filesz: file_length,
            p_memsz: memory_length,
            ..Default::default()
        };
        let notes =
            Elf64_Phdr { p_type: PT_NOTE, p_offset: 256, p_filesz: 24, ..Default::default() };
        let mut bytes = Vec::new();
        bytes.extend(header.as_slice());
        for program in
            [load(0x1000, 0x200_0000, 0x80, 0x2000), load(0x200, 0x100_0000, 0x400, 0x400), notes]
        {
            bytes.extend(program.as_slice());
        }
        bytes.resize(256, 0);
        let note = Elf64_Nhdr { n_namesz: 4, n_descsz: 8, n_type: PHYS32_ENTRY };
        bytes.extend(note.as_slice());
        bytes.extend(b"Xen\0");
        bytes.extend(0x100_0020_u64.to_le_bytes());
        bytes.resize(0x1080, 0);
        bytes
    }

    fn change(place: usize, value: &[u8]) -> Result<KernelImage, KernelError> {
        let mut bytes = kernel();
        bytes[place..place + value.len()].copy_from_slice(value);
        parse(&&bytes[..], MEMORY_END)
    }

    #[test]
    fn a_kernel_has_its_segments_in_order_and_both_entry_points() {
        let image = parse(&&kernel()[..], MEMORY_END).unwrap();
        assert_eq!(image.entry, 0x100_0010);
        assert_eq!(image.pvh_entry, Some(0x100_0020));
        let addresses: Vec<_> = image.segments.iter().map(|segment| segment.address).collect();
        assert_eq!(addresses, [0x100_0000, 0x200_0000]);
        assert_eq!(image.segments[1].memory_length, 0x2000);
    }

    #[test]
    fn a_note_of_another_kind_is_no_entry_point() {
        let bytes = change(264, &[19]).unwrap();
        assert_eq!(bytes.pvh_entry, None);
    }

    #[test]
    fn each_lie_has_its_error() {
        let table: [(usize, &[u8], &str); 16] = [
            (0, b"MZ", "no ELF file"),
            (4, &[1], "not a static x86-64 executable"),
            (16, &[3], "not a static x86-64 executable"),
            (18, &[183], "not a static x86-64 executable"),
            (24, &[0; 8], "the entry point lies in no segment"),
            (32, &[0xff; 8], "a program header lies outside the file"),
            (54, &[55], "another size"),
            (56, &[0, 0], "no program headers"),
            (56, &[65, 0], "too many"),
            (64 + 8, &[0xff; 8], "a segment lies outside the file"),
            (64 + 24, &[0, 0, 0, 8], "does not fit into the guest's memory"),
            (64 + 24, &0x100_0200_u64.to_le_bytes(), "two segments overlap"),
            (64 + 40, &[1, 0], "longer in the file than in memory"),
            (260, &[0xff, 0xff, 0xff, 0x7f], "a note ends behind the notes"),
            (272, &[0; 4], "the PVH entry point lies in no segment"),
            (276, &[1], "no 32-bit address"),
        ];
        for (place, value, expected) in table {
            let error = change(place, value).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn memory_too_small_for_the_kernel_is_named() {
        let error = parse(&&kernel()[..], 0x200_0000).unwrap_err().to_string();
        assert!(error.contains("0x2000000, 0x2000 bytes"), "{error}");
    }

    proptest! {
        #[test]
        fn whatever_comes_out_lies_in_file_and_memory(
            changes in prop::collection::vec((0_usize..0x200, any::<u8>()), 0..6),
            length in 0_usize..0x1081,
        ) {
            let mut bytes = kernel();
            for (place, value) in changes {
                bytes[place] = value;
            }
            bytes.truncate(length);
            if let Ok(image) = parse(&&bytes[..], MEMORY_END) {
                let mut behind = KERNEL_START;
                for segment in image.segments {
                    prop_assert!(segment.address >= behind);
                    prop_assert!(segment.file_length <= segment.memory_length);
                    prop_assert!(segment.offset + segment.file_length <= length as u64);
                    behind = segment.end();
                }
                prop_assert!(behind <= MEMORY_END);
            }
        }
    }
}
