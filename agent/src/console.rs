//! One line on the guest's console, when something failed that nobody asked about.

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write;

/// Bytes of a line at most: the kernel's log takes records of about a kilobyte.
const LINE_MAX: usize = 900;

/// Writes an error to the kernel's log, which the console shows.
pub fn error(message: impl Display) {
    // The level 3 is KERN_ERR. Where there is no log, there is nobody to tell.
    let line = format!("<3>husk-agent: {message}").replace('\n', " ");
    let end = line.floor_char_boundary(LINE_MAX);
    if let Ok(mut log) = OpenOptions::new().write(true).open("/dev/kmsg") {
        let _ = log.write_all(&line.as_bytes()[..end]);
    }
}
