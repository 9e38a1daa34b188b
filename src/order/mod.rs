//! The order domain: what an order is, parsed once at the border.
