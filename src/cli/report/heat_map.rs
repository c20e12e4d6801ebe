//! Which classes are taken for which, as squares.

use std::collections::{BTreeMap, BTreeSet};

use svg::node::element::{Group, Rectangle, SVG, Title};

use super::{
    answers::Answers,
    chart::{line, picture, rounded, text},
    order::by_similarity,
};
use crate::cli::output::excerpt;

/// Classes that are drawn at most: those that most answers are wrong about.
const MOST: usize = 100;
/// Characters of a name.
const NAME: usize = 28;
/// Pixels of a name of that length, and of the smallest and the largest square.
const MARGIN: f64 = 170.0;
const SQUARE: (f64, f64) = (9.0, 26.0);
/// Pixels that all squares together take if they may.
const WIDTH: f64 = 640.0;

/// The labels from the top, the answers from the left. Whether classes were left out, as there are too many, is told beside it.
pub(super) fn draw(answers: &Answers) -> (SVG, bool) {
    let counts = answers.counts();
    let (names, left_out) = drawn(&counts);
    let at: BTreeMap<&str, usize> = names.iter().enumerate().map(|(at, name)| (*name, at)).collect();
    let mut pairs: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    for (&(label, answer), &number) in counts.iter().filter(|((label, answer), _)| label != answer) {
        if let (Some(&one), Some(&other)) = (at.get(label), at.get(answer)) {
            *pairs.entry((one.min(other), one.max(other))).or_default() += number;
        }
    }
    let order = by_similarity(names.len(), &pairs);
    let place: BTreeMap<&str, usize> =
        order.iter().enumerate().map(|(place, at)| (names[*at], place)).collect();
    let mut labelled: BTreeMap<&str, usize> = BTreeMap::new();
    for ((label, _), number) in &counts {
        *labelled.entry(label).or_default() += number;
    }

    let side = (WIDTH / names.len() as f64).clamp(SQUARE.0, SQUARE.1);
    let extent = side * names.len() as f64;
    let mut squares = Group::new();
    for (&(label, answer), &number) in &counts {
        let (Some(row), Some(column)) = (place.get(label), place.get(answer)) else { continue };
        let share = number as f64 / labelled[label] as f64;
        let tell = format!("{label} was answered with {answer}: {number} of {} texts", labelled[label]);
        let square = Rectangle::new()
            .set("x", rounded(MARGIN + *column as f64 * side))
            .set("y", rounded(MARGIN + *row as f64 * side))
            .set("width", rounded(side))
            .set("height", rounded(side))
            .set("fill", if label == answer { "#0072b2" } else { "#d55e00" })
            .set("fill-opacity", rounded(share.sqrt() * 10.0) / 10.0);
        squares = squares.add(square.add(Title::new(tell)));
    }
    let mut grid = Group::new();
    for (number, at) in order.iter().enumerate() {
        let middle = MARGIN + (number as f64 + 0.5) * side + 3.0;
        let name = excerpt(names[*at], NAME);
        let size = rounded((side + 1.0).min(11.0));
        let label = text(MARGIN - 5.0, middle, &name).set("text-anchor", "end").set("font-size", size);
        let turned = format!("rotate(-90 {middle:.1} {:.1})", MARGIN - 5.0);
        let answer = text(middle, MARGIN - 5.0, &name).set("transform", turned).set("font-size", size);
        grid = grid.add(label).add(answer);
    }
    for number in [0.0, extent] {
        grid = grid
            .add(line((MARGIN + number, MARGIN), (MARGIN + number, MARGIN + extent), "#9ca3af"))
            .add(line((MARGIN, MARGIN + number), (MARGIN + extent, MARGIN + number), "#9ca3af"));
    }
    let size = MARGIN + extent + 10.0;
    let description = "Squares of labels by answers, the darker the more texts of the label";
    (picture(size, size, description).add(squares).add(grid), left_out)
}

/// The classes to draw, and whether some are left out.
fn drawn<'a>(counts: &BTreeMap<(&'a str, &'a str), usize>) -> (Vec<&'a str>, bool) {
    let all: BTreeSet<&str> = counts.keys().flat_map(|(label, answer)| [*label, *answer]).collect();
    if all.len() <= MOST {
        return (all.into_iter().collect(), false);
    }
    let mut wrong: BTreeMap<&str, usize> = BTreeMap::new();
    for ((label, answer), number) in counts.iter().filter(|((label, answer), _)| label != answer) {
        *wrong.entry(label).or_default() += number;
        *wrong.entry(answer).or_default() += number;
    }
    let mut names: Vec<&str> = all.into_iter().collect();
    names.sort_by_key(|name| std::cmp::Reverse(wrong.get(name).copied().unwrap_or(0)));
    names.truncate(MOST);
    names.sort_unstable();
    (names, true)
}

#[cfg(test)]
mod tests {
    use super::{super::answers::Answer, *};

    #[test]
    fn names_are_text_whatever_they_hold_and_the_worst_of_many_classes_are_drawn() {
        let evil = "<script>alert(1)</script>\"'&";
        let answers: Vec<Answer> = (0..150)
            .flat_map(|number| {
                let label = if number == 140 { evil.to_owned() } else { format!("class {number}") };
                let wrong = if number >= 100 { "class 149".to_owned() } else { label.clone() };
                [(label.clone(), label.clone()), (label, wrong)]
            })
            .map(|(label, answer)| Answer { label, answer, confidence: 0.5 })
            .collect();
        let (picture, left_out) = draw(&Answers(answers));
        let picture = picture.to_string();
        assert!(left_out);
        assert!(!picture.contains("<script"), "{picture}");
        assert!(picture.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
        assert!(picture.contains("class 120 was answered with class 149: 1 of 2 texts"));
    }
}
