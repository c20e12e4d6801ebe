//! `taxond suggest --labels`

use crate::{
    cli::{
        Global,
        connection::Connection,
        failure::Failure,
        json, names,
        output::{self, Rows, percent},
    },
    proto::v1::{RelabelSuggestion, SuggestRelabelsRequest},
};

/// Prints examples whose label the serving version contradicts, and how to mend the first.
pub(super) async fn run(request: SuggestRelabelsRequest, global: &Global) -> Result<(), Failure> {
    let name = names::short(&request.model).to_owned();
    let connection = Connection::open(global).await?;
    let answer = connection.dataset().suggest_relabels(request).await?.into_inner();
    if global.json {
        return output::json(&json::relabel_suggestions(&answer));
    }
    let mut rows = Rows::new(&[">id", "text", "label", "answer", ">sure", "split"]);
    for suggestion in &answer.suggestions {
        let example = suggestion.example.clone().unwrap_or_default();
        rows.push([
            example.id.to_string(),
            output::excerpt(&example.text, 80),
            example.label.clone(),
            suggestion.answer.clone(),
            percent(suggestion.probability),
            json::split(example.split()),
        ]);
    }
    rows.print("no label is contradicted that surely")?;
    output::line(format!(
        "version {} contradicts {} of {} labels",
        names::last(&answer.version),
        output::count(answer.contradicted),
        output::count(answer.examples)
    ))?;
    match answer.suggestions.first() {
        Some(first) => output::line(format!("if it is right about the first: `{}`", remedy(&name, first))),
        None => Ok(()),
    }
}

/// The command that gives an example the label that was answered.
fn remedy(model: &str, of: &RelabelSuggestion) -> String {
    let id = of.example.as_ref().map_or(0, |example| example.id);
    format!("taxond examples relabel {model} --ids {id} --to {}", output::shell_word(&of.answer))
}
