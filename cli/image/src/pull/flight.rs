//! Single flight: work that several pulls want is done once, and told to all of them.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use tokio::sync::watch;

use crate::digest::Digest;
use crate::error::ImageError;

/// Work under way, by what it makes. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub(crate) struct Flights {
    under_way: Arc<Mutex<HashMap<Digest, Listed>>>,
}

/// Work on the list.
struct Listed {
    progress: Arc<watch::Sender<Flight>>,
    alive: watch::Receiver<()>,
}

/// The work's means to tell how far it is. Whatever the work leaves running when it is dropped
/// holds a clone until it is through.
#[derive(Clone)]
pub(crate) struct Pilot {
    progress: Arc<watch::Sender<Flight>>,
    _alive: Arc<watch::Sender<()>>,
}

impl Pilot {
    /// Tells how many bytes there have been.
    pub(crate) fn received(&self, bytes: u64) {
        self.progress.send_modify(|flight| flight.current_bytes = bytes);
    }
}

/// A seat in a flight.
pub(crate) struct Ticket {
    progress: watch::Receiver<Flight>,
    alive: watch::Receiver<()>,
    flight: Weak<watch::Sender<Flight>>,
}

/// Tells when abandoned work has left nothing running.
pub(crate) struct Settling {
    alive: watch::Receiver<()>,
    flight: Weak<watch::Sender<Flight>>,
}

/// How far some work is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flight {
    /// Bytes received.
    pub(crate) current_bytes: u64,
    /// Its end.
    pub(crate) outcome: Option<Result<(), ImageError>>,
}

impl Flights {
    /// Joins the work that makes `key`, or starts it. It is dropped once nobody watches any more. Call it within a tokio executor.
    ///
    /// Work that ended just before counts as not begun: `work` must look first whether what it
    /// makes is there.
    pub(crate) fn join<W, F>(&self, key: Digest, work: W) -> Ticket
    where
        W: FnOnce(Pilot) -> F,
        F: Future<Output = Result<(), ImageError>> + Send + 'static,
    {
        let mut under_way = self.lock();
        if let Some(listed) = under_way.get(&key) {
            return Ticket {
                progress: listed.progress.subscribe(),
                alive: listed.alive.clone(),
                flight: Arc::downgrade(&listed.progress),
            };
        }
        let (sender, progress) = watch::channel(Flight::default());
        let (alive_sender, alive) = watch::channel(());
        let sender = Arc::new(sender);
        let flight = Arc::downgrade(&sender);
        let listed = Listed { progress: Arc::clone(&sender), alive: alive.clone() };
        under_way.insert(key, listed);
        let pilot = Pilot { progress: Arc::clone(&sender), _alive: Arc::new(alive_sender) };
        tokio::spawn(self.clone().fly(key, sender, work(pilot)));
        Ticket { progress, alive, flight }
    }

    async fn fly(
        self,
        key: Digest,
        sender: Arc<watch::Sender<Flight>>,
        work: impl Future<Output = Result<(), ImageError>>,
    ) {
        let entry = Entry { flights: &self, key };
        let mut work = pin!(work);
        let outcome = loop {
            tokio::select! {
                outcome = &mut work => break outcome,
                () = sender.closed() => {
                    let mut under_way = self.lock();
                    // Nobody can join while the lock is held.
                    if sender.receiver_count() == 0 {
                        under_way.remove(&key);
                        std::mem::forget(entry);
                        return;
                    }
                }
            }
        };
        drop(entry);
        sender.send_modify(|flight| flight.outcome = Some(outcome));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, Listed>> {
        self.under_way.lock().expect("no panic while held")
    }
}

impl fmt::Debug for Flights {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Flights").field("under_way", &self.lock().len()).finish()
    }
}

/// Takes the work off the list however it ends, by panic too.
struct Entry<'a> {
    flights: &'a Flights,
    key: Digest,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.flights.lock().remove(&self.key);
    }
}

impl Ticket {
    /// Waits for the end; `on_progress` is called whenever the work got further. Dropping the
    /// future gives the seat up.
    pub(crate) async fn landed(
        mut self,
        mut on_progress: impl FnMut(u64),
    ) -> Result<(), ImageError> {
        loop {
            {
                let state = self.progress.borrow_and_update();
                if let Some(outcome) = &state.outcome {
                    return outcome.clone();
                }
                on_progress(state.current_bytes);
            }
            if self.progress.changed().await.is_err() {
                let ended = "a part of the pull ended unexpectedly".to_owned();
                return Err(ImageError::Internal(ended));
            }
        }
    }

    /// For after the seat was given up.
    pub(crate) fn settling(&self) -> Settling {
        Settling { alive: self.alive.clone(), flight: Weak::clone(&self.flight) }
    }
}

impl Settling {
    /// Waits until the work is over, unless somebody else still wants it.
    pub(crate) async fn settled(mut self) {
        if self.flight.upgrade().is_some_and(|flight| flight.receiver_count() > 0) {
            return;
        }
        while self.alive.changed().await.is_ok() {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::oneshot;

    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().build().unwrap()
    }

    #[test]
    fn eight_joiners_are_one_flight() {
        runtime().block_on(async {
            let (flights, runs) = (Flights::default(), Arc::new(AtomicUsize::new(0)));
            let (go, wait) = oneshot::channel::<()>();
            let mut wait = Some(wait);
            let joined: Vec<_> = (0..8)
                .map(|_| {
                    let (runs, wait) = (Arc::clone(&runs), wait.take());
                    flights.join(Digest::of(b"x"), move |_| async move {
                        runs.fetch_add(1, Ordering::SeqCst);
                        wait.unwrap().await.map_err(|_| unreachable!())
                    })
                })
                .collect();
            go.send(()).unwrap();
            for flight in joined {
                flight.landed(|_| {}).await.unwrap();
            }
            assert_eq!(runs.load(Ordering::SeqCst), 1);
            assert!(flights.lock().is_empty());
        });
    }

    #[test]
    fn work_that_nobody_waits_for_is_dropped() {
        runtime().block_on(async {
            let flights = Flights::default();
            let (held, mut dropped) = oneshot::channel::<()>();
            let flight = flights.join(Digest::of(b"x"), move |_| async move {
                let _held = held;
                std::future::pending().await
            });
            drop(flight);
            while dropped.try_recv() == Err(oneshot::error::TryRecvError::Empty) {
                tokio::task::yield_now().await;
            }
            assert!(flights.lock().is_empty());
        });
    }

    #[test]
    fn failure_reaches_all_and_the_next_one_tries_again() {
        runtime().block_on(async {
            let flights = Flights::default();
            let fail = |_| async { Err(ImageError::Internal("no".to_owned())) };
            let flight = flights.join(Digest::of(b"x"), fail);
            let same = flights.join(Digest::of(b"x"), fail);
            assert!(flight.landed(|_| {}).await.is_err() && same.landed(|_| {}).await.is_err());
            let next = flights.join(Digest::of(b"x"), |_| async { Ok(()) });
            assert!(next.landed(|_| {}).await.is_ok());
        });
    }
}
