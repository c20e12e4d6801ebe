//! fastText: `__label__`, the label, a space and the text, one a line.

use std::io::{self, Write as _};

use super::writer::Write;
use crate::{
    cli::{
        input::fasttext::{PREFIX, is_space, labels},
        outlet::Packer,
    },
    proto::v1::Example,
};

pub(super) struct Writer(pub(super) Packer);

impl Write for Writer {
    fn write(&mut self, example: &Example) -> io::Result<()> {
        writeln!(self.0, "{PREFIX}{} {}", example.label, example.text)
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        self.0.finish()
    }
}

pub(super) fn unfit(example: &Example) -> Option<&'static str> {
    if example.label.contains(is_space) {
        Some("the label holds a space")
    } else if example.text.contains(['\n', '\r']) {
        Some("the text holds the end of a line")
    } else if labels(&example.text).next().is_some() {
        Some("the text holds a word that begins with __label__")
    } else {
        None
    }
}
