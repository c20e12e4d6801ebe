//! `taxond suggest --splits`

use std::{collections::BTreeMap, path::Path};

use crate::{
    cli::{
        Global,
        connection::Connection,
        failure::{Exit, Failure},
        json, names,
        outlet::write_whole,
        output::{self, Rows, count},
    },
    proto::v1::{
        Example, ExampleFilter, ListExamplesRequest, SplitSuggestion, SuggestSplitsRequest, SuggestedPart,
    },
};

/// Largest page that the daemon gives, and the most suggestions.
const PAGE: usize = 1000;

/// What is asked for.
pub(super) struct Wanted<'a> {
    pub(super) model: String,
    pub(super) limit: u32,
    /// Only the class of this name.
    pub(super) class: Option<String>,
    /// Where the first suggestion is written, for `taxond split --file`.
    pub(super) out: Option<&'a Path>,
}

/// Prints classes whose examples form two clusters, and writes the parts of the first to a file if one is named.
pub(super) async fn run(wanted: Wanted<'_>, global: &Global) -> Result<(), Failure> {
    let Wanted { model, limit, class, out } = wanted;
    let name = names::short(&model).to_owned();
    let connection = Connection::open(global).await?;
    let limit = if class.is_some() { PAGE as u32 } else { limit };
    let request = SuggestSplitsRequest { model: model.clone(), limit };
    let mut answer = connection.taxonomy().suggest_splits(request).await?.into_inner();
    if let Some(class) = &class {
        answer.suggestions.retain(|split| split.class_name == *class);
        if answer.suggestions.is_empty() {
            let what = format!("no two clusters were found in a class '{class}' of {name}");
            return Err(Failure::new(Exit::NotFound, what));
        }
    }
    let written = match (out, answer.suggestions.first()) {
        (Some(out), Some(first)) => {
            write(out, first, &texts(&connection, &model, first).await?)?;
            Some(out.display().to_string())
        }
        _ => None,
    };
    if global.json {
        return output::json(&json::split_suggestions(&answer, written.as_deref()));
    }
    let mut rows = Rows::new(&["class", ">apart", ">examples", "part", "for example"]);
    for split in &answer.suggestions {
        for (at, part) in split.parts.iter().enumerate() {
            let first = at == 0;
            rows.push([
                if first { split.class_name.clone() } else { String::new() },
                if first { format!("{:.2}", split.separation) } else { String::new() },
                count(part.example_ids.len() as u64),
                output::excerpt(&part.words.join(", "), 50),
                part.typical.first().map_or_else(String::new, |example| output::excerpt(&example.text, 60)),
            ]);
        }
    }
    rows.print("no class has examples that form two clusters")?;
    output::line(format!(
        "version {}; {} classes with 16 examples or more",
        names::last(&answer.version),
        count(answer.classes)
    ))?;
    match (written, answer.suggestions.first()) {
        (Some(file), Some(first)) => told(&name, first, &file),
        _ => Ok(()),
    }
}

/// Says what to do with a file that was written.
fn told(model: &str, split: &SplitSuggestion, file: &str) -> Result<(), Failure> {
    let [one, other] = part_names(split).map(|name| output::shell_word(&name));
    let (class, file) = (output::shell_word(&split.class_name), output::shell_word(file));
    let read: usize = split.parts.iter().map(|part| part.example_ids.len()).sum();
    let rest = if (read as u64) < split.examples { format!(" --rest {one}") } else { String::new() };
    output::line(format!(
        "name the parts in {file}, then: `taxond split {model} {class} --into {one} --into {other} --file {file}{rest}`"
    ))
}

/// Names that stand for better ones.
fn part_names(split: &SplitSuggestion) -> [String; 2] {
    [1, 2].map(|number| format!("{} {number}", split.class_name))
}

/// The texts of all examples of a suggestion, by id.
async fn texts(
    connection: &Connection,
    model: &str,
    split: &SplitSuggestion,
) -> Result<BTreeMap<u64, String>, Failure> {
    let ids: Vec<u64> = split.parts.iter().flat_map(|part| part.example_ids.iter().copied()).collect();
    let mut texts = BTreeMap::new();
    for ids in ids.chunks(PAGE) {
        let mut page_token = String::new();
        loop {
            let request = ListExamplesRequest {
                model: model.to_owned(),
                filter: Some(ExampleFilter { ids: ids.to_vec(), ..ExampleFilter::default() }),
                page_size: PAGE as u32,
                page_token,
                ..ListExamplesRequest::default()
            };
            let page = connection.dataset().list_examples(connection.request(request)).await?.into_inner();
            texts.extend(page.examples.into_iter().map(|Example { id, text, .. }| (id, text)));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
    }
    Ok(texts)
}

/// Writes the texts of both parts as CSV, each labelled with the name of its part.
fn write(out: &Path, split: &SplitSuggestion, texts: &BTreeMap<u64, String>) -> Result<(), Failure> {
    let rows = || -> csv::Result<Vec<u8>> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(["text", "category"])?;
        for (SuggestedPart { example_ids, .. }, name) in split.parts.iter().zip(part_names(split)) {
            for text in example_ids.iter().filter_map(|id| texts.get(id)) {
                writer.write_record([text, &name])?;
            }
        }
        writer.into_inner().map_err(|error| error.into_error().into())
    };
    let cannot = |e: csv::Error| Failure::new(Exit::Failed, format!("cannot write {}: {e}", out.display()));
    write_whole(out, rows().map_err(cannot)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::input;

    #[test]
    fn what_is_written_is_what_a_split_reads() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("parts.csv");
        let part = |ids: &[u64]| SuggestedPart { example_ids: ids.to_vec(), ..SuggestedPart::default() };
        let parts = vec![part(&[1, 4, 9]), part(&[2])];
        let split = SplitSuggestion { class_name: "cash".into(), parts, ..SplitSuggestion::default() };
        let texts = [(1, "one, \"two\"\nthree"), (2, "取款"), (4, "four")];
        let texts = texts.map(|(id, text)| (id, text.to_owned())).into_iter().collect();
        write(&out, &split, &texts).unwrap();
        let read = input::read(&out, None, false).unwrap().examples;
        let read: Vec<_> = read.iter().map(|row| (row.text.as_str(), row.label.as_str())).collect();
        assert_eq!(read, [("one, \"two\"\nthree", "cash 1"), ("four", "cash 1"), ("取款", "cash 2")]);
        assert!(write(folder.path(), &split, &BTreeMap::new()).is_err());
    }
}
