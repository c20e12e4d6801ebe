//! A server of PredictService that computes nothing, set up as the daemon is: the floor under every figure.

use std::{error::Error, net::SocketAddr, time::Duration};

use clap::Args;
use taxond::{
    proto::v1::{
        PredictRequest, PredictResponse, PredictStreamRequest, PredictStreamResponse, Prediction,
        ScoredClass,
        predict_service_server::{PredictService, PredictServiceServer},
    },
    service::MAX_MESSAGE_BYTES,
};
use tokio::net::TcpListener;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{
    Request, Response, Status, Streaming, async_trait,
    service::Routes,
    transport::{Server, server::TcpIncoming},
};

const MAX_STREAMS: u32 = 128;
const MAX_RESETS: usize = 1024;
const KEEPALIVE: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
pub(crate) struct ServeEcho {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:50070")]
    addr: SocketAddr,
}

impl ServeEcho {
    /// Serves until the process is ended. Prints the bound address, as the daemon does.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub(crate) async fn run(self) -> Result<(), Box<dyn Error>> {
        let listener = TcpListener::bind(self.addr).await?;
        println!("listening on {}", listener.local_addr()?);
        let service = PredictServiceServer::new(Echo)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let server = Server::builder()
            .max_concurrent_streams(MAX_STREAMS)
            .http2_max_local_error_reset_streams(Some(MAX_RESETS))
            .http2_keepalive_interval(Some(KEEPALIVE))
            .trace_fn(|request| tracing::info_span!("rpc", path = request.uri().path()))
            .add_routes(Routes::new(service));
        Ok(server.serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true))).await?)
    }
}

/// Says the same to every text.
#[derive(Debug)]
struct Echo;

fn predictions(texts: &[String]) -> Vec<Prediction> {
    let class = ScoredClass {
        name: "card_payment_not_recognised".into(),
        id: 16,
        probability: 0.9731,
        ..ScoredClass::default()
    };
    let prediction = Prediction { classes: vec![class], token_count: 12, ..Prediction::default() };
    vec![prediction; texts.len()]
}

const VERSION: &str = "models/echo/versions/1";

#[async_trait]
impl PredictService for Echo {
    async fn predict(&self, request: Request<PredictRequest>) -> Result<Response<PredictResponse>, Status> {
        Ok(Response::new(PredictResponse {
            predictions: predictions(&request.get_ref().texts),
            version: VERSION.into(),
            manifest_revision: 1,
            ..PredictResponse::default()
        }))
    }

    type PredictStreamStream = Box<dyn Stream<Item = Result<PredictStreamResponse, Status>> + Send + Unpin>;

    async fn predict_stream(
        &self,
        request: Request<Streaming<PredictStreamRequest>>,
    ) -> Result<Response<Self::PredictStreamStream>, Status> {
        let answer = |message: PredictStreamRequest| PredictStreamResponse {
            predictions: predictions(&message.texts),
            version: VERSION.into(),
            manifest_revision: 1,
            ..PredictStreamResponse::default()
        };
        Ok(Response::new(Box::new(request.into_inner().map(move |message| message.map(answer)))))
    }
}
