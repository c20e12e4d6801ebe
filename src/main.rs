//! The `taxond` program: daemon and command line. Only wires; see the library.

use std::{process::ExitCode, time::Duration};

use clap::Parser as _;
use taxond::{
    allocator,
    cli::{self, Cli},
};

/// How long threads of the runtime may go on after everything has ended; one that hangs must not keep the process.
const RUNTIME_ENDS: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    allocator::keep_little();
    let cli = Cli::parse();
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let exit = runtime.block_on(cli::run(cli));
            runtime.shutdown_timeout(RUNTIME_ENDS);
            exit
        }
        Err(cause) => {
            eprintln!("error: cannot start the runtime: {cause}");
            ExitCode::FAILURE
        }
    }
}
