//! Being asked to stop: SIGTERM from Kubernetes, SIGINT from a keyboard.
//!
//! The first signal only raises a flag, which the work looks at between episodes; the second ends the process at once, which
//! is safe too, since nothing is ever half-published.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::exit::Exit;

/// Whether the process was asked to stop.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    terminate: Arc<AtomicBool>,
    interrupt: Arc<AtomicBool>,
}

impl Shutdown {
    /// Installs the handlers.
    ///
    /// # Errors
    /// If the system refuses them.
    pub fn install() -> io::Result<Self> {
        let shutdown = Self::default();
        for (signal, raised) in [(SIGTERM, &shutdown.terminate), (SIGINT, &shutdown.interrupt)] {
            // Order matters: the conditional default looks at the flag before this signal raises it.
            flag::register_conditional_default(signal, Arc::clone(raised))?;
            flag::register(signal, Arc::clone(raised))?;
        }
        Ok(shutdown)
    }

    /// How the process should end, if it was asked to.
    #[must_use]
    pub fn requested(&self) -> Option<Exit> {
        if self.terminate.load(Ordering::Relaxed) {
            Some(Exit::Terminated)
        } else if self.interrupt.load(Ordering::Relaxed) {
            Some(Exit::Interrupted)
        } else {
            None
        }
    }
}
