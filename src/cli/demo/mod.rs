//! `taxond demo`: the whole in one command, on a data set that it brings along.
//!
//! A daemon is started on a free port of the loopback and driven over gRPC as any client would: a bank's intents are
//! learnt, asked, two of them merged and asked again, and the result is compared with training anew.

mod amounts;
mod dataset;
mod flow;
mod grammar;
mod report;
mod slips;

use std::{fs, path::PathBuf};

use clap::Args;

pub use dataset::{Dataset, MERGED, WITHDRAWALS, dataset, merged};

use crate::{
    cli::{
        Global,
        connection::Connection,
        failure::{Exit, Failure},
        output,
    },
    config::{Config, Settings},
    server,
};

#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Folder of the store, which must hold no model of the demo yet [default: a temporary one, removed at the end]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where networks run: auto, cpu or cuda:N
    #[arg(long, env = "TAXOND_DEVICE")]
    device: Option<String>,
    /// Seed of the data set and of the training
    #[arg(long, default_value_t = 7, value_name = "N")]
    seed: u64,
    /// Leave the daemon running at the end, until Ctrl-C
    #[arg(long)]
    keep_running: bool,
}

impl Demo {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let folder = Folder::new(self.data_dir.clone())?;
        let config = Config::new(Settings {
            listen: Some("127.0.0.1:0".to_owned()),
            data_dir: Some(folder.path.clone()),
            device: self.device.clone(),
            ..Settings::default()
        })?;
        let running = server::start(config).await?;
        let address = running.address.to_string();
        let result = tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => Err(Failure::new(Exit::Interrupted, "interrupted")),
            result = self.drive(global, &address) => result,
        };
        let stopped = running.stop().await;
        // What the demo found comes first; a fault on the way down is told if there was none before.
        result.and(stopped.map_err(Failure::from))
    }

    async fn drive(&self, global: &Global, address: &str) -> Result<(), Failure> {
        // Credentials that the environment names are for daemons elsewhere.
        let (tls_ca, client_cert, client_key, token, token_file) = (None, None, None, None, None);
        let global = Global {
            addr: format!("http://{address}"),
            tls_ca,
            client_cert,
            client_key,
            token,
            token_file,
            ..global.clone()
        };
        let connection = Connection::open(&global).await?;
        let say = report::Narrator::new(global.json);
        say.line(format!("A daemon serves on {address}."))?;
        let comparison = flow::run(&connection, self.seed, &say).await?;
        if global.json {
            output::json(&comparison.to_json())?;
        } else {
            comparison.print()?;
            report::what_next(address, self.keep_running)?;
        }
        if self.keep_running {
            say.line(format!("\nThe daemon keeps running on {address}; Ctrl-C ends it."))?;
            // Without a handler for Ctrl-C the system ends the process, which is safe as well.
            let _asked = tokio::signal::ctrl_c().await;
        }
        Ok(())
    }
}

/// The folder of the store; a temporary one is removed with this.
struct Folder {
    path: PathBuf,
    temporary: bool,
}

impl Folder {
    fn new(given: Option<PathBuf>) -> Result<Self, Failure> {
        if let Some(path) = given {
            return Ok(Self { path, temporary: false });
        }
        let path = std::env::temp_dir().join(format!("taxond-demo-{}", std::process::id()));
        // The folder must be ours: on a shared machine somebody else may have made one of this name.
        fs::create_dir(&path).map_err(|e| {
            Failure::new(Exit::Failed, format!("cannot make the folder {}: {e}", path.display()))
        })?;
        Ok(Self { path, temporary: true })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.temporary
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            output::aside(format!("cannot remove {}: {error}", self.path.display()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_folder_is_removed_and_a_given_one_kept() {
        let temporary = Folder::new(None).unwrap();
        let path = temporary.path.clone();
        assert!(path.is_dir());
        drop(temporary);
        assert!(!path.exists());

        let kept = tempfile::tempdir().unwrap();
        drop(Folder::new(Some(kept.path().to_owned())).unwrap());
        assert!(kept.path().is_dir());
    }
}
