//! Directory blocks: packed from sorted entries, and parsed with every offset checked.
//!
//! A block holds its dirents first and their names behind them. Names are in byte order over the
//! whole directory, `.` and `..` among them, because the kernel searches by halving.

use zerocopy::{FromBytes, IntoBytes};

use super::disk::{BLOCK_LEN, Dirent, NAME_MAX};

/// Bytes of a dirent without its name.
const DIRENT_LEN: usize = size_of::<Dirent>();

/// One entry to be packed, or as parsed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Entry<'a> {
    pub(super) name: &'a [u8],
    pub(super) nid: u64,
    pub(super) file_type: u8,
}

/// Bytes that entries with names of these lengths take up.
pub(super) fn encoded_size(name_lengths: impl Iterator<Item = usize>) -> u64 {
    let mut blocks = 0_u64;
    let mut used = 0;
    for length in name_lengths {
        let size = DIRENT_LEN + length;
        if used + size > BLOCK_LEN {
            blocks += 1;
            used = 0;
        }
        used += size;
    }
    blocks * BLOCK_LEN as u64 + used as u64
}

/// Packs sorted entries; every block but the last is padded to its full size.
pub(super) fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = entries;
    while !rest.is_empty() {
        let mut used = 0;
        let fitting = rest
            .iter()
            .take_while(|entry| {
                used += DIRENT_LEN + entry.name.len();
                used <= BLOCK_LEN
            })
            .count();
        let (block, after) = rest.split_at(fitting);
        encode_block(block, &mut out);
        rest = after;
        if !rest.is_empty() {
            out.resize(out.len().next_multiple_of(BLOCK_LEN), 0);
        }
    }
    out
}

/// Appends one block's dirents and names.
fn encode_block(entries: &[Entry], out: &mut Vec<u8>) {
    let mut name_offset = entries.len() * DIRENT_LEN;
    for entry in entries {
        let dirent = Dirent {
            nid: entry.nid.into(),
            name_offset: u16::try_from(name_offset).expect("a block is 4096 bytes").into(),
            file_type: entry.file_type,
            reserved: 0,
        };
        out.extend_from_slice(dirent.as_bytes());
        name_offset += entry.name.len();
    }
    for entry in entries {
        out.extend_from_slice(entry.name);
    }
}

/// Parses one block, or what the directory's size leaves of the last one.
///
/// `None` unless offsets ascend inside the block and names are legal and in ascending order.
pub(super) fn decode_block(block: &[u8]) -> Option<Vec<Entry<'_>>> {
    let (first, _) = Dirent::ref_from_prefix(block).ok()?;
    let names_start = usize::from(first.name_offset.get());
    if names_start == 0 || !names_start.is_multiple_of(DIRENT_LEN) {
        return None;
    }
    let dirents = <[Dirent]>::ref_from_bytes(block.get(..names_start)?).ok()?;
    let mut entries: Vec<Entry> = Vec::with_capacity(dirents.len());
    for (index, dirent) in dirents.iter().enumerate() {
        let start = usize::from(dirent.name_offset.get());
        let name = match dirents.get(index + 1) {
            Some(next) => block.get(start..usize::from(next.name_offset.get()))?,
            None => {
                let rest = block.get(start..)?;
                rest.split(|byte| *byte == 0).next().unwrap_or(rest)
            }
        };
        let legal = (1..=NAME_MAX).contains(&name.len())
            && start >= names_start
            && !name.iter().any(|byte| matches!(byte, 0 | b'/'));
        if !legal || entries.last().is_some_and(|last| last.name >= name) {
            return None;
        }
        entries.push(Entry { name, nid: dirent.nid.get(), file_type: dirent.file_type });
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(names: &[Vec<u8>]) -> Vec<u8> {
        let entries: Vec<Entry> =
            (0..).zip(names).map(|(nid, name)| Entry { name, nid, file_type: 1 }).collect();
        let bytes = encode(&entries);
        assert_eq!(bytes.len() as u64, encoded_size(names.iter().map(Vec::len)));
        bytes
    }

    #[test]
    fn parsing_gives_back_what_was_packed_over_many_blocks() {
        let mut names: Vec<Vec<u8>> = (0..3000_u32)
            .map(|n| format!("{n:0width$}", width = 8 + n as usize % 240).into())
            .collect();
        names.sort();
        let bytes = packed(&names);
        let parsed: Vec<(u64, Vec<u8>)> = bytes
            .chunks(BLOCK_LEN)
            .flat_map(|block| decode_block(block).unwrap())
            .map(|entry| (entry.nid, entry.name.to_vec()))
            .collect();
        assert_eq!(parsed, (0..).zip(names).collect::<Vec<_>>());
    }

    #[test]
    fn a_block_that_is_full_to_the_last_byte_parses() {
        let names: Vec<Vec<u8>> = (0..128_u8).map(|n| vec![b'a', n + 1, 20]).collect();
        let mut names: Vec<Vec<u8>> = names
            .into_iter()
            .map(|mut name| {
                name.resize(20, b'x');
                name.iter_mut().for_each(|byte| *byte = (*byte).max(1));
                if name[1] == b'/' {
                    name[1] = 200;
                }
                name
            })
            .collect();
        names.sort();
        let bytes = packed(&names);
        assert_eq!(bytes.len(), BLOCK_LEN);
        assert_eq!(decode_block(&bytes).unwrap().len(), 128);
    }

    #[test]
    fn no_bytes_make_the_parser_panic() {
        let good = packed(&[b".".to_vec(), b"..".to_vec(), b"name".to_vec()]);
        for position in 0..good.len() {
            for value in [0, 1, 12, 24, 47, 127, 255] {
                let mut bad = good.clone();
                bad[position] = value;
                let _ = decode_block(&bad);
            }
            let _ = decode_block(&good[..position]);
        }
    }

    #[test]
    fn names_out_of_order_are_refused() {
        assert_eq!(decode_block(&packed(&[b"b".to_vec(), b"a".to_vec()])), None);
    }
}
