//! Code generated from `proto/`: the public API (`v1`), the Open Inference Protocol (`inference`) and the records in the
//! store (`storage`).
#![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]

/// Package `taxond.v1`: messages, clients and servers of the public API.
pub mod v1 {
    tonic::include_proto!("taxond.v1");

    /// The compiled protos, served by reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/taxond.v1.bin"));
}

/// Package `inference`: messages, client and server of the Open Inference Protocol.
pub mod inference {
    tonic::include_proto!("inference");

    /// The compiled proto, served by reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/inference.bin"));
}

/// Package `taxond.storage.v1`: the values in the store.
pub mod storage {
    tonic::include_proto!("taxond.storage.v1");
}
