//! The page: HTML with pictures in it, without a script and without anything from elsewhere.

use std::fmt::Write as _;

use svg::node::element::SVG;

use super::{
    Facts,
    answers::Answers,
    curves, heat_map, lineage,
    measures::{self, ClassMeasures},
};
use crate::{
    cli::{
        json, names,
        output::{bytes, count, moment, percent},
    },
    proto::v1::{SuggestMergesResponse, Version},
};

/// Pairs of confused classes that are listed.
const PAIRS: usize = 20;

const STYLE: &str = "\
:root{color-scheme:light}\
body{font:15px/1.5 system-ui,sans-serif;color:#111827;background:#fff;max-width:60rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.6rem;margin:0 0 .3rem}h2{font-size:1.15rem;margin:2.2rem 0 .6rem}\
p{margin:.3rem 0}.note{color:#4b5563}\
table{border-collapse:collapse;font-size:.9rem}th,td{padding:.15rem .8rem .15rem 0;text-align:left;vertical-align:top}\
th{border-bottom:1px solid #9ca3af;font-weight:600}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}\
.row{display:flex;flex-wrap:wrap;gap:1rem}figure{margin:0}.row figure{max-width:460px}figcaption{font-size:.9rem;color:#4b5563}\
svg{max-width:100%;height:auto;font:12px system-ui,sans-serif;fill:#111827}\
.key span{display:inline-block;width:.8em;height:.8em;margin:0 .3em 0 .9em}\
details summary{cursor:pointer}";

