//! The server as a program of its own, see [`dbaas_server`].

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;
use dbaas_server::ServerOptions;

fn main() -> ExitCode {
    match dbaas_server::run(ServerOptions::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A closed standard error is nothing to fail about.
            let _ = writeln!(std::io::stderr(), "dbaas-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}
