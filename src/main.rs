//! The `makegood` command. Everything it does is in the library.

/// Messages are many small texts made on one thread and freed on another, which the system's
/// allocator is slow at: it took a third of the worker's CPU time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    makegood::cli::main()
}
