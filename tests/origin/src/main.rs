//! The test origin as a program: `longhaul-origin --config hosts.json [--listen-port N]`.
//!
//! Prints one line of JSON when it is ready (port, admin URL, hosts with their URLs) and runs until it is
//! interrupted or `POST /shutdown` is sent to its admin address.

use std::io::{self, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    match longhaul_origin::run_program(std::env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With a broken standard error there is nobody left to tell.
            let _untold = writeln!(io::stderr(), "longhaul-origin: {error}");
            ExitCode::FAILURE
        }
    }
}
