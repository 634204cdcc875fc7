//! A layer's bytes from the registry into a channel: exactly as many as its descriptor says,
//! resumed where the connection breaks.

use bytes::Bytes;
use reqwest::header::CONTENT_RANGE;
use reqwest::{Response, StatusCode};
use tokio::sync::mpsc;

use super::failure::root_cause;
use super::retry::Backoff;
use super::session::Session;
use crate::error::ImageError;
use crate::manifest::Descriptor;

/// Why a body ended before its time.
struct Interruption(String);

/// Sends the blob's bytes to `sink` and tells `progress` how many there have been. If nobody takes
/// them any more it stops: the taker knows why.
pub(crate) async fn copy_blob(
    session: &Session,
    descriptor: &Descriptor,
    sink: &mpsc::Sender<Bytes>,
    progress: impl Fn(u64),
) -> Result<(), ImageError> {
    let what = format!("layer {}", descriptor.digest);
    let mut received = 0;
    let mut backoff = Backoff::default();
    loop {
        let response = session.blob(descriptor.digest, &what, received).await?;
        let mut body = Body { session, descriptor, skip: 0, received };
        body.skip = body.bytes_to_skip(&response)?;
        let interruption = body.copy(response, sink, &progress).await?;
        received = body.received;
        let Some(Interruption(cause)) = interruption else { return Ok(()) };
        if !backoff.wait(None).await {
            return Err(ImageError::corrupt(
                format!("{what} of {}", session.subject),
                format!(
                    "truncated: registry {} sent {received} of {} bytes ({cause}); try again",
                    session.authority(),
                    descriptor.size
                ),
            ));
        }
    }
}

struct Body<'a> {
    session: &'a Session,
    descriptor: &'a Descriptor,
    /// Bytes at the start that are known already: the registry does not do ranges.
    skip: u64,
    received: u64,
}

impl Body<'_> {
    fn bytes_to_skip(&self, response: &Response) -> Result<u64, ImageError> {
        let is_partial = response.status() == StatusCode::PARTIAL_CONTENT;
        let skip = if is_partial { 0 } else { self.received };
        let announced = response.content_length();
        let expected = self.descriptor.size - self.received + skip;
        if announced.is_some_and(|length| length != expected) {
            return Err(self.wrong_size(&format!("{} bytes", announced.unwrap_or(0))));
        }
        let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
        let wanted = format!("bytes {}-", self.received);
        if is_partial && !range.is_some_and(|range| range.starts_with(&wanted)) {
            return Err(self.wrong_size("another range"));
        }
        Ok(skip)
    }

    async fn copy(
        &mut self,
        mut response: Response,
        sink: &mpsc::Sender<Bytes>,
        progress: &impl Fn(u64),
    ) -> Result<Option<Interruption>, ImageError> {
        loop {
            let mut chunk = match response.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) if self.received == self.descriptor.size => return Ok(None),
                Ok(None) => return Ok(Some(Interruption("the stream ended".to_owned()))),
                Err(error) => return Ok(Some(Interruption(root_cause(&error)))),
            };
            let length = u64::try_from(chunk.len()).expect("a length fits");
            let known = self.skip.min(length);
            self.skip -= known;
            let fresh = chunk.split_off(usize::try_from(known).expect("at most a length"));
            let length = length - known;
            if self.received + length > self.descriptor.size {
                return Err(self.wrong_size("more"));
            }
            if length == 0 {
                continue;
            }
            self.received += length;
            progress(self.received);
            if sink.send(fresh).await.is_err() {
                return Ok(None);
            }
        }
    }

    fn wrong_size(&self, found: &str) -> ImageError {
        ImageError::corrupt(
            format!("layer {} of {}", self.descriptor.digest, self.session.subject),
            format!(
                "wrong size: its manifest says {} bytes, registry {} sends {found}",
                self.descriptor.size,
                self.session.authority()
            ),
        )
    }
}