/// The page as text.
pub(super) fn html(facts: &Facts) -> String {
    let title = format!("{} of {}", version_word(&facts.version), names::short(&facts.model.name));
    let mut page = String::new();
    page.push_str("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    page.push_str("<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n");
    page.push_str("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n");
    page.push_str(&format!("<title>{}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n", escaped(&title)));
    page.push_str(&format!("<h1>{}</h1>\n", escaped(&title)));
    head(&mut page, facts);
    if let Some(answers) = &facts.answers {
        measured(&mut page, answers, &facts.version);
    }
    learnt(&mut page, &facts.versions);
    came(&mut page, facts);
    if let Some(suggestions) = &facts.suggestions {
        advice(&mut page, suggestions);
    }
    if let Some(answers) = &facts.answers {
        tables(&mut page, answers);
    }
    page.push_str("</body>\n</html>\n");
    page
}

fn head(page: &mut String, facts: &Facts) {
    let Facts { model, version, answers, .. } = facts;
    let serves = model.aliases.get("serving") == Some(&version.number);
    let about = format!(
        "{} classes, {} examples · {}{} on {} · {} parameters, {} · {}",
        count(model.class_count.into()),
        count(model.example_count),
        json::origin(version.origin()),
        if version.reason.is_empty() { String::new() } else { format!(" ({})", version.reason) },
        moment(version.create_time.as_ref()),
        count(version.parameter_count),
        bytes(version.size_bytes),
        if serves { "it serves" } else { "it does not serve" },
    );
    paragraph(page, "", &about);
    match answers {
        Some(answers) => paragraph(page, "", &format!("It answers with {}.", measures::summary(answers))),
        None => paragraph(page, "note", "There is no validation example to measure it on."),
    }
}

fn measured(page: &mut String, answers: &Answers, version: &Version) {
    heading(page, "How sure it is, and how right");
    page.push_str("<div class=\"row\">\n");
    figure(
        page,
        &measures::reliability(answers),
        "Of answers with this confidence, so many are right. Those of a version that knows how sure it may be reach the dashed line.",
    );
    let points = version.report.as_ref().map_or(&[][..], |report| &report.rejection);
    if let Some(curve) = measures::rejection(points) {
        figure(
            page,
            &curve,
            "Refusing unsure answers (min_precision) leaves fewer texts answered, and more of these right.",
        );
    }
    page.push_str("</div>\n");
    let errors = measures::confused(answers);
    heading(page, "What is taken for what");
    if errors.is_empty() {
        paragraph(page, "", "Every answer is right.");
    }
    let (picture, left_out) = heat_map::draw(answers);
    let mut caption = "A row for each label, a column for each answer; blue is right, orange is wrong, and darker is more. Classes that are taken for each other are neighbours.".to_owned();
    if left_out {
        caption += " Only the classes with most wrong answers are drawn.";
    }
    figure(page, &picture, &caption);
}

fn learnt(page: &mut String, versions: &[Version]) {
    let curves = curves::of(versions);
    let pictures = [curves::accuracy(&curves), curves::loss(&curves)];
    if pictures.iter().all(Option::is_none) {
        return;
    }
    heading(page, "How it was learnt");
    page.push_str("<p class=\"key\">");
    for curve in &curves {
        let stage = curve.version.report.as_ref().map_or("", |report| report.stage.as_str());
        let name = format!("version {} {stage}", curve.version.number);
        let _infallible =
            write!(page, "<span style=\"background:{}\"></span>{}", curve.colour, escaped(name.trim()));
    }
    page.push_str("</p>\n<div class=\"row\">\n");
    pictures.iter().flatten().for_each(|picture| figure(page, picture, ""));
    page.push_str("</div>\n");
}

fn came(page: &mut String, facts: &Facts) {
    heading(page, "How it came to be");
    let serving = facts.model.aliases.get("serving").copied();
    let caption = "Versions, the newest first, each with a line from the one it was made of, and the classes it answers in.";
    figure(page, &lineage::draw(&facts.versions, serving, &facts.history), caption);
}

fn advice(page: &mut String, suggestions: &SuggestMergesResponse) {
    heading(page, "Merges that would help");
    if suggestions.suggestions.is_empty() {
        paragraph(page, "", "No pair of classes would gain by a merge.");
        return;
    }
    let rows = suggestions.suggestions.iter().map(|pair| {
        let [first, second] = [0, 1].map(|at| pair.classes.get(at).cloned().unwrap_or_default());
        vec![first, second, percent(pair.accuracy_gain), count(pair.confused)]
    });
    table(page, &["class", "class", ">accuracy gained", ">texts confused"], rows);
}

fn tables(page: &mut String, answers: &Answers) {
    let errors = measures::confused(answers);
    if !errors.is_empty() {
        heading(page, "Most frequent errors");
        let rows = errors.iter().take(PAIRS).map(|(label, answer, number)| {
            vec![(*label).to_owned(), (*answer).to_owned(), count(*number as u64)]
        });
        table(page, &["label", "taken for", ">texts"], rows);
    }
    heading(page, "All classes");
    let mut classes = measures::classes(answers);
    classes.sort_by(|a, b| a.f1().total_cmp(&b.f1()));
    let row = |class: &ClassMeasures| {
        let [precision, recall, f1] = [class.precision(), class.recall(), class.f1()].map(percent);
        vec![class.name.clone(), count(class.labelled as u64), precision, recall, f1]
    };
    table(page, &["class", ">texts", ">precision", ">recall", ">F1"], classes.iter().map(row));
}

fn version_word(version: &Version) -> String {
    format!("Version {}", version.number)
}

fn heading(page: &mut String, text: &str) {
    page.push_str(&format!("<h2>{}</h2>\n", escaped(text)));
}

fn paragraph(page: &mut String, class: &str, text: &str) {
    page.push_str(&format!("<p class=\"{class}\">{}</p>\n", escaped(text)));
}

fn figure(page: &mut String, picture: &SVG, caption: &str) {
    page.push_str(&format!("<figure>\n{picture}\n"));
    if !caption.is_empty() {
        page.push_str(&format!("<figcaption>{}</figcaption>\n", escaped(caption)));
    }
    page.push_str("</figure>\n");
}

/// A table; columns whose title begins with `>` are aligned right.
fn table(page: &mut String, titles: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let class = |title: &str| if title.starts_with('>') { " class=\"n\"" } else { "" };
    page.push_str("<table>\n<thead><tr>");
    for title in titles {
        page.push_str(&format!("<th{}>{}</th>", class(title), escaped(title.trim_start_matches('>'))));
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        page.push_str("<tr>");
        for (cell, title) in row.iter().zip(titles) {
            page.push_str(&format!("<td{}>{}</td>", class(title), escaped(cell)));
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody>\n</table>\n");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
