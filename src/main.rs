//! The `makegood` command. Everything it does is in the library.

fn main() -> std::process::ExitCode {
    makegood::cli::main()
}
