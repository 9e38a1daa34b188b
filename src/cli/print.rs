//! Where results are printed, for the whole command line.
//!
//! The standard macros panic when nobody reads any more, as in `makegood order list | head -1`.
//! Whoever closes the pipe has read enough: the rest is dropped, the work is still done, and the
//! exit status still tells how it ended. These take the place of the standard ones, below here.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};

macro_rules! print {
    ($($told:tt)*) => { $crate::cli::print::result(format_args!($($told)*)) };
}

macro_rules! println {
    ($($told:tt)*) => { $crate::cli::print::result(format_args!("{}\n", format_args!($($told)*))) };
}

macro_rules! eprint {
    ($($told:tt)*) => { $crate::cli::print::remark(format_args!($($told)*)) };
}

macro_rules! eprintln {
    ($($told:tt)*) => { $crate::cli::print::remark(format_args!("{}\n", format_args!($($told)*))) };
}

/// Writes to standard output. A result that cannot be written for another reason than a reader
/// who left (a full disk) ends the program: nobody may take the half for the whole.
pub(super) fn result(told: Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    match out.write_fmt(told).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            remark(format_args!("error: the result cannot be written: {error}\n"));
            std::process::exit(1);
        }
        _ => {}
    }
}

/// Writes bytes to standard output as they are.
pub(super) fn bytes(told: &[u8]) {
    let mut out = std::io::stdout().lock();
    match out.write_all(told).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            remark(format_args!("error: the result cannot be written: {error}\n"));
            std::process::exit(1);
        }
        _ => {}
    }
}

/// Writes to standard error, where somebody still reads that.
pub(super) fn remark(told: Arguments<'_>) {
    let _ = std::io::stderr().lock().write_fmt(told);
}
