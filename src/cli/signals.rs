//! SIGTERM and SIGINT: the first drains, the second exits at once.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::worker::Stopper;

/// How an operating system reports a process that ended by SIGTERM.
const EXIT_AT_ONCE: i32 = 128 + 15;

/// Waits for the first signal, tells the worker to drain, and gives it `bound` to do so.
///
/// # Errors
/// When signals cannot be listened to.
pub(super) async fn obey(stopper: Stopper, bound: Duration) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut next = async || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    next().await;
    tracing::info!(bound_seconds = bound.as_secs(), "stopping: finishing what is in flight");
    stopper.drain();
    let second = async {
        next().await;
        tracing::warn!("second signal: exiting at once; what was in flight comes again");
        std::process::exit(EXIT_AT_ONCE);
    };
    let patience = async {
        crate::clock::wait(bound).await;
        tracing::warn!("not finished within the bound; what is left comes again");
        stopper.abandon();
        // What hangs even now holds nothing that was acknowledged.
        crate::clock::wait(Duration::from_secs(5)).await;
        std::process::exit(0);
    };
    tokio::select! {
        () = second => {}
        () = patience => {}
    }
    Ok(())
}
