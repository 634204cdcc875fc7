//! What becomes of processes: the reports of those that are prepared, and the end of all.

use std::io;

use husk_protocol::{AgentError, AgentErrorKind, ExitStatus, ReplyBody, Stream};
use rustix::process::{WaitOptions, WaitStatus, wait};

use super::Server;
use super::poller::{EventFlags, Source};
use crate::clock;
use crate::container::channel::{self, Report};
use crate::container::error::chain;
use crate::container::stdio::AgentStdio;
use crate::process::{State, exit_code, exit_code_of_failure};
use crate::sys::process::kill;

/// Signal number of `SIGKILL`.
const SIGKILL: i32 = 9;

impl Server {
    /// Takes the reports of a process that is not running yet.
    pub(super) fn channel_ready(&mut self, key: u32) {
        loop {
            let process = self.processes.get(key);
            let Some(channel) = process.and_then(|process| process.state.channel()) else { return };
            match channel::receive(channel) {
                Ok(Report::Prepared { terminal }) => {
                    let wanted = self.processes.get(key).is_some_and(|found| found.stdin_wanted);
                    match terminal.map(|fd| AgentStdio::of_terminal(fd, wanted)).transpose() {
                        Ok(stdio) => self.prepared(key, stdio),
                        Err(error) => self.failed(key, internal("open the terminal", &error)),
                    }
                }
                Ok(Report::Failed(error)) => self.failed(key, error),
                Ok(Report::Closed) => return self.channel_closed(key),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => self.failed(key, internal("hear from the process", &error)),
            }
        }
    }

    /// Takes the ends of children.
    pub(super) fn reap(&mut self) {
        self.children.drain();
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let pid = pid.as_raw_nonzero().get().unsigned_abs();
            // Others are orphans, of whom nobody wants to know.
            if let Some(key) = self.processes.key_of_pid(pid) {
                // Its last words come before its end.
                self.channel_ready(key);
                self.ended(key, status);
            }
        }
    }

    fn prepared(&mut self, key: u32, stdio: Option<AgentStdio>) {
        let Some(process) = self.processes.get(key) else { return };
        match std::mem::replace(&mut process.state, State::Running) {
            State::Preparing { caller, channel } => {
                process.state = State::Prepared { channel };
                if let Some(stdio) = stdio {
                    process.set_stdio(stdio);
                }
                self.watch_streams(key);
                self.reply(caller, ReplyBody::Done);
            }
            // A second report changes nothing.
            other => process.state = other,
        }
    }

    /// Notes why a process does not run. It is answered for when it has ended.
    fn failed(&mut self, key: u32, error: AgentError) {
        self.unwatch_channel(key);
        let Some(process) = self.processes.get(key) else { return };
        process.state = match std::mem::replace(&mut process.state, State::Running) {
            State::Preparing { caller, .. } => State::Failing { caller, error, forget: true },
            State::Starting { caller, .. } => State::Failing { caller, error, forget: false },
            other => other,
        };
        // It ends by itself, unless it is the agent that cannot go on with it.
        let _ = kill(process.pid, SIGKILL);
    }

    fn channel_closed(&mut self, key: u32) {
        self.unwatch_channel(key);
        let Some(process) = self.processes.get(key) else { return };
        match std::mem::replace(&mut process.state, State::Running) {
            State::Starting { caller, .. } => {
                let pid = process.pid;
                self.reply(caller, ReplyBody::Started { pid });
            }
            // It has died, and is answered for when it is reaped.
            other => process.state = other,
        }
    }

    fn ended(&mut self, key: u32, status: WaitStatus) {
        let Some(process) = self.processes.get(key) else { return };
        let code = exit_code(status.exit_status(), status.terminating_signal());
        let failure = match std::mem::replace(&mut process.state, State::Running) {
            State::Preparing { caller, .. } => {
                let message = format!("container's first process ended early with code {code}");
                let error = AgentError { kind: AgentErrorKind::Internal, message };
                Some((caller, error, true))
            }
            State::Failing { caller, error, forget } => Some((caller, error, forget)),
            State::Prepared { .. } | State::Starting { .. } | State::Running => None,
            State::Ended(_) => return,
        };
        if let Some((caller, error, true)) = failure {
            self.forget(key);
            return self.reply(caller, ReplyBody::Error(error));
        }
        let status = ExitStatus {
            code: failure.as_ref().map_or(code, |(_, error, _)| exit_code_of_failure(error.kind)),
            oom_killed: process.container.cgroup.was_oom_killed(),
            exited_at_unix_ns: clock::unix_ns(),
        };
        process.end(status);
        let waiters = std::mem::take(&mut process.waiters);
        let input = process.input().map(|input| [input.successor, input.connection]);
        if let Some((caller, error, _)) = failure {
            self.reply(caller, ReplyBody::Error(error));
        }
        for waiter in waiters {
            self.reply(waiter, ReplyBody::Exited(status));
        }
        for stream in [Stream::Stdout, Stream::Stderr] {
            self.pass_on(key, stream);
        }
        self.watch_input(key);
        for connection in input.into_iter().flatten().flatten() {
            self.close(connection);
        }
    }

    /// Takes a process that never was out of all tables, which frees what its container holds.
    fn forget(&mut self, key: u32) {
        let Some(mut process) = self.processes.remove(key) else { return };
        for stream in [Stream::Stdout, Stream::Stderr] {
            self.poller.forget(Source::Output(key, stream));
            if let Some(id) = process.output(stream).and_then(|output| output.connection) {
                self.close(id);
            }
        }
        self.poller.forget(Source::Input(key));
        let input = process.input().map(|input| [input.successor, input.connection]);
        for connection in input.into_iter().flatten().flatten() {
            self.close(connection);
        }
        let error = AgentError {
            kind: AgentErrorKind::NotFound,
            message: format!("process {} could not be created", process.name),
        };
        for waiter in std::mem::take(&mut process.waiters) {
            self.reply(waiter, ReplyBody::Error(error.clone()));
        }
    }

    /// Watches all streams of a process.
    pub(super) fn watch_streams(&mut self, key: u32) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            self.watch_output(key, stream);
        }
        self.watch_input(key);
    }

    fn unwatch_channel(&mut self, key: u32) {
        let source = Source::Channel(key);
        let process = self.processes.get(key);
        if let Some(channel) = process.and_then(|process| process.state.channel()) {
            // It may not be watched at all.
            let _ = self.poller.watch(source, channel, EventFlags::empty());
        }
        self.poller.forget(source);
    }
}

fn internal(attempt: &str, error: &io::Error) -> AgentError {
    AgentError {
        kind: AgentErrorKind::Internal,
        message: format!("failed to {attempt}: {}", chain(error)),
    }
}
