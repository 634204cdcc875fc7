//! Signals that concern a container in the foreground.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What is passed on to the container's process, by number.
const PROXIED: [i32; 6] = [1, 2, 3, 10, 12, 15];

/// The signals this process was sent, from the moment this is made.
#[derive(Debug)]
pub(crate) struct Signals(Vec<(i32, Signal)>);

impl Signals {
    /// Takes the signals that are passed on.
    pub(crate) fn proxied() -> io::Result<Self> {
        Self::of(&PROXIED)
    }

    /// Takes those that would end this process.
    pub(crate) fn ending() -> io::Result<Self> {
        Self::of(&[1, 15])
    }

    /// Takes the news of a changed window.
    pub(crate) fn window() -> io::Result<Self> {
        Self::of(&[SignalKind::window_change().as_raw_value()])
    }

    fn of(numbers: &[i32]) -> io::Result<Self> {
        let taken: io::Result<Vec<_>> = numbers
            .iter()
            .map(|number| Ok((*number, signal(SignalKind::from_raw(*number))?)))
            .collect();
        taken.map(Self)
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) -> i32 {
        let waits = self.0.iter_mut().map(|(number, signal)| {
            Box::pin(async move {
                signal.recv().await;
                *number
            })
        });
        futures_util::future::select_all(waits).await.0
    }
}
