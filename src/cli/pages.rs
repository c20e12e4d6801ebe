//! What the daemon gives page by page, put together again.

use crate::{
    cli::{connection::Connection, failure::Failure},
    proto::v1::{GetManifestRequest, GetStatsRequest, GetStatsResponse, Manifest},
};

/// A manifest with all its classes.
pub(in crate::cli) async fn manifest(connection: &Connection, name: &str) -> Result<Manifest, Failure> {
    let mut client = connection.taxonomy();
    let mut whole: Option<Manifest> = None;
    let mut page_token = String::new();
    loop {
        let request = connection.request(GetManifestRequest { name: name.to_owned(), page_token });
        let page = client.get_manifest(request).await?.into_inner();
        let manifest = page.manifest.unwrap_or_default();
        match &mut whole {
            Some(whole) => whole.classes.extend(manifest.classes),
            None => whole = Some(manifest),
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(whole.unwrap_or_default());
        }
    }
}

/// The counts of a data set with those of all its labels.
pub(in crate::cli) async fn stats(connection: &Connection, model: &str) -> Result<GetStatsResponse, Failure> {
    let mut client = connection.dataset();
    let request = |page_token| connection.request(GetStatsRequest { model: model.to_owned(), page_token });
    let mut whole = client.get_stats(request(String::new())).await?.into_inner();
    while !whole.next_page_token.is_empty() {
        let page = client.get_stats(request(whole.next_page_token)).await?.into_inner();
        whole.labels.extend(page.labels);
        whole.next_page_token = page.next_page_token;
    }
    Ok(whole)
}
