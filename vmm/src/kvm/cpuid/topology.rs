//! Which processor is which: one package, a core for every vCPU, no hyper-threads.
//!
//! The guest's scheduler treats vCPUs alike then, which is right: where they run is the host's
//! choice, and changes. APIC identifiers are the vCPUs' numbers.

use kvm_bindings::kvm_cpuid_entry2;

use super::subleaf;

/// The answers of vCPU `number` of `vcpus` (1 to 254), from those that all have in common.
pub(super) fn numbered(
    entries: &[kvm_cpuid_entry2],
    number: u8,
    vcpus: u8,
) -> Vec<kvm_cpuid_entry2> {
    let mut entries = entries.to_vec();
    let id = u32::from(number);
    for entry in &mut entries {
        match entry.function {
            1 => {
                entry.ebx = entry.ebx & 0xffff | u32::from(vcpus) << 16 | id << 24;
                set(&mut entry.edx, 28, vcpus > 1);
            }
            // Caches, and in the upper bits how many cores the package has.
            4 if entry.eax & 0x1f != 0 => {
                let cores = (1 << id_bits(vcpus)) - 1;
                entry.eax = shared_by(entry.eax, vcpus) & !(0x3f << 26) | cores << 26;
            }
            0x8000_0001 => {
                // "Legacy" numbering: processors of a package are cores, not threads.
                set(&mut entry.ecx, 1, vcpus > 1);
            }
            0x8000_0008 => {
                entry.ecx = id_bits(vcpus) << 12 | u32::from(vcpus - 1);
            }
            0x8000_001d => entry.eax = shared_by(entry.eax, vcpus),
            // APIC identifier, core identifier with one thread per core, one node.
            0x8000_001e => (entry.eax, entry.ebx, entry.ecx) = (id, id & 0xff, 0),
            _ => {}
        }
    }
    for function in [0xb, 0x1f] {
        // A level of threads, one in each core; a level of cores, all in one package; no more.
        entries.push(subleaf(function, 0, [0, 1, 1 << 8, id]));
        entries.push(subleaf(function, 1, [id_bits(vcpus), u32::from(vcpus), 2 << 8 | 1, id]));
        entries.push(subleaf(function, 2, [0, 0, 2, id]));
    }
    entries
}

/// Bits that number so many processors.
fn id_bits(vcpus: u8) -> u32 {
    u32::from(vcpus).next_power_of_two().trailing_zeros()
}

/// The first register of a leaf that describes a cache: of the first two levels, each core has
/// its own; the third is one for all.
fn shared_by(eax: u32, vcpus: u8) -> u32 {
    let level = eax >> 5 & 7;
    let others = if level >= 3 { u32::from(vcpus) - 1 } else { 0 };
    eax & !(0xfff << 14) | others << 14
}

fn set(register: &mut u32, bit: u32, value: bool) {
    *register = *register & !(1 << bit) | u32::from(value) << bit;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(entries: &[kvm_cpuid_entry2], function: u32, index: u32) -> kvm_cpuid_entry2 {
        let mut found = entries.iter().filter(|one| one.function == function && one.index == index);
        let entry = *found.next().unwrap();
        assert!(found.next().is_none(), "each leaf once");
        entry
    }

    fn leaves() -> Vec<kvm_cpuid_entry2> {
        let plain = |function| kvm_cpuid_entry2 { flags: 0, ..subleaf(function, 0, [0; 4]) };
        let mut leaves: Vec<_> =
            [1, 0x8000_0001, 0x8000_0008, 0x8000_001e].into_iter().map(plain).collect();
        leaves.push(subleaf(0x8000_001d, 3, [3 << 5 | 0xfff << 14, 0, 0, 0]));
        leaves.push(subleaf(0x8000_001d, 0, [1 << 5 | 0xfff << 14, 0, 0, 0]));
        leaves
    }

    #[test]
    fn every_vcpu_has_a_number_and_all_share_a_package() {
        for (vcpus, bits) in [(1, 0), (2, 1), (3, 2), (4, 2), (17, 5), (32, 5)] {
            for number in 0..vcpus {
                let entries = numbered(&leaves(), number, vcpus);
                let id = u32::from(number);
                let first = find(&entries, 1, 0);
                assert_eq!(first.ebx >> 24, id);
                assert_eq!(first.ebx >> 16 & 0xff, u32::from(vcpus));
                assert_eq!(first.edx >> 28 & 1, u32::from(vcpus > 1));
                for function in [0xb, 0x1f] {
                    let (threads, cores) =
                        (find(&entries, function, 0), find(&entries, function, 1));
                    assert_eq!(
                        (threads.eax, threads.ebx, threads.ecx, threads.edx),
                        (0, 1, 0x100, id)
                    );
                    assert_eq!(
                        (cores.eax, cores.ebx, cores.ecx, cores.edx),
                        (bits, u32::from(vcpus), 0x201, id)
                    );
                    assert_eq!(id >> cores.eax, 0, "one package");
                }
                let size = find(&entries, 0x8000_0008, 0).ecx;
                assert_eq!((size & 0xff, size >> 12), (u32::from(vcpus) - 1, bits));
                assert_eq!(find(&entries, 0x8000_001e, 0).eax, id);
            }
        }
    }

    #[test]
    fn only_the_last_cache_is_shared() {
        let entries = numbered(&leaves(), 0, 4);
        assert_eq!(find(&entries, 0x8000_001d, 0).eax >> 14 & 0xfff, 0);
        assert_eq!(find(&entries, 0x8000_001d, 3).eax >> 14 & 0xfff, 3);
    }
}
