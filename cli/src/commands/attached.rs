//! A container in the foreground: its streams, its terminal, its signals, its exit code.

use crate::client::{Client, ClientError, Input, PendingWait, Streams, StreamsEnd};
use crate::exit::{self, CommandResult, Failure};
use crate::printer::{self, BROKEN_PIPE_STATUS};
use crate::terminal::detach::DetachKeys;
use crate::terminal::{self, RawMode, Signals};

/// How long a container that failed to start may take to be removed.
const REMOVAL_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

/// How to attach.
#[derive(Debug)]
pub(super) struct Plan {
    /// Standard input too.
    pub(super) stdin: bool,
    /// The container has a terminal.
    pub(super) tty: bool,
    /// What leaves it running.
    pub(super) keys: DetachKeys,
    /// Pass signals on.
    pub(super) sig_proxy: bool,
    /// It is removed at its end.
    pub(super) auto_remove: bool,
}

/// Attaches, starts, and stays until the end; gives back the container's exit code.
pub(super) async fn run(client: &Client, id: &str, plan: Plan) -> CommandResult {
    let failed = |error: std::io::Error| Failure::new(format!("failed to attach: {error}"));
    let attached = client.attach(id, plan.stdin).await?;
    let condition = if plan.auto_remove { "removed" } else { "next-exit" };
    let wait = client.wait(id, condition).await?;
    // Taken before the start: what arrives during it is passed on after it.
    let mut signals = if plan.sig_proxy { Signals::proxied() } else { Signals::ending() };
    let mut window = Signals::window().map_err(failed)?;
    let use_terminal = plan.tty && terminal::stdout_is_terminal();
    let raw = (plan.tty && plan.stdin).then(RawMode::enter).flatten();
    let input = match (plan.stdin, plan.tty) {
        (false, _) => Input::None,
        (true, false) => Input::Plain,
        (true, true) => Input::Watched(plan.keys),
    };
    let mut streams = Streams::start(attached, plan.tty, input).map_err(failed)?;
    if let Err(failure) = start(client, id).await {
        drop(raw);
        if plan.auto_remove {
            let _ = tokio::time::timeout(REMOVAL_TIMEOUT, wait.code()).await;
        }
        return Err(failure);
    }
    if use_terminal {
        resize(client, id).await;
    }
    let signals = signals.as_mut().map_err(|error| Failure::new(error.to_string()))?;
    let end = loop {
        tokio::select! {
            end = streams.end() => break end,
            _ = window.next(), if use_terminal => resize(client, id).await,
            number = signals.next() => {
                if !plan.sig_proxy {
                    drop(raw);
                    return Err(Failure::silent(exit::of_container(128 + i64::from(number))));
                }
                // It may have ended by itself in the meantime.
                let _ = client.kill(id, &number.to_string()).await;
            }
        }
    };
    let result = finish(end, wait).await;
    drop(raw);
    result
}

/// The end of the streams is followed by the exit code, unless the user or the reader left.
async fn finish(end: StreamsEnd, wait: PendingWait) -> CommandResult {
    match end {
        StreamsEnd::Detached => {
            printer::error_line("read escape sequence\r");
            Ok(0)
        }
        StreamsEnd::Output(Err(ClientError::Print(error))) if error.is_broken_pipe() => {
            Err(Failure::silent(BROKEN_PIPE_STATUS))
        }
        StreamsEnd::Output(Err(error)) => Err(error.into()),
        StreamsEnd::Output(Ok(())) => Ok(exit::of_container(wait.code().await?)),
    }
}

/// Starts a container; a command that cannot be executed has an exit status of its own.
pub(super) async fn start(client: &Client, id: &str) -> Result<(), Failure> {
    client.start(id).await.map_err(|error| {
        let status = start_status(&error);
        Failure::with_status(status, error.to_string())
    })
}

/// 127 for a command that is not there, 126 for one that cannot be run, else 125.
fn start_status(error: &ClientError) -> u8 {
    let ClientError::Refused { status: 400, message } = error else { return exit::OWN_FAILURE };
    let says = |texts: &[&str]| texts.iter().any(|text| message.contains(text));
    if says(&["executable file not found", "no such file or directory"]) {
        127
    } else if says(&["permission denied", "is a directory"]) {
        126
    } else {
        exit::OWN_FAILURE
    }
}

/// The container's terminal follows ours; one that ended already needs no size.
async fn resize(client: &Client, id: &str) {
    if let Some((rows, columns)) = terminal::size() {
        let _ = client.resize(id, rows, columns).await;
    }
}

/// Reads `--detach-keys`.
pub(super) fn detach_keys(text: Option<&str>) -> Result<DetachKeys, Failure> {
    match text {
        None => Ok(DetachKeys::default()),
        Some(text) => DetachKeys::parse(text).map_err(|error| Failure::new(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, message: &str) -> ClientError {
        ClientError::Refused { status, message: message.to_owned() }
    }

    #[test]
    fn a_command_that_cannot_run_has_a_status_of_its_own() {
        assert_eq!(
            start_status(&refused(400, "exec: \"x\": executable file not found in $PATH")),
            127
        );
        assert_eq!(start_status(&refused(400, "exec /x: permission denied")), 126);
        assert_eq!(start_status(&refused(400, "exec: \"/etc\": is a directory")), 126);
        assert_eq!(start_status(&refused(500, "vmlinux: no such file or directory")), 125);
    }
}
