//! What tells that a file is as it was written.

/// Its key among the metadata.
pub(super) const CHECKSUM: &str = "taxond.checksum";

/// Every part is preceded by its length, so that no two contents look alike.
pub(super) struct Checksum(blake3::Hasher);

impl Checksum {
    pub(super) fn of<'a>(metadata: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut sum = Self(blake3::Hasher::new());
        for (key, value) in metadata {
            sum.text(key);
            sum.text(value);
        }
        sum
    }

    pub(super) fn text(&mut self, text: &str) {
        self.bytes(&(text.len() as u64).to_le_bytes());
        self.bytes(text.as_bytes());
    }

    /// The numbers, whose count follows from the shape, come next.
    pub(super) fn tensor(&mut self, name: &str, shape: &[usize]) {
        self.text(name);
        self.bytes(&(shape.len() as u64).to_le_bytes());
        shape.iter().for_each(|&extent| self.bytes(&(extent as u64).to_le_bytes()));
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(super) fn finish(&self) -> String {
        self.0.finalize().to_hex().to_string()
    }
}
