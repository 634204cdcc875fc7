//! Entropy of the host.

use std::io;

use super::checked;

/// Fills `bytes` from the kernel's generator, waiting for it only while the host boots.
pub(crate) fn random_bytes(mut bytes: &mut [u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        // SAFETY: the pointer and length name `bytes`, which is borrowed for the whole call.
        let result = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
        match checked(result) {
            Ok(count) => bytes = &mut bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
