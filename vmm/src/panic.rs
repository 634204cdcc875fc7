//! A panic on any thread ends the process at once.
//!
//! The VMM does not go on beside a device whose state is unknown, and runs no destructors over it.
//! The engine learns of it as of any other sudden end, with this line as the reason.

use std::io::Write;
use std::panic::PanicHookInfo;
use std::{io, panic, thread};

use rustix::process::{Resource, Rlimit, setrlimit};

use crate::sys::abort;

/// From now on a panic prints one line and aborts: what `panic = "abort"` does, which cargo cannot
/// set for this program alone. No core file is written, by the emulator neither: guest memory would
/// be in it.
pub fn abort_on_panic() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    // Lowering a limit is always allowed.
    let _ = setrlimit(Resource::Core, none);
    panic::set_hook(Box::new(|info| {
        // One write, so that lines of two threads do not mix; nobody is left to hear that it failed.
        let _ = io::stderr().write_all(line(info).as_bytes());
        abort()
    }));
}

fn line(info: &PanicHookInfo<'_>) -> String {
    let message = info.payload_as_str().unwrap_or("no message").replace('\n', " ");
    let place = info.location().map_or_else(|| "an unknown place".into(), ToString::to_string);
    let thread = thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    format!("husk-vmm: thread {thread} panicked at {place}: {message}\n")
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;
    use std::{env, thread};

    use rustix::process::Signal;

    /// Tells the test's own program that it is to panic.
    const PANICS: &str = "HUSK_TEST_PANICS";

    #[test]
    fn a_panic_on_another_thread_is_one_line_and_the_end() {
        if env::var_os(PANICS).is_some() {
            super::abort_on_panic();
            let device = thread::Builder::new().name("device".into());
            let device = device.spawn(|| panic!("two\nlines")).unwrap();
            let _ = device.join();
            return;
        }
        let output = Command::new(env::current_exe().unwrap())
            .args(["--exact", "panic::tests::a_panic_on_another_thread_is_one_line_and_the_end"])
            .arg("--nocapture")
            .env(PANICS, "1")
            .output()
            .unwrap();
        assert_eq!(output.status.signal(), Some(Signal::ABORT.as_raw()));
        let told = String::from_utf8(output.stderr).unwrap();
        let start = "husk-vmm: thread device panicked at vmm/src/panic.rs:";
        assert!(told.starts_with(start) && told.ends_with(": two lines\n"), "{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
}
