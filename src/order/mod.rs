//! The order domain: what a paid order is, parsed once at the border.
//!
//! [`Order::parse`] is the only way to make an [`Order`]; behind it nobody checks again. The
//! payload is kept as it came, unknown fields included, because participants may know what we
//! do not. No broker, no SQL.

mod card;
mod json;
mod payload;

pub use card::masked;
pub use json::parse as parse_json;
pub use payload::{InvalidOrder, Loan, MAX_ID_CHARS, MAX_LINES, MAX_QUANTITY, Order, is_id};
