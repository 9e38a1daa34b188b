//! Logging set-up: JSON lines on standard error, or plain lines for a human at a terminal.

use tracing_subscriber::EnvFilter;

/// Starts logging. `json` is for machines; `filter` is a tracing filter such as `info`.
/// A second call does nothing.
pub fn init(json: bool, filter: &str) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let _ = if json {
        builder.json().flatten_event(true).with_current_span(false).try_init()
    } else {
        builder.with_target(false).try_init()
    };
}
