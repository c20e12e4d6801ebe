//! What goes to the standard output and beside it: tables for people, JSON lines for programs. Everything that a user may have
//! written passes here on its way to a terminal, and what a terminal would obey is made visible.

use std::io::{self, IsTerminal as _, Write as _};

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, TableComponent, presets::NOTHING};
use serde_json::Value;

use crate::{
    cli::failure::Failure,
    text::{visible, visible_json, visible_lines},
};

/// Width of a table where there is no terminal to ask.
const WIDTH: u16 = 80;
/// Wider lines are hard to read.
const MAX_WIDTH: u16 = 120;

/// Prints a line, or several.
pub(crate) fn line(text: impl AsRef<str>) -> Result<(), Failure> {
    Ok(writeln!(io::stdout().lock(), "{}", visible_lines(text.as_ref()))?)
}

/// Prints a JSON document on a line of its own.
pub(crate) fn json(value: &Value) -> Result<(), Failure> {
    Ok(writeln!(io::stdout().lock(), "{}", visible_json(&value.to_string()))?)
}

/// Prints a line, or several, to the standard error, beside what the command answers.
pub(crate) fn aside(text: impl AsRef<str>) {
    eprintln!("{}", visible_lines(text.as_ref()));
}

/// Prints a JSON document to the standard error.
pub(crate) fn json_aside(value: &Value) {
    eprintln!("{}", visible_json(&value.to_string()));
}

/// Rows for a terminal: what it would obey is made visible. Files and pipes get rows as they are.
#[derive(Debug)]
pub(crate) struct Visible<W> {
    to: W,
    /// The beginning of a character that is not whole yet.
    rest: Vec<u8>,
}

impl<W: io::Write> Visible<W> {
    pub(crate) fn new(to: W) -> Self {
        Self { to, rest: Vec::new() }
    }
}

impl<W: io::Write> io::Write for Visible<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.rest.extend_from_slice(bytes);
        // A character has four bytes at most, and its first says how many.
        let tail = self.rest.iter().rev().take(3).position(|byte| *byte >= 0xc0).map_or(0, |at| at + 1);
        let first = self.rest.len() - tail;
        let needs = self.rest.get(first).map_or(0, |byte| byte.leading_ones() as usize);
        let whole = if needs > tail { first } else { self.rest.len() };
        let rest = self.rest.split_off(whole);
        let text = std::mem::replace(&mut self.rest, rest);
        self.to.write_all(visible_lines(&String::from_utf8_lossy(&text)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// A table under construction. Columns whose title begins with `>` are aligned right.
#[derive(Debug)]
pub(crate) struct Rows {
    table: Table,
    indent: &'static str,
}

impl Rows {
    pub(crate) fn new(titles: &[&str]) -> Self {
        let mut table = Table::new();
        table.load_preset(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        table
            .set_style(TableComponent::HeaderLines, '─')
            .set_style(TableComponent::MiddleHeaderIntersections, '─');
        let width = if io::stdout().is_terminal() { table.width() } else { None };
        table.set_width(width.unwrap_or(WIDTH).min(MAX_WIDTH));
        table.set_header(titles.iter().map(|title| title.trim_start_matches('>')));
        let last = titles.len().saturating_sub(1);
        for (index, title) in titles.iter().enumerate() {
            if let Some(column) = table.column_mut(index) {
                // The line below the header makes a column of its own between two others.
                column.set_padding((0, u16::from(index != last)));
                if title.starts_with('>') {
                    column.set_cell_alignment(CellAlignment::Right);
                }
            }
        }
        Self { table, indent: "" }
    }

    /// Puts this before every line.
    pub(crate) fn indented(mut self, indent: &'static str) -> Self {
        let width = self.table.width().unwrap_or(WIDTH).saturating_sub(indent.len() as u16);
        self.table.set_width(width);
        Self { indent, ..self }
    }

    pub(crate) fn push<const N: usize>(&mut self, cells: [String; N]) {
        self.table.add_row(cells.map(|cell| Cell::new(visible(&cell))));
    }

    /// The table as text, or `nothing` if it has no row.
    pub(crate) fn render(&self, nothing: &str) -> String {
        if self.table.is_empty() {
            return nothing.to_owned();
        }
        let lines: Vec<_> =
            self.table.trim_fmt().lines().map(|line| format!("{}{line}", self.indent)).collect();
        lines.join("\n")
    }

    /// Prints the table, or `nothing` if it has no row.
    pub(crate) fn print(&self, nothing: &str) -> Result<(), Failure> {
        line(self.render(nothing))
    }
}

/// A text in lines of at most [`WIDTH`] columns, each after so many spaces, and after two more from the second on.
pub(crate) fn wrapped(text: &str, indent: usize) -> Vec<String> {
    let mut table = Table::new();
    table.load_preset(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    let width = usize::from(WIDTH).saturating_sub(indent + 2);
    table.set_width(u16::try_from(width).unwrap_or(WIDTH)).add_row([visible(text)]);
    if let Some(column) = table.column_mut(0) {
        column.set_padding((0, 0));
    }
    let hanging = |line: usize| if line == 0 { indent } else { indent + 2 };
    let lines = table.trim_fmt();
    lines.lines().enumerate().map(|(at, line)| format!("{}{line}", " ".repeat(hanging(at)))).collect()
}

/// `91.3 %`
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// `91.3 %`, or a dash.
pub(crate) fn percent_or_dash(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), percent)
}

/// `4 ms`, `1.52 s`, `2 min 5 s`
pub(crate) fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 0.1 => format!("{:.1} ms", 1000.0 * s),
        s if s < 1.0 => format!("{:.0} ms", 1000.0 * s),
        s if s < 60.0 => format!("{s:.1} s"),
        s => format!("{} min {} s", s as u64 / 60, s as u64 % 60),
    }
}

