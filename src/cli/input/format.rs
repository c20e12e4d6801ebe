//! How a file of labelled texts is laid out.

use std::path::Path;

/// How labelled texts are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// RFC 4180, with a header that names the columns
    Csv,
    /// The same, separated by tabs; a quote is a character like any other
    Tsv,
    /// An object a line
    Jsonl,
    /// Apache Parquet
    Parquet,
    /// `__label__NAME` and the text, one a line
    #[value(name = "fasttext")]
    FastText,
    /// A folder with a folder, or a file, a class
    Folder,
}

impl Format {
    /// By the ending of a file's name; nothing where it does not tell.
    pub(crate) fn of(file: &Path) -> Option<Self> {
        match ending(file)?.as_str() {
            "csv" => Some(Self::Csv),
            "tsv" | "tab" => Some(Self::Tsv),
            "jsonl" | "ndjson" => Some(Self::Jsonl),
            "parquet" => Some(Self::Parquet),
            "ft" | "fasttext" => Some(Self::FastText),
            _ => None,
        }
    }

    /// By how the bytes of a file begin; only some formats show themselves.
    pub(super) fn of_bytes(head: &[u8]) -> Option<Self> {
        if head.starts_with(b"PAR1") {
            Some(Self::Parquet)
        } else if head.starts_with(super::fasttext::PREFIX.as_bytes()) {
            Some(Self::FastText)
        } else {
            None
        }
    }
}

/// The ending of a file's name in lower case, that of a compressed file being the one before.
pub(super) fn ending(file: &Path) -> Option<String> {
    let lower = |file: &Path| file.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
    let last = lower(file)?;
    if is_compression(&last) { lower(Path::new(file.file_stem()?)) } else { Some(last) }
}

/// Whether a name that ends so is that of a compressed file.
pub(super) fn is_compression(ending: &str) -> bool {
    matches!(ending.to_ascii_lowercase().as_str(), "gz" | "zst")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_tells_also_behind_that_of_a_compression() {
        for (file, format) in [
            ("a.csv", Some(Format::Csv)),
            ("b/a.x.NDJSON.GZ", Some(Format::Jsonl)),
            ("a.tab.zst", Some(Format::Tsv)),
            ("a.parquet", Some(Format::Parquet)),
            ("a.ft", Some(Format::FastText)),
            ("a.txt", None),
            ("a.gz", None),
            (".gz", None),
            ("-", None),
        ] {
            assert_eq!(Format::of(Path::new(file)), format, "{file}");
        }
    }

    #[test]
    fn some_bytes_tell() {
        assert_eq!(Format::of_bytes(b"PAR1\x15\x04"), Some(Format::Parquet));
        assert_eq!(Format::of_bytes(b"__label__a b"), Some(Format::FastText));
        assert_eq!(Format::of_bytes(b"text,label\n"), None);
    }
}
