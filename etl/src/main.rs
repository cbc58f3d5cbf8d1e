//! The `etl` binary: everything is in the library.

fn main() -> std::process::ExitCode {
    etl::cli::main().into()
}
