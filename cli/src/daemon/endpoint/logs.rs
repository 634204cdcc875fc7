//! A container's log, framed as an attached stream is.

use std::fmt::Write as _;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, stream};
use husk_api::{ApiError, ErrorCode};
use husk_engine::{Engine, LogQuery, OutputChunk};
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::super::query::Query;
use super::super::reply::{self, Reply};
use super::super::version::ApiVersion;
use super::attach::{frame_header, media_type};

/// `GET /containers/{id}/logs`.
pub(super) async fn logs(
    engine: &Engine,
    id: &str,
    query: &Query,
    version: ApiVersion,
) -> Result<Reply, ApiError> {
    let wanted = log_query(query)?;
    let (tty, chunks) = engine.logs(id, wanted).await?;
    let stamps = query.flag("timestamps").then(Timestamps::default);
    Ok(reply::stream(media_type(tty, version), body(chunks, tty, stamps)))
}

fn log_query(query: &Query) -> Result<LogQuery, ApiError> {
    let (stdout, stderr) = (query.flag("stdout"), query.flag("stderr"));
    if !stdout && !stderr {
        return Err(ApiError::new(
            ErrorCode::InvalidArgument,
            "Bad parameters: you must choose at least one stream",
        ));
    }
    let tail = match query.text("tail") {
        None | Some("all") => None,
        // A negative number means all, as in dockerd.
        Some(_) => query.number::<i64>("tail")?.and_then(|lines| u64::try_from(lines).ok()),
    };
    Ok(LogQuery {
        stdout,
        stderr,
        follow: query.flag("follow"),
        tail,
        since_unix_ns: query.time("since")?,
        until_unix_ns: query.time("until")?,
    })
}

fn body(
    chunks: mpsc::Receiver<OutputChunk>,
    tty: bool,
    stamps: Option<Timestamps>,
) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send {
    stream::unfold((chunks, stamps), move |(mut chunks, mut stamps)| async move {
        let chunk = chunks.recv().await?;
        let payload = match &mut stamps {
            Some(stamps) => stamps.stamp(&chunk),
            None => chunk.bytes.clone(),
        };
        let framed = if tty { payload } else { framed(chunk.stderr, &payload) };
        Some((Ok(framed), (chunks, stamps)))
    })
}

fn framed(stderr: bool, payload: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(payload.len() + 8);
    frame.extend_from_slice(&frame_header(stderr, payload.len()));
    frame.extend_from_slice(payload);
    frame.freeze()
}

/// Puts the time before each line; a line may span chunks.
#[derive(Debug, Default)]
struct Timestamps {
    /// By stream: whether a line has begun.
    in_line: [bool; 2],
}

impl Timestamps {
    fn stamp(&mut self, chunk: &OutputChunk) -> Bytes {
        let in_line = &mut self.in_line[usize::from(chunk.stderr)];
        let mut stamp = String::new();
        let time = Timestamp::from_nanosecond(i128::from(chunk.time_unix_ns)).unwrap_or_default();
        write!(stamp, "{time:.9} ").expect("a string takes all");
        let mut stamped = BytesMut::with_capacity(chunk.bytes.len() + stamp.len());
        for line in chunk.bytes.split_inclusive(|byte| *byte == b'\n') {
            if !*in_line {
                stamped.extend_from_slice(stamp.as_bytes());
            }
            stamped.extend_from_slice(line);
            *in_line = !line.ends_with(b"\n");
        }
        stamped.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(stderr: bool, text: &'static str) -> OutputChunk {
        OutputChunk { stderr, time_unix_ns: 5, bytes: Bytes::from_static(text.as_bytes()) }
    }

    #[test]
    fn each_line_gets_one_time_even_in_pieces() {
        let mut stamps = Timestamps::default();
        let t = "1970-01-01T00:00:00.000000005Z";
        assert_eq!(stamps.stamp(&chunk(false, "a\nb")), format!("{t} a\n{t} b"));
        assert_eq!(stamps.stamp(&chunk(true, "x\n")), format!("{t} x\n"));
        assert_eq!(stamps.stamp(&chunk(false, "c\n")), "c\n");
        assert_eq!(stamps.stamp(&chunk(false, "\n")), format!("{t} \n"));
    }

    #[test]
    fn tail_is_a_number_or_all() {
        let query = |text: &str| {
            log_query(&Query::of(&format!("/l?stdout=1&{text}").parse().unwrap()).unwrap())
        };
        assert_eq!(query("tail=all").unwrap().tail, None);
        assert_eq!(query("tail=-1").unwrap().tail, None);
        assert_eq!(query("tail=7").unwrap().tail, Some(7));
        assert!(query("tail=x").is_err());
        assert!(log_query(&Query::default()).is_err(), "no stream was chosen");
    }
}
