//! The only place that writes to the terminal.
//!
//! A reader that went away (`husk ps | head -1`) ends the command quietly, with the status a
//! shell gives to SIGPIPE.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use crate::multiplex::Output;

/// 128 + SIGPIPE.
pub(crate) const BROKEN_PIPE_STATUS: u8 = 141;

/// Writing failed.
#[derive(Debug, thiserror::Error)]
#[error("failed to write to standard {stream}")]
pub(crate) struct PrintError {
    stream: &'static str,
    #[source]
    source: Errno,
}

impl PrintError {
    /// Whether nobody reads any more.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        self.source == Errno::PIPE
    }
}

/// Prints a line on standard output.
pub(crate) fn line(text: &str) {
    text_out(&format!("{text}\n"));
}

/// Prints text on standard output as it is.
pub(crate) fn text_out(text: &str) {
    if let Err(error) = write(Output::Stdout, text.as_bytes()) {
        end_on(&error);
    }
}

/// Prints a line on standard error; nowhere to complain if that fails.
pub(crate) fn error_line(text: &str) {
    let _ = write(Output::Stderr, format!("{text}\n").as_bytes());
}

/// Writes raw bytes of a container's output.
pub(crate) fn write(output: Output, bytes: &[u8]) -> Result<(), PrintError> {
    let (stream, result) = match output {
        Output::Stdout => ("output", write_all(rustix::stdio::stdout(), bytes)),
        Output::Stderr => ("error", write_all(rustix::stdio::stderr(), bytes)),
    };
    result.map_err(|source| PrintError { stream, source })
}

/// Standard output may be non-blocking when it is shared with another program: wait, then go on.
fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let mut poll =
                    [rustix::event::PollFd::from_borrowed_fd(fd, rustix::event::PollFlags::OUT)];
                match rustix::event::poll(&mut poll, None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(error) => return Err(error),
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Ends the process: what should be printed cannot be.
#[expect(clippy::exit, reason = "nothing can be reported to a reader that is gone")]
fn end_on(error: &PrintError) {
    if error.is_broken_pipe() {
        std::process::exit(i32::from(BROKEN_PIPE_STATUS));
    }
    error_line(&format!("{error}: {}", error.source));
    std::process::exit(1);
}
