//! Pages of the lists that hold records of several models, cut after what a caller may not see is left out; and the key under
//! which page tokens are sealed.

use prost::Message as _;
use rand::{TryRng as _, rngs::SysRng};

use super::{JobId, JobRecord, Model, ModelId, Registry, key, record::decode};
use crate::{
    error::{Error, Result, nearest},
    proto::storage,
    store::{Batch, Tree},
};

/// Records that are read for one page at most. A page that ends there goes on behind the last of them.
const MAX_READ: usize = 10_000;

impl Registry {
    /// Up to `limit` models by name that pass, from behind `after` on, and the name behind which the next page begins; none
    /// after the last page. A page may hold fewer, even none, and not be the last.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for a damaged record.
    pub fn models_page(
        &self,
        after: Option<&ModelId>,
        limit: usize,
        passes: impl Fn(&ModelId) -> bool,
    ) -> Result<(Vec<Model>, Option<ModelId>)> {
        cut(self.models_after(after), limit, MAX_READ, |model| passes(&model.id), |model| model.id.clone())
    }

    /// Up to `limit` jobs below a number that pass, newest first, and the number below which the next page begins; none
    /// after the last page. A page may hold fewer, even none, and not be the last.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for a damaged record.
    pub fn jobs_page(
        &self,
        before: Option<JobId>,
        limit: usize,
        passes: impl Fn(&JobRecord) -> bool,
    ) -> Result<(Vec<JobRecord>, Option<JobId>)> {
        cut(self.jobs_before(before), limit, MAX_READ, passes, |job| job.id)
    }

    /// The model that passes whose name is nearest to one that does not exist, if any is near.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for a damaged record.
    pub fn nearest_model(
        &self,
        missing: &ModelId,
        passes: impl Fn(&ModelId) -> bool,
    ) -> Result<Option<ModelId>> {
        let models =
            self.all_models().map(|model| model.map(|model| model.id)).collect::<Result<Vec<_>>>()?;
        let found = nearest(missing.as_str(), models.iter().filter(|id| passes(id)).map(ModelId::as_str));
        Ok(found.and_then(|name| ModelId::new(name).ok()))
    }

    /// The secret under which page tokens are sealed: made once, and stored, so that tokens outlast a restart. Where it cannot
    /// be stored it lasts as long as the daemon.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for a damaged record; [`Error::Io`] where the system gives no random bytes.
    pub fn page_key(&self) -> Result<[u8; 32]> {
        let writer = self.writer();
        if let Some(bytes) = self.store.get(Tree::Catalog, key::PAGE_KEY)? {
            let record: storage::PageKey = decode(WHAT, &bytes)?;
            return record.key.try_into().map_err(|_| super::record::damaged(WHAT, "it has another length"));
        }
        let mut key = [0; 32];
        SysRng
            .try_fill_bytes(&mut key)
            .map_err(|cause| Error::io("reading random bytes", std::io::Error::other(cause)))?;
        let mut batch = Batch::freeing();
        let record = storage::PageKey { key: key.to_vec() };
        batch.put(Tree::Catalog, key::PAGE_KEY, record.encode_to_vec());
        if let Err(cause) = self.commit(writer, batch) {
            tracing::warn!(%cause, "page tokens of this daemon end with it: their key cannot be stored");
        }
        Ok(key)
    }
}

const WHAT: &str = "the key of page tokens";

/// Takes what passes, up to `limit`, of at most `most` records, and the position behind which the next page begins.
fn cut<T, P>(
    records: impl Iterator<Item = Result<T>>,
    limit: usize,
    most: usize,
    passes: impl Fn(&T) -> bool,
    position: impl Fn(&T) -> P,
) -> Result<(Vec<T>, Option<P>)> {
    let mut page = Vec::new();
    for (read, record) in records.enumerate() {
        let record = record?;
        let behind = position(&record);
        if passes(&record) {
            page.push(record);
        }
        if page.len() == limit || read + 1 == most {
            return Ok((page, Some(behind)));
        }
    }
    Ok((page, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_filtered_before_it_is_cut() {
        let page = |after: u32, limit, most| {
            let records = (after + 1..=10).map(Ok);
            cut(records, limit, most, |n| n % 3 == 0, |n| *n).unwrap()
        };
        assert_eq!(page(0, 2, 100), (vec![3, 6], Some(6)));
        assert_eq!(page(6, 2, 100), (vec![9], None));
        // Short, and goes on behind what was read.
        assert_eq!(page(0, 2, 4), (vec![3], Some(4)));
        assert_eq!(page(6, 2, 2), (vec![], Some(8)));
    }
}
