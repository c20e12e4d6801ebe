//! The daemon as a process.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use tonic::transport::Channel;

/// `taxond serve` as a process.
pub struct Process {
    child: Child,
    pub address: String,
}

impl Process {
    /// What starts it over a data folder, on a free port; versions are kept.
    pub fn command(folder: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_taxond"));
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--keep-versions", "0"])
            .args(["--device", "cpu", "--log", "warn", "--data-dir"])
            .arg(folder);
        command
    }

    /// Starts a command and waits until it serves.
    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.next().expect("it starts").unwrap();
        let address = format!("http://{}", line.strip_prefix("listening on ").unwrap());
        Self { child, address }
    }

    pub async fn connect(&self) -> Channel {
        Channel::from_shared(self.address.clone()).unwrap().connect().await.unwrap()
    }

    /// Kills it, and returns when it has ended.
    pub fn kill(self) {
        drop(self);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let (_killed, _ended) = (self.child.kill(), self.child.wait());
    }
}
