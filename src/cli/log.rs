//! Log lines: what they hold of users is made visible, so that it neither moves a terminal nor pretends to be another line.

use std::{
    fmt,
    io::{self, Write},
};

use tracing::field::Field;
use tracing_subscriber::{
    field::MakeExt as _,
    fmt::{
        FormatFields,
        format::{Writer, debug_fn},
    },
};

use crate::text::{visible, visible_json};

/// Formats the fields of lines for people.
pub(super) fn fields() -> impl for<'writer> FormatFields<'writer> + Send + Sync + 'static {
    debug_fn(field).delimited(" ")
}

fn field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    let text = format!("{value:?}");
    let shown = visible(&text);
    let name = field.name().trim_start_matches("r#");
    if name == "message" {
        return write!(writer, "{shown}");
    }
    if writer.has_ansi_escapes() {
        return write!(writer, "\u{1b}[3m{name}\u{1b}[0m\u{1b}[2m=\u{1b}[0m{shown}");
    }
    write!(writer, "{name}={shown}")
}

/// Where lines of JSON go, each of them in one write: what JSON leaves as it is and a terminal obeys is escaped.
pub(super) struct JsonLines<W>(pub(super) W);

impl<W: Write> Write for JsonLines<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.0.write_all(visible_json(text).as_bytes())?,
            Err(_) => self.0.write_all(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Lines {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    const EVIL: &str = "\u{1b}[31m\u{9b}1m\u{202e}\n2026 INFO all is well";

    fn log() {
        let span = tracing::info_span!("call", model = %EVIL);
        span.in_scope(|| tracing::info!(reason = EVIL, cause = %EVIL, number = 7, "said {EVIL}"));
    }

    #[test]
    fn a_line_stays_one_line_and_moves_no_terminal() {
        let lines = Lines::default();
        let log_to = lines.clone();
        let subscriber =
            tracing_subscriber::fmt().with_writer(log_to).with_ansi(false).fmt_fields(fields()).finish();
        tracing::subscriber::with_default(subscriber, log);
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(text.ends_with('\n') && !text.trim_end().contains(crate::text::is_hidden), "{text:?}");
        let shown = visible(EVIL);
        assert!(
            text.contains(&format!("said {shown} ")) && text.contains(&format!("cause={shown}")),
            "{text}"
        );
        assert!(text.contains("number=7"), "{text}");

        let lines = Lines::default();
        let log_to = lines.clone();
        let subscriber =
            tracing_subscriber::fmt().json().with_writer(move || JsonLines(log_to.clone())).finish();
        tracing::subscriber::with_default(subscriber, log);
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(!text.trim_end().contains(crate::text::is_hidden), "{text:?}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["fields"]["cause"], EVIL);
    }
}
