//! The guest's console: a device like the others.

use std::io;

use husk_devices::virtio::console::Console;

use crate::accelerator::Group;
use crate::backend::{ConsoleOutput, ConsolePort};
use crate::device_thread::device_tokens;

/// Adds a console behind the last device of the last group.
pub(super) fn with_console(mut groups: Vec<Group>) -> io::Result<(Vec<Group>, ConsoleOutput)> {
    let last = groups.last_mut().ok_or_else(|| io::Error::other("there is no group of devices"))?;
    let (port, output) = ConsolePort::channel(&last.poll, device_tokens(last.devices.len()))?;
    last.devices.push(Box::new(Console::new(port)));
    Ok((groups, output))
}
