//! `taxond history`: what was changed, by whom, why, and what it did to the accuracy.

use clap::Args;

use crate::{
    cli::{
        Global,
        connection::Connection,
        failure::Failure,
        json, names,
        output::{self, percent},
    },
    proto::v1::{GetHistoryRequest, HistoryEntry, HistoryVersion, VersionOrigin},
};

/// Largest page that the daemon gives.
const PAGE: u64 = 1000;

/// Spaces before what belongs to a revision.
const INDENT: usize = 4;

#[derive(Debug, Args)]
pub(super) struct History {
    /// The model
    #[arg(value_parser = names::model)]
    model: String,
    /// Entries to print at most, newest first
    #[arg(long, default_value_t = 20, value_name = "N")]
    limit: u64,
}

impl History {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let connection = Connection::open(global).await?;
        let mut client = connection.taxonomy();
        let (mut left, mut page_token) = (self.limit, String::new());
        let mut told = false;
        while left > 0 {
            let page_size = left.min(PAGE) as u32;
            let request = GetHistoryRequest { model: self.model.clone(), page_size, page_token };
            let page = client.get_history(connection.request(request)).await?.into_inner();
            left -= left.min(page.entries.len() as u64);
            for entry in &page.entries {
                told = true;
                match global.json {
                    true => output::json(&json::history_entry(entry))?,
                    false => lines(entry).into_iter().try_for_each(output::line)?,
                }
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        match (global.json, told, page_token.is_empty()) {
            (true, ..) | (false, true, true) => Ok(()),
            (false, false, true) => output::line("no changes; the first training makes the classes"),
            (false, _, false) => output::line("there are more; see --limit"),
        }
    }
}

/// An entry as people read it.
fn lines(entry: &HistoryEntry) -> Vec<String> {
    let by = if entry.author.is_empty() { String::new() } else { format!(" by {}", entry.author) };
    let mut lines =
        vec![format!("revision {}, {}{by}", entry.revision, output::moment(entry.create_time.as_ref()))];
    let because = (!entry.reason.is_empty()).then(|| format!("because: {}", entry.reason));
    let omitted = (entry.omitted_versions > 0)
        .then(|| format!("{} older versions; `taxond versions` lists them", entry.omitted_versions));
    let below = [entry.description.clone()].into_iter().chain(because).chain(omitted);
    let below = below.chain(entry.versions.iter().map(of));
    lines.extend(below.flat_map(|text| output::wrapped(&text, INDENT)));
    lines
}

/// A version, how it came to be, and its accuracy.
fn of(version: &HistoryVersion) -> String {
    let how = match version.origin() {
        VersionOrigin::Training => "learnt".to_owned(),
        VersionOrigin::Undo => "restored".to_owned(),
        VersionOrigin::Import => "imported".to_owned(),
        origin => json::origin(origin),
    };
    let mut line = format!("version {} ({how})", version.number);
    if let Some(accuracy) = version.validation_accuracy {
        line += &format!(": validation accuracy {}", percent(accuracy));
        if let Some(replaced) = version.replaced_validation_accuracy {
            line += &format!(", was {}", percent(replaced));
        }
    }
    if !version.gate.is_empty() && !version.gate.starts_with("promoted") {
        line += &format!("; {}", version.gate);
    }
    if version.serving { line + "; serves now" } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_says_who_what_why_and_what_came_of_it() {
        let version = |number, origin: VersionOrigin| HistoryVersion {
            number,
            origin: origin.into(),
            ..HistoryVersion::default()
        };
        let entry = HistoryEntry {
            revision: 2,
            create_time: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 }),
            author: "ada".into(),
            description: "merge a, b into c".into(),
            reason: "one counter".into(),
            versions: vec![
                HistoryVersion { validation_accuracy: Some(0.95), ..version(2, VersionOrigin::Instant) },
                HistoryVersion {
                    validation_accuracy: Some(0.96),
                    replaced_validation_accuracy: Some(0.95),
                    gate: "promoted: validation accuracy 0.9600, was 0.9500".into(),
                    serving: true,
                    ..version(3, VersionOrigin::Training)
                },
                version(4, VersionOrigin::Undo),
            ],
            ..HistoryEntry::default()
        };
        let expected = [
            "revision 2, 2023-11-14 22:13 by ada",
            "    merge a, b into c",
            "    because: one counter",
            "    version 2 (instant): validation accuracy 95.0 %",
            "    version 3 (learnt): validation accuracy 96.0 %, was 95.0 %; serves now",
            "    version 4 (restored)",
        ];
        assert_eq!(lines(&entry), expected);
    }

    #[test]
    fn long_lists_are_wrapped_at_80_columns() {
        let classes: Vec<String> = (0..40).map(|number| format!("取款 number {number}")).collect();
        let description = format!("add {}", classes.join(", "));
        let entry = HistoryEntry { revision: 2, description: description.clone(), ..HistoryEntry::default() };
        let lines = lines(&entry);
        assert!(lines.len() > 8 && lines[1].starts_with("    add 取款 number 0, ") && lines[1].len() > 60);
        // An ideograph takes two columns.
        let columns = |line: &str| line.chars().map(|c| if c.is_ascii() { 1 } else { 2 }).sum::<usize>();
        assert!(lines.iter().all(|line| columns(line) <= 80), "{lines:#?}");
        assert!(lines[2..].iter().all(|line| line.starts_with("      ") && !line.ends_with(' ')));
        let words: Vec<&str> = lines[1..].iter().flat_map(|line| line.split_whitespace()).collect();
        assert_eq!(words.join(" "), description);
    }
}