/// `1,234,567`
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 example`, `1,234 examples`
pub(crate) fn examples(number: u64) -> String {
    if number == 1 { "1 example".to_owned() } else { format!("{} examples", count(number)) }
}

/// A text as one word of a shell's command line, in quotes where it needs them.
pub(crate) fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:@%+,=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// `1.4 MiB`
pub(crate) fn bytes(number: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if number < 1024 {
        return format!("{number} B");
    }
    let mut value = number as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A moment to the minute, in UTC: `2026-11-24 04:10`
pub(crate) fn moment(time: Option<&prost_types::Timestamp>) -> String {
    let Some(time) = time else { return "-".to_owned() };
    let minute = prost_types::Timestamp { seconds: time.seconds, nanos: 0 }.to_string();
    minute.chars().take("2026-11-24T04:10".len()).collect::<String>().replace('T', " ")
}

/// The beginning of a text on one line, for a table.
pub(crate) fn excerpt(text: &str, chars: usize) -> String {
    let mut words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = words.char_indices().nth(chars) {
        words.truncate(end);
        words.push('…');
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(percent(0.9125), "91.2 %");
        assert_eq!([0.0042, 0.25, 1.52, 125.4].map(seconds), ["4.2 ms", "250 ms", "1.5 s", "2 min 5 s"]);
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([5, 1536, 3 << 20].map(bytes), ["5 B", "1.5 KiB", "3.0 MiB"]);
        let time = prost_types::Timestamp { seconds: 1_700_000_000, nanos: 5 };
        assert_eq!(moment(Some(&time)), "2023-11-14 22:13");
        assert_eq!([1, 1234].map(examples), ["1 example", "1,234 examples"]);
        assert_eq!(
            ["取款", "card lost", "it's", ""].map(shell_word),
            ["取款", "'card lost'", r"'it'\''s'", "''"]
        );
        assert_eq!(excerpt("取 款\n两万", 3), "取 款…");
    }

    #[test]
    fn what_a_terminal_obeys_is_visible_in_tables_lines_and_rows() {
        let mut rows = Rows::new(&["reason"]);
        rows.push(["\u{1b}[31mred\nsecond line".into()]);
        assert_eq!(rows.render("").lines().last(), Some(r"\u{1b}[31mred\nsecond line"));
        assert_eq!(
            wrapped("because: \u{1b}]0;x\u{7}\nby admin", 2),
            [r"  because: \u{1b}]0;x\u{7}\nby admin"]
        );

        // Wherever the bytes are cut.
        let text = "取\t款\u{9b}31m\u{202e}👩\u{1b}\n".as_bytes();
        for cut in 0..text.len() {
            let mut shown = Visible::new(Vec::new());
            shown.write_all(&text[..cut]).unwrap();
            shown.write_all(&text[cut..]).unwrap();
            let shown = String::from_utf8(shown.to).unwrap();
            assert_eq!(shown, "取\t款\\u{9b}31m\\u{202e}👩\\u{1b}\n", "cut at {cut}");
        }
    }

    #[test]
    fn wide_characters_take_two_columns_and_tables_fit() {
        let mut rows = Rows::new(&["class", ">n"]);
        rows.push(["取款两万以下".into(), "7".into()]);
        rows.push(["abcdefghijkl".into(), "12".into()]);
        let text = rows.render("");
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[2], "取款两万以下   7");
        assert_eq!(lines[3], "abcdefghijkl  12");

        let mut rows = Rows::new(&["text", "class"]);
        rows.push(["字".repeat(100), "x".repeat(20)]);
        for line in rows.render("").lines() {
            let width: usize = line.chars().map(|c| if c > '\u{2e80}' { 2 } else { 1 }).sum();
            assert!(width <= 80, "{width}: {line}");
        }
        assert_eq!(Rows::new(&["a"]).render("nothing here"), "nothing here");

        let mut rows = Rows::new(&["a"]).indented("   ");
        rows.push(["b".into()]);
        assert!(rows.render("").lines().all(|line| line.starts_with("   ")));
    }
}
