//! Named events, metrics and logs.
