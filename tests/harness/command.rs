//! Programs run with a deadline, their input fed and their output kept.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::{Result, pace};

/// How long a program may take unless the story says otherwise: a microVM under software
/// emulation on a busy machine takes seconds. [`pace`] stretches this and all deadlines.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// How long output may stay open after the end of the program that wrote it.
const GRACE: Duration = Duration::from_secs(10);

/// A program about to be run.
#[derive(Debug)]
pub struct Invocation {
    command: Command,
    input: Vec<u8>,
    deadline: Duration,
}

/// A program that runs; dropping it kills it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    description: String,
    started: Instant,
    deadline: Duration,
    stdout: Collected,
    stderr: Collected,
}

/// A program that has ended.
#[derive(Debug)]
pub struct Finished {
    /// Command line, for messages.
    pub description: String,
    /// How it ended.
    pub status: ExitStatus,
    /// All of its standard output.
    pub stdout: Vec<u8>,
    /// All of its standard error.
    pub stderr: Vec<u8>,
    /// From start to end of the process.
    pub elapsed: Duration,
}

impl Invocation {
    /// Wraps a command; input is empty and output is kept.
    #[must_use]
    pub fn new(command: Command) -> Self {
        Self { command, input: Vec::new(), deadline: pace::patience(DEADLINE) }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Feeds these bytes to standard input and closes it.
    #[must_use]
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// Kills the program and fails once this time has passed.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = pace::patience(deadline);
        self
    }

    /// Starts the program.
    ///
    /// # Errors
    /// If it cannot be executed.
    pub fn start(mut self) -> Result<Running> {
        let description = format!("{:?}", self.command);
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            self.command.spawn().with_context(|| format!("failed to start {description}"))?;
        let mut stdin = child.stdin.take().expect("standard input is piped");
        let input = self.input;
        // A program that ends before it has read all is for the story to judge, not the feeder.
        std::thread::spawn(move || drop(stdin.write_all(&input)));
        let stdout = collect(child.stdout.take().expect("standard output is piped"));
        let stderr = collect(child.stderr.take().expect("standard error is piped"));
        Ok(Running {
            child,
            description,
            started: Instant::now(),
            deadline: self.deadline,
            stdout,
            stderr,
        })
    }

    /// Runs the program to its end.
    ///
    /// # Errors
    /// If it cannot be executed, or takes longer than its deadline.
    pub fn run(self) -> Result<Finished> {
        self.start()?.wait()
    }

    /// Runs the program to its end and returns its standard output.
    ///
    /// # Errors
    /// As [`Self::run`], and if it fails.
    pub fn output(self) -> Result<String> {
        self.run()?.succeeded()
    }
}

impl Running {
    /// Its process ID.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Waits until its standard output holds `text`.
    ///
    /// # Errors
    /// If the output ends, or the deadline passes, without it.
    pub fn expect_output(&self, text: &str) -> Result<()> {
        let left = self.deadline.saturating_sub(self.started.elapsed());
        ensure!(
            self.stdout.wait_for(text.as_bytes(), left),
            "no {text:?} in the output of {} but: {} / {}",
            self.description,
            shortened(&self.stdout.peek()),
            shortened(&self.stderr.peek())
        );
        Ok(())
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// If it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(self.pid(), signal)
            .with_context(|| format!("failed to signal {}", self.description))
    }

