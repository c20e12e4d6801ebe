//! Files that come as a stream of messages.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use tonic::Streaming;

use crate::cli::{
    failure::{Exit, Failure},
    outlet::partial,
};

/// Writes the bytes of a stream to a file, to the disk, and returns how many there were. Under its name the file appears only
/// when it is whole.
///
/// # Errors
/// What the daemon said, or that the file cannot be written; nothing is left of it then.
pub(super) async fn to_file<T>(
    out: &Path,
    stream: &mut Streaming<T>,
    bytes: fn(T) -> Vec<u8>,
) -> Result<u64, Failure> {
    let failed = |error: io::Error| Failure::write(out, &error);
    let partial = partial(out);
    let written = async {
        let mut file = File::create(&partial).map_err(failed)?;
        let written = to_writer(&mut file, stream, bytes, failed).await?;
        file.sync_all().map_err(failed)?;
        Ok(written)
    };
    match written.await {
        Ok(written) => {
            fs::rename(&partial, out).map_err(failed)?;
            Ok(written)
        }
        Err(failure) => {
            // A part of a file is of no use; one that cannot be removed is overwritten by the next.
            let _removed = fs::remove_file(&partial);
            Err(failure)
        }
    }
}

/// Writes the bytes of a stream to standard output and returns how many there were.
///
/// # Errors
/// What the daemon said, or that nobody reads.
pub(super) async fn to_stdout<T>(stream: &mut Streaming<T>, bytes: fn(T) -> Vec<u8>) -> Result<u64, Failure> {
    let failed =
        |error: io::Error| Failure::new(Exit::Failed, format!("cannot write standard output: {error}"));
    let mut out = io::stdout();
    let written = to_writer(&mut out, stream, bytes, failed).await?;
    out.flush().map_err(failed)?;
    Ok(written)
}

async fn to_writer<T>(
    out: &mut impl Write,
    stream: &mut Streaming<T>,
    bytes: fn(T) -> Vec<u8>,
    failed: impl Fn(io::Error) -> Failure,
) -> Result<u64, Failure> {
    let mut written = 0;
    while let Some(message) = stream.message().await? {
        let bytes = bytes(message);
        out.write_all(&bytes).map_err(&failed)?;
        written += bytes.len() as u64;
    }
    Ok(written)
}
