//! `dbaas`: instances of PostgreSQL from the command line, over the REST interface; `dbaas server` is the
//! server itself.
//!
//! `dbaas --help` says everything, `dbaas man` prints it as a manual page.

mod arguments;
mod client;
mod commands;
mod config;
mod confirm;
mod failure;
mod passwords;
mod progress;
mod resolve;
mod screen;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use crate::arguments::{Arguments, Command};
use crate::failure::Failure;

fn main() -> ExitCode {
    // A usage error ends the program with 2, which is what the manual says.
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Command::Server(options) => {
            dbaas_server::run(*options).map_err(|error| Failure::failed(format!("{error:#}")))
        }
        Command::Completions { shell } => {
            let mut command = Arguments::command();
            clap_complete::generate(shell, &mut command, "dbaas", &mut std::io::stdout());
            Ok(())
        }
        Command::Contexts(command) => commands::contexts::run(&arguments.global, command),
        Command::Man { page } => commands::manual(page.as_deref()),
        command => on_runtime(command, arguments.global),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}

fn on_runtime(command: Command, global: arguments::Global) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("the runtime did not start: {error}")))?;
    runtime.block_on(commands::run(command, global))
}
