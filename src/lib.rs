//! Makegood takes over a paid order and makes it good.

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
