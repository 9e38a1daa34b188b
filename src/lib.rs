//! Makegood takes over a paid order and makes it good.

// Clocks, sleeps and unseeded randomness have one door each: .clippy.toml names them.
#![deny(clippy::disallowed_methods)]
// expect() says why it cannot fail.
#![warn(clippy::unwrap_used)]
// Logs are named events (telemetry); only the command line prints.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod broker;
pub mod catalog;
pub mod cli;
pub mod clock;
pub mod config;
pub mod fixture;
pub mod http;
pub mod operate;
pub mod order;
pub mod saga;
pub mod store;
pub mod telemetry;
pub mod worker;
