//! The `tilewright` binary.

use std::process::ExitCode;
use tilewright::session::Session;

fn main() -> ExitCode {
    Session::new().run_cli()
}
