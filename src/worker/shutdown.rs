//! How the worker is told to stop: first drain, then, if that takes too long, abandon.

use tokio::sync::watch;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Running,
    /// Take in nothing more; finish what is in flight.
    Draining,
    /// Give up what is not finished. It was not acknowledged, so it comes again.
    Abandoned,
}

/// Says stop.
#[derive(Debug)]
pub struct Stopper(watch::Sender<Stage>);

/// Hears it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<Stage>);

/// A pair that is running.
#[must_use]
pub fn shutdown() -> (Stopper, Shutdown) {
    let (sender, receiver) = watch::channel(Stage::Running);
    (Stopper(sender), Shutdown(receiver))
}

impl Stopper {
    pub fn drain(&self) {
        self.advance(Stage::Draining);
    }

    pub fn abandon(&self) {
        self.advance(Stage::Abandoned);
    }

    fn advance(&self, to: Stage) {
        self.0.send_if_modified(|stage| {
            let news = to > *stage;
            *stage = to.max(*stage);
            news
        });
    }
}

impl Shutdown {
    /// Waits for the word to stop. A stopper that is gone without a word counts as one.
    pub async fn stopped(&self) {
        let mut receiver = self.0.clone();
        let _ = receiver.wait_for(|stage| *stage >= Stage::Draining).await;
    }

    #[must_use]
    pub fn is_stopping(&self) -> bool {
        *self.0.borrow() >= Stage::Draining
    }

    /// Whether even what is in flight is to be given up.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        *self.0.borrow() >= Stage::Abandoned
    }
}
