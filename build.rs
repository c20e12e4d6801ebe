//! Compiles the protos with protox (a protobuf compiler in Rust, so that no `protoc` is needed) and writes the
//! descriptor sets that reflection serves.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

const INFERENCE: [&str; 1] = ["inference/grpc_inference_service.proto"];
const API: [&str; 8] = [
    "taxond/v1/admin_service.proto",
    "taxond/v1/dataset_service.proto",
    "taxond/v1/job.proto",
    "taxond/v1/manifest.proto",
    "taxond/v1/predict_service.proto",
    "taxond/v1/registry_service.proto",
    "taxond/v1/taxonomy_service.proto",
    "taxond/v1/training_service.proto",
];
const STORAGE: [&str; 1] = ["taxond/storage/v1/storage.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    // tonic-prost-build names no files; without these lines every build would compile again.
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=proto");

    let out = PathBuf::from(env::var("OUT_DIR")?);
    for (served, name) in [(&API[..], "taxond.v1.bin"), (&INFERENCE[..], "inference.bin")] {
        let protos = protox::compile(served, ["proto"])?;
        fs::write(out.join(name), protos.encode_to_vec())?;
        tonic_prost_build::configure().compile_fds(protos)?;
    }

    let storage = protox::compile(STORAGE, ["proto"])?;
    tonic_prost_build::configure().build_client(false).build_server(false).compile_fds(storage)?;
    Ok(())
}
