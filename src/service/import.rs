//! The bytes of a version that a client sends.

use tonic::{Request, Response, Status, Streaming};

use super::{Services, caller, convert, name, repeat::Call, status::status, stream};
use crate::{
    error::Error,
    proto::v1,
    registry::{Archive, check_size},
};

impl Services {
    /// Takes in a version: the whole file first, then, where all of it is right, the version.
    pub(super) async fn import(
        &self,
        request: Request<Streaming<v1::ImportVersionRequest>>,
    ) -> Result<Response<v1::ImportVersionResponse>, Status> {
        let (mut requests, caller) = caller::of(request);
        let Some(first) = stream::next(&mut requests).await? else {
            return Err(status(Error::invalid("model", "the stream held no message")));
        };
        let id = name::model(&caller, "model", &first.model).map_err(status)?;
        // The first message stands for the stream: what follows is not there yet.
        let call =
            self.first_or_repeat(&caller, "ImportVersion", &first.request_id, &first).map_err(status)?;
        let version = match call {
            Call::Repeat(kept) => self.blocking(move |services| services.version_of(&caller, &kept)).await?,
            Call::First(receipt, _under_way) => {
                self.registry.model(&id).map_err(status)?;
                let file = receive(first, &mut requests).await?;
                self.blocking(move |services| {
                    let archive = Archive::decode(&file)?;
                    drop(file);
                    services.jobs.while_idle(&id, || services.registry.import(&id, archive, receipt))
                })
                .await?
            }
        };
        Ok(Response::new(v1::ImportVersionResponse { version: Some(convert::version(version)) }))
    }
}

/// The file, from the first message on.
async fn receive(
    first: v1::ImportVersionRequest,
    requests: &mut Streaming<v1::ImportVersionRequest>,
) -> Result<Vec<u8>, Status> {
    let v1::ImportVersionRequest { model, data: mut file, .. } = first;
    check_size(&file).map_err(status)?;
    while let Some(message) = stream::next(requests).await? {
        if !message.model.is_empty() && message.model != model {
            let description =
                format!("must not change within a stream, got '{}'", message.model.escape_debug());
            return Err(status(Error::invalid("model", description)));
        }
        file.extend(message.data);
        check_size(&file).map_err(status)?;
    }
    Ok(file)
}
