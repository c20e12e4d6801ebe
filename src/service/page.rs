//! Pages of lists, and what of a long list fits an answer that has no pages. A page ends by number and by bytes, as a client
//! takes no message that is larger than [`MAX_MESSAGE_BYTES`].

use prost::Message;

use super::MAX_MESSAGE_BYTES;
use crate::error::Result;

/// Bytes of the items of a page at most. The rest of a message is for what stands beside them.
pub(super) const PAGE_BYTES: usize = MAX_MESSAGE_BYTES / 4 * 3;
/// Bytes in front of an item at most: the number of the field and the length.
const PREFIX_BYTES: usize = 7;

/// The items of a page, and the key of the last of them, behind which the next page begins.
pub(super) struct Page<K, T> {
    pub(super) items: Vec<T>,
    last: Option<K>,
    /// Items at most.
    size: usize,
    bytes: usize,
    most_bytes: usize,
    /// Whether an item was turned away.
    ended: bool,
}

impl<K, T: Message> Page<K, T> {
    /// An empty page for so many items.
    pub(super) fn new(size: usize) -> Self {
        Self { items: Vec::new(), last: None, size, bytes: 0, most_bytes: PAGE_BYTES, ended: false }
    }

    /// The same with fewer bytes, where more than usual stands beside the items.
    pub(super) fn within(self, most_bytes: usize) -> Self {
        Self { most_bytes, ..self }
    }

    /// Puts an item on the page. Returns false, without it, where the page has ended before; the first item always fits.
    pub(super) fn push(&mut self, key: K, item: T) -> bool {
        let bytes = item_bytes(&item);
        let fits = self.items.is_empty() || self.bytes + bytes <= self.most_bytes;
        if self.ended || self.items.len() >= self.size || !fits {
            self.ended = true;
            return false;
        }
        self.bytes += bytes;
        self.items.push(item);
        self.last = Some(key);
        true
    }

    /// Puts items on the page until it is full. No more of them is asked for than fit, and one that does not.
    pub(super) fn fill(mut self, items: impl IntoIterator<Item = Result<(K, T)>>) -> Result<Self> {
        let mut items = items.into_iter();
        while self.items.len() < self.size {
            let Some(item) = items.next() else { break };
            let (key, item) = item?;
            if !self.push(key, item) {
                break;
            }
        }
        Ok(self)
    }

    /// The key behind which the next page begins; none where nothing was left for it. A page that is full by number may be the
    /// last all the same.
    pub(super) fn next(&self) -> Option<&K> {
        self.last.as_ref().filter(|_| self.ended || self.items.len() >= self.size)
    }

    /// Whether the page ended before an item that there was still room for by number.
    pub(super) fn ended_by_bytes(&self) -> bool {
        self.ended && self.items.len() < self.size
    }
}

/// Bytes that an item takes in a list.
pub(super) fn item_bytes(item: &impl Message) -> usize {
    item.encoded_len() + PREFIX_BYTES
}

/// The first items of a list, as many as fit so many bytes, and how many were left out. With `always` the first one stays
/// whatever it takes.
pub(super) fn fitting<T>(
    mut items: Vec<T>,
    most_bytes: usize,
    always: bool,
    bytes: impl Fn(&T) -> usize,
) -> (Vec<T>, usize) {
    let (all, mut sum) = (items.len(), 0);
    let fit = items.iter().take_while(|item| {
        sum += bytes(item);
        sum <= most_bytes
    });
    let fit = fit.count().max(usize::from(always && all > 0));
    items.truncate(fit);
    (items, all - fit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1;

    fn example(id: u64, bytes: usize) -> v1::Example {
        v1::Example { id, text: "x".repeat(bytes), ..v1::Example::default() }
    }

    fn page(size: usize, count: u64, bytes: usize) -> Page<u64, v1::Example> {
        let items = (1..=count).map(|id| Ok((id, example(id, bytes))));
        Page::new(size).fill(items).unwrap()
    }

    #[test]
    fn a_page_ends_by_number_and_by_bytes() {
        let by_number = page(10, 25, 10);
        assert_eq!((by_number.items.len(), by_number.next()), (10, Some(&10)));
        assert!(!by_number.ended_by_bytes());
        let by_bytes = page(100, 100, 100_000);
        assert_eq!((by_bytes.items.len(), by_bytes.next()), (31, Some(&31)));
        assert!(by_bytes.ended_by_bytes());
        let response = v1::ListExamplesResponse { examples: by_bytes.items, ..Default::default() };
        assert!(response.encoded_len() <= PAGE_BYTES, "{}", response.encoded_len());
        let all = page(100, 7, 10);
        assert_eq!((all.items.len(), all.next()), (7, None));
        assert_eq!(page(100, 0, 0).next(), None);
    }

    #[test]
    fn every_item_is_on_one_page_whatever_their_size() {
        let sizes = [PAGE_BYTES + 1, 10, 1_000_000, 2_500_000, 900_000, PAGE_BYTES, 1, 1];
        let (mut seen, mut after) = (Vec::new(), 0);
        loop {
            let items = sizes.iter().zip(1..).skip(after as usize);
            let page = Page::new(3).fill(items.map(|(bytes, id)| Ok((id, example(id, *bytes)))));
            let page: Page<u64, _> = page.unwrap();
            seen.extend(page.items.iter().map(|item| item.id));
            let Some(next) = page.next() else { break };
            after = *next;
        }
        assert_eq!(seen, [1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn no_more_is_read_than_fits() {
        let mut read = 0;
        let items = std::iter::repeat_with(|| {
            read += 1;
            Ok((read, example(read, 1 << 20)))
        });
        assert_eq!(Page::new(1000).fill(items).unwrap().items.len(), 2);
        assert_eq!(read, 3);
    }

    #[test]
    fn what_fits_of_a_list_is_counted() {
        let bytes = |item: &usize| *item;
        assert_eq!(fitting(vec![3, 4, 5], 7, true, bytes), (vec![3, 4], 1));
        assert_eq!(fitting(vec![9, 1], 7, true, bytes), (vec![9], 1));
        assert_eq!(fitting(vec![9, 1], 7, false, bytes), (vec![], 2));
        assert_eq!(fitting(Vec::new(), 7, true, bytes), (vec![], 0));
    }
}
