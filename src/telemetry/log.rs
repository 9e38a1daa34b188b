//! Logging set-up: JSON lines on standard error, or plain lines for a human at a terminal.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// lapin's warnings quote messages with their bodies: orders, addresses. Ours tell the same
/// without them.
const KEPT_QUIET: &str = "lapin=error";

/// Whether this is a tracing filter such as `info` or `makegood=debug,info`.
#[must_use]
pub fn is_filter(text: &str) -> bool {
    EnvFilter::try_new(text).is_ok()
}

/// Starts logging. `json` is for machines; `filter` is a tracing filter such as `info`.
/// A second call does nothing.
pub fn init(json: bool, filter: &str) {
    let filter = EnvFilter::try_new(format!("{filter},{KEPT_QUIET}"))
        .unwrap_or_else(|_| EnvFilter::new(format!("info,{KEPT_QUIET}")));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .log_internal_errors(false); // where nobody reads the log, nobody reads that; it would panic
    let _ = if json {
        builder.json().flatten_event(true).with_current_span(false).try_init()
    } else {
        builder.with_target(false).try_init()
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_known_from_what_is_none() {
        assert!(is_filter("info") && is_filter("makegood=debug,info"));
        assert!(!is_filter("makegood=loud"));
    }
}
