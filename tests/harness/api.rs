//! One Engine API request without a client library: what stands on the wire.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow};

use crate::{Result, pace};

/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// Sends `method path` with an empty or JSON body and returns status and body. HTTP/1.0, so that
/// the answer ends with the connection.
///
/// # Errors
/// If the socket does not answer in time, or not in HTTP.
pub fn request(socket: &Path, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
    let mut stream = UnixStream::connect(socket).context("failed to reach the daemon")?;
    stream.set_read_timeout(Some(pace::patience(DEADLINE)))?;
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: husk\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) =
        answer.split_once("\r\n\r\n").ok_or_else(|| anyhow!("no HTTP answer: {answer:?}"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or_else(|| anyhow!("no HTTP status: {head:?}"))?, body.to_owned()))
}