    /// Waits for its end and all of its output.
    ///
    /// # Errors
    /// If it takes longer than its deadline; it is killed then.
    pub fn wait(mut self) -> Result<Finished> {
        let left = self.deadline.saturating_sub(self.started.elapsed());
        let in_time = ended_within(self.pid(), left)?;
        if !in_time {
            self.child.kill()?;
        }
        let status = self.child.wait()?;
        let elapsed = self.started.elapsed();
        let (stdout, stdout_closed) = self.stdout.take();
        let (stderr, stderr_closed) = self.stderr.take();
        let description = std::mem::take(&mut self.description);
        let finished = Finished { description, status, stdout, stderr, elapsed };
        ensure!(in_time, "no end after {:?}: {}", self.deadline, finished.report());
        let closed = stdout_closed && stderr_closed;
        ensure!(closed, "another process holds its output open: {}", finished.report());
        Ok(finished)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already reaped after `wait`; both are then harmless.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Finished {
    /// Its exit code; 128 + n for signal n.
    #[must_use]
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// Its standard output as text.
    #[must_use]
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Its standard error as text.
    #[must_use]
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Its standard output, if it succeeded.
    ///
    /// # Errors
    /// If its exit code is not 0.
    pub fn succeeded(self) -> Result<String> {
        ensure!(self.status.success(), "failed: {}", self.report());
        Ok(self.out())
    }

    /// Fails unless the exit code is `code`.
    ///
    /// # Errors
    /// If it is another.
    pub fn expect_code(self, code: i32) -> Result<Self> {
        ensure!(self.code() == code, "expected exit code {code}: {}", self.report());
        Ok(self)
    }

    /// Fails unless the exit code is `code` and one line of standard error holds all `parts`.
    ///
    /// # Errors
    /// If not: an error is one line that names the thing and the remedy.
    pub fn expect_error(self, code: i32, parts: &[&str]) -> Result<()> {
        let finished = self.expect_code(code)?;
        let text = finished.err().to_lowercase();
        let says_all = |line: &str| parts.iter().all(|part| line.contains(&part.to_lowercase()));
        ensure!(text.lines().any(says_all), "no line says {parts:?}: {}", finished.report());
        let panicked = text.contains("panicked at") || text.contains("rust_backtrace");
        ensure!(!panicked, "a panic reached the user: {}", finished.report());
        Ok(())
    }

    /// What happened, for a failed story.
    #[must_use]
    pub fn report(&self) -> String {
        format!(
            "{}\n  {} after {:.1} s\n  stdout ({} bytes): {}\n  stderr: {}",
            self.description,
            self.status,
            self.elapsed.as_secs_f32(),
            self.stdout.len(),
            shortened(&self.stdout),
            shortened(&self.stderr),
        )
    }
}

/// Waits until a process has ended, whoever its parent is; false if it still runs after `limit`.
///
/// # Errors
/// If it cannot be watched.
pub fn ended_within(pid: Pid, limit: Duration) -> Result<bool> {
    let fd = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(fd) => fd,
        Err(rustix::io::Errno::SRCH) => return Ok(true),
        Err(error) => return Err(error).context(format!("failed to watch process {pid:?}")),
    };
    let until = Instant::now() + limit;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left)?;
        let mut fds = [PollFd::new(&fd, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Bytes read so far by a thread of its own, and word of the stream's end.
#[derive(Clone, Debug, Default)]
struct Collected {
    state: Arc<(Mutex<Stream>, Condvar)>,
}

#[derive(Debug, Default)]
struct Stream {
    bytes: Vec<u8>,
    closed: bool,
}

impl Collected {
    /// What was read, and whether the stream has ended: it has, once its last holder has closed it.
    fn take(&self) -> (Vec<u8>, bool) {
        self.wait(pace::patience(GRACE), |stream| stream.closed);
        let mut stream = self.lock();
        (std::mem::take(&mut stream.bytes), stream.closed)
    }

    fn peek(&self) -> Vec<u8> {
        self.lock().bytes.clone()
    }

    /// True once the bytes hold `text`; false if they never do.
    fn wait_for(&self, text: &[u8], limit: Duration) -> bool {
        let holds = |stream: &Stream| stream.bytes.windows(text.len()).any(|part| part == text);
        self.wait(limit, |stream| stream.closed || holds(stream));
        holds(&self.lock())
    }

    fn wait(&self, limit: Duration, done: impl Fn(&Stream) -> bool) {
        let (_, changed) = &*self.state;
        let guard = self.lock();
        drop(changed.wait_timeout_while(guard, limit, |stream| !done(stream)));
    }

    fn lock(&self) -> MutexGuard<'_, Stream> {
        self.state.0.lock().expect("no holder panics")
    }

    fn change(&self, change: impl FnOnce(&mut Stream)) {
        change(&mut self.lock());
        self.state.1.notify_all();
    }
}

fn collect(mut input: impl Read + Send + 'static) -> Collected {
    let collected = Collected::default();
    let shared = collected.clone();
    std::thread::spawn(move || {
        let mut chunk = vec![0; 64 << 10];
        while let Ok(length @ 1..) = input.read(&mut chunk) {
            shared.change(|stream| stream.bytes.extend_from_slice(&chunk[..length]));
        }
        shared.change(|stream| stream.closed = true);
    });
    collected
}

/// The end of an output, which is where errors stand.
fn shortened(bytes: &[u8]) -> String {
    const KEPT: usize = 4000;
    let from = bytes.len().saturating_sub(KEPT);
    let text = String::from_utf8_lossy(&bytes[from..]).into_owned();
    if from == 0 { text } else { format!("[…] {text}") }
}
