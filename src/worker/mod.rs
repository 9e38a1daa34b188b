//! The running pipeline.
