//! The `taxond` program: daemon and command line. Only wires; see the library.

use std::process::ExitCode;

use clap::Parser as _;
use taxond::{
    allocator,
    cli::{self, Cli},
};

fn main() -> ExitCode {
    allocator::keep_little();
    let cli = Cli::parse();
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(cli::run(cli)),
        Err(cause) => {
            eprintln!("error: cannot start the runtime: {cause}");
            ExitCode::FAILURE
        }
    }
}
