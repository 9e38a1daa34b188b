//! The pause between attempts at something that is away. (Resends of commands are not this:
//! they are durable timers, decided by the core.)

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use super::wait;

const FIRST: Duration = Duration::from_millis(50);
/// Long enough to leave a database in trouble alone, short enough to be back soon after it.
const LONGEST: Duration = Duration::from_secs(5);

/// Exponential, jittered (so that a hundred workers do not come back at once), without end.
/// It passes in this machine's time, also in a simulation: see [`wait`].
#[derive(Debug)]
pub struct Backoff(ExponentialBackoff);

impl Default for Backoff {
    fn default() -> Backoff {
        let builder = ExponentialBuilder::default();
        Backoff(
            builder
                .with_min_delay(FIRST)
                .with_max_delay(LONGEST)
                .with_jitter()
                .without_max_times()
                .build(),
        )
    }
}

impl Backoff {
    pub async fn wait(&mut self) {
        wait(self.0.next().unwrap_or(LONGEST)).await;
    }

    pub fn reset(&mut self) {
        *self = Backoff::default();
    }
}
