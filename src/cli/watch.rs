//! `taxond watch`

use clap::Args;
use tokio_stream::StreamExt as _;

use crate::{
    cli::{Global, connection::Connection, failure::Failure, follow::Follower, names},
    proto::v1::WatchJobRequest,
};

#[derive(Debug, Args)]
pub(super) struct Watch {
    /// The job: 3 or jobs/3
    #[arg(value_parser = names::job)]
    job: String,
}

impl Watch {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let connection = Connection::open(global).await?;
        let events = connection.training().watch_job(WatchJobRequest { name: self.job }).await?.into_inner();
        let events = events.map(|response| response.map(|response| response.event.unwrap_or_default()));
        Follower::new(global.json).follow(events).await.map(drop)
    }
}
