//! Predict and PredictStream with little protobuf: requests go out as bytes that are there already, and of an answer only
//! what is checked is decoded.

use std::error::Error;

use prost::bytes::{BufMut as _, Bytes};
use tokio_stream::Stream;
use tonic::{
    Request, Status, Streaming,
    client::Grpc,
    codec::{Codec, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstDecoder;

/// A connection.
#[derive(Debug, Clone)]
pub(crate) struct Client(Grpc<Channel>);

/// PredictResponse and PredictStreamResponse, as far as they are read.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Answer {
    /// Predictions, not decoded.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub(crate) predictions: Vec<Bytes>,
    #[prost(string, tag = "2")]
    pub(crate) version: String,
}

impl Answer {
    /// The answer, if it is one to so many texts.
    ///
    /// # Errors
    /// A status of this process that says what is wrong.
    pub(crate) fn checked(self, texts: usize) -> Result<Self, Status> {
        if self.predictions.len() != texts {
            let wrong = format!("{} predictions for {texts} texts", self.predictions.len());
            return Err(Status::data_loss(wrong));
        }
        if let Some(at) = self.predictions.iter().position(Bytes::is_empty) {
            return Err(Status::data_loss(format!("prediction {at} of {texts} is empty")));
        }
        Ok(self)
    }
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// The address is none, or nobody listens there.
    pub(crate) async fn connect(address: &str) -> Result<Self, Box<dyn Error>> {
        let url = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
        let channel = Endpoint::from_shared(url)?.tcp_nodelay(true).connect().await;
        let channel =
            channel.map_err(|cause| format!("cannot connect to {address}: {}", innermost(&cause)))?;
        Ok(Self(Grpc::new(channel)))
    }

    /// Asks with one encoded PredictRequest.
    ///
    /// # Errors
    /// As the daemon says, or the connection.
    pub(crate) async fn predict(&mut self, request: Bytes) -> Result<Answer, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static("/taxond.v1.PredictService/Predict");
        Ok(self.0.unary(Request::new(request), path, Encoded).await?.into_inner())
    }

    /// Opens a stream of encoded PredictStreamRequests.
    ///
    /// # Errors
    /// As the daemon says, or the connection.
    pub(crate) async fn predict_stream(
        &mut self,
        requests: impl Stream<Item = Bytes> + Send + 'static,
    ) -> Result<Streaming<Answer>, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static("/taxond.v1.PredictService/PredictStream");
        Ok(self.0.streaming(Request::new(requests), path, Encoded).await?.into_inner())
    }

    async fn ready(&mut self) -> Result<(), Status> {
        self.0.ready().await.map_err(|cause| Status::unavailable(cause.to_string()))
    }
}

/// What made the others fail.
fn innermost(mut cause: &dyn Error) -> &dyn Error {
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause
}

/// Messages that are encoded before they come here.
#[derive(Debug, Clone, Copy)]
struct Encoded;

impl Codec for Encoded {
    type Encode = Bytes;
    type Decode = Answer;
    type Encoder = Self;
    type Decoder = ProstDecoder<Answer>;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::default()
    }
}

impl Encoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}
