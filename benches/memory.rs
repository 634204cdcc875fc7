//! Memory that a VMM costs beside its guest's.

use std::fs;

use anyhow::Context;
use husk_tests::Result;
use rustix::process::Pid;

/// MiB of pages that only these processes have, each by itself, without guest memory.
///
/// # Errors
/// If a process is gone.
pub fn own_mib(pids: &[Pid]) -> Result<f64> {
    pids.iter().try_fold(0.0, |sum, pid| {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps"))
            .with_context(|| format!("failed to read the memory of process {pid}"))?;
        Ok(sum + private_kib(&text)? / 1024.0)
    })
}

/// KiB of all private pages in a `smaps` that are not guest memory: that lies in memfds, in
/// mappings without reserved swap (`nr`), or is a mapped kernel.
fn private_kib(smaps: &str) -> Result<f64> {
    let (mut total, mut mapping, mut is_named_guest) = (0.0, 0.0, false);
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        if first == "VmFlags:" {
            if !is_named_guest && !words.any(|flag| flag == "nr") {
                total += mapping;
            }
        } else if !first.ends_with(':') {
            mapping = 0.0;
            is_named_guest = line.contains("/memfd:") || line.ends_with("/vmlinux");
        } else if first.starts_with("Private_") {
            mapping += words.next().context("a number")?.parse::<f64>()?;
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_memory_is_not_counted() {
        let smaps = "00400000-00600000 r-xp 00000000 fe:00 1 /bin/husk-vmm\n\
                     Private_Clean:         8 kB\nPrivate_Dirty:         4 kB\nVmFlags: rd ex mr\n\
                     7f0000000000-7f0008000000 rw-p 00000000 00:00 0\n\
                     Private_Dirty:     20000 kB\nVmFlags: rd wr mr mw me nr sd\n\
                     7f1000000000-7f1008000000 rw-s 00000000 00:01 1 /memfd:memory (deleted)\n\
                     Private_Dirty:     20000 kB\nVmFlags: rd wr sh mr mw me\n";
        assert!((private_kib(smaps).unwrap() - 12.0).abs() < 1e-9);
    }
}
