//! The binary `makegood`. Everything it does is in the library; see `src/cli`.

fn main() {}
