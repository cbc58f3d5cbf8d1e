//! `etl completions SHELL`: the script that makes a shell complete `etl`.

use std::io;

use clap::CommandFactory;
use clap_complete::Shell;

use super::args::Cli;
use crate::exit::Exit;

/// Prints the completion script of `shell` to stdout.
pub(super) fn print(shell: Shell) -> Exit {
    clap_complete::generate(shell, &mut Cli::command(), "etl", &mut io::stdout().lock());
    Exit::Delivered
}
