//! The bytes of a version that a client sends.

use tonic::{Request, Response, Status, Streaming};

use super::{
    Services, convert, name,
    repeat::Call,
    status::status,
    stream::{Complete, Received, Uploads},
};
use crate::{
    error::Error,
    proto::v1,
    registry::{Archive, Scratch, check_size},
};

impl Services {
    /// Takes in a version: the whole file first, then, where all of it is right, the version.
    pub(super) async fn import(
        &self,
        request: Request<Streaming<v1::ImportVersionRequest>>,
    ) -> Result<Response<v1::ImportVersionResponse>, Status> {
        let (mut uploads, caller) = Uploads::of(request);
        let first = uploads.first().await?;
        let id = name::model(&caller, "model", &first.model).map_err(status)?;
        // The first message stands for the stream: what follows is not there yet.
        let call =
            self.first_or_repeat(&caller, "ImportVersion", &first.request_id, &first).map_err(status)?;
        let version = match call {
            Call::Repeat(kept) => self.blocking(move |services| services.version_of(&caller, &kept)).await?,
            Call::First(receipt, under_way) => {
                self.registry.model(&id).map_err(status)?;
                let (file, _all_came) = self.receive(first, &mut uploads).await?;
                self.blocking(move |services| {
                    // A repeat must not begin before this has ended, be its own client there or not.
                    let _under_way = under_way;
                    // The tensors, and the bytes of one that are written.
                    services.cancel.take_memory(2 * file.length())?;
                    let archive = Archive::read(&file, &services.cancel)?;
                    drop(file);
                    services.jobs.while_idle(&id, || services.registry.import(&id, archive, receipt))
                })
                .await?
            }
        };
        Ok(Response::new(v1::ImportVersionResponse { version: Some(convert::version(version)) }))
    }

    /// The file, from the first message on, and the proof that all of it came. It takes the disk of the store, and no memory.
    async fn receive(
        &self,
        first: v1::ImportVersionRequest,
        uploads: &mut Uploads<v1::ImportVersionRequest>,
    ) -> Result<(Scratch, Complete), Status> {
        let v1::ImportVersionRequest { model, mut data, .. } = first;
        let mut file = self.blocking(|services| services.registry.scratch()).await?;
        // The length of the header.
        let mut begins: Vec<u8> = Vec::with_capacity(size_of::<u64>());
        loop {
            begins.extend(data.iter().take(size_of::<u64>() - begins.len()));
            check_size(file.length() + data.len() as u64, &begins).map_err(status)?;
            file = self
                .blocking(move |_| {
                    file.append(&data)?;
                    Ok(file)
                })
                .await?;
            let message = match uploads.next().await? {
                Received::Message(message) => message,
                Received::End(complete) => return Ok((file, complete)),
            };
            if !message.model.is_empty() && message.model != model {
                let description =
                    format!("must not change within a stream, got '{}'", message.model.escape_debug());
                return Err(status(Error::invalid("model", description)));
            }
            data = message.data;
        }
    }
}
