//! Raw mode. The former mode comes back when the guard is dropped, and also from the panic hook,
//! for in a binary built to abort on panic nothing is dropped.

use std::sync::{Mutex, Once, PoisonError};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

/// The mode to restore; set exactly while the terminal is raw.
static FORMER: Mutex<Option<Termios>> = Mutex::new(None);

/// Installs the panic hook once.
static HOOK: Once = Once::new();

/// The terminal on standard input is raw as long as this lives.
#[derive(Debug)]
pub(crate) struct RawMode(());

impl RawMode {
    /// Makes the terminal raw; nothing if standard input is none.
    pub(crate) fn enter() -> Option<Self> {
        let stdin = rustix::stdio::stdin();
        let former = tcgetattr(stdin).ok()?;
        HOOK.call_once(restore_on_panic);
        let mut raw = former.clone();
        raw.make_raw();
        *FORMER.lock().unwrap_or_else(PoisonError::into_inner) = Some(former);
        if tcsetattr(stdin, OptionalActions::Now, &raw).is_err() {
            restore();
            return None;
        }
        Some(Self(()))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    if let Some(former) = FORMER.lock().unwrap_or_else(PoisonError::into_inner).take() {
        // A terminal that is gone has no mode.
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &former);
    }
}

fn restore_on_panic() {
    let next = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        restore();
        next(panic);
    }));
}
