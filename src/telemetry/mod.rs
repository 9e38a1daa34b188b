//! Named events: the one place from which metrics and logs come.
//!
//! Code elsewhere says *what happened* by calling a method here; the method counts it and,
//! where a human would want to read it, logs it. So a metric's name and labels stand in one
//! file (`metrics.rs`) and dashboards cannot silently break. Labels are low-cardinality: no
//! order, saga or message ids.

pub mod dashboards;
mod events;
mod health;
mod log;
mod metrics;
mod transitions;
mod watched;

pub use events::{Batching, Telemetry, chain};
pub use health::Health;
pub use log::{init as init_logging, is_filter as is_log_filter};
pub use transitions::{Moved, MovedStep, Seen};
pub use watched::Watched;
