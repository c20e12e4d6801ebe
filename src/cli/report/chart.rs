//! A chart with two axes, in SVG.

use svg::node::element::{Circle, Group, Line, Polyline, Rectangle, SVG, Text, Title};

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 300.0;
/// Room for the axes and what stands beside them, in pixels.
const LEFT: f64 = 52.0;
const BOTTOM: f64 = 44.0;
const TOP: f64 = 12.0;
const RIGHT: f64 = 14.0;
/// Steps of an axis, about.
const STEPS: f64 = 5.0;

/// Colours of lines, told apart also by those who do not see red and green (Okabe and Ito, 2008).
pub(super) const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

/// One under construction.
pub(super) struct Chart {
    x: (f64, f64),
    y: (f64, f64),
    drawn: Group,
}

impl Chart {
    /// Axes with these ranges and titles.
    pub(super) fn new(x: (f64, f64), y: (f64, f64), title_of_x: &str, title_of_y: &str) -> Self {
        let mut chart = Self { x: widened(x), y: widened(y), drawn: Group::new() };
        for value in ticks(chart.x) {
            let (at, bottom) = (chart.at(value, chart.y.0).0, HEIGHT - BOTTOM);
            chart.push(line((at, TOP), (at, bottom), "#e5e7eb"));
            chart.push(text(at, bottom + 16.0, &shown(value)).set("text-anchor", "middle"));
        }
        for value in ticks(chart.y) {
            let at = chart.at(chart.x.0, value).1;
            chart.push(line((LEFT, at), (WIDTH - RIGHT, at), "#e5e7eb"));
            chart.push(text(LEFT - 6.0, at + 4.0, &shown(value)).set("text-anchor", "end"));
        }
        let middle = (LEFT + WIDTH - RIGHT) / 2.0;
        chart.push(text(middle, HEIGHT - 8.0, title_of_x).set("text-anchor", "middle"));
        let middle = (TOP + HEIGHT - BOTTOM) / 2.0;
        let turned = format!("rotate(-90 12 {middle:.1})");
        chart.push(text(12.0, middle, title_of_y).set("text-anchor", "middle").set("transform", turned));
        chart
    }

    /// A line through points; each tells its text when it is pointed at.
    pub(super) fn line(&mut self, points: &[(f64, f64)], colour: &str, tell: impl Fn(usize) -> String) {
        let places: Vec<(f64, f64)> = points.iter().map(|&(x, y)| self.at(x, y)).collect();
        let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        self.push(
            Polyline::new()
                .set("points", path.join(" "))
                .set("fill", "none")
                .set("stroke", colour)
                .set("stroke-width", 2),
        );
        for (at, (x, y)) in places.into_iter().enumerate() {
            let dot = Circle::new().set("cx", rounded(x)).set("cy", rounded(y)).set("r", 2.5);
            self.push(dot.set("fill", colour).add(Title::new(tell(at))));
        }
    }

    /// A bar from the bottom.
    pub(super) fn bar(&mut self, from: f64, to: f64, height: f64, colour: &str, tell: String) {
        let ((left, top), (right, bottom)) = (self.at(from, height), self.at(to, self.y.0));
        let bar = Rectangle::new()
            .set("x", rounded(left + 1.0))
            .set("y", rounded(top))
            .set("width", rounded((right - left - 2.0).max(0.5)))
            .set("height", rounded((bottom - top).max(0.0)));
        self.push(bar.set("fill", colour).add(Title::new(tell)));
    }

    /// A dashed line.
    pub(super) fn guide(&mut self, from: (f64, f64), to: (f64, f64)) {
        let (from, to) = (self.at(from.0, from.1), self.at(to.0, to.1));
        self.push(line(from, to, "#6b7280").set("stroke-dasharray", "4 4"));
    }

    /// The whole.
    pub(super) fn svg(self, description: &str) -> SVG {
        picture(WIDTH, HEIGHT, description).add(self.drawn)
    }

    fn push(&mut self, element: impl Into<svg::node::element::Element>) {
        let drawn = std::mem::take(&mut self.drawn);
        self.drawn = drawn.add(element.into());
    }

    fn at(&self, x: f64, y: f64) -> (f64, f64) {
        let share = |value: f64, (low, high): (f64, f64)| (value - low) / (high - low);
        (
            LEFT + share(x, self.x) * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - share(y, self.y) * (HEIGHT - TOP - BOTTOM),
        )
    }
}

/// An empty picture, which tells what it shows to who does not see it.
pub(super) fn picture(width: f64, height: f64, description: &str) -> SVG {
    SVG::new()
        .set("viewBox", format!("0 0 {width:.0} {height:.0}"))
        .set("width", rounded(width))
        .set("height", rounded(height))
        .set("role", "img")
        .set("aria-label", description)
}

/// A text at the left end of its base line.
pub(super) fn text(x: f64, y: f64, content: &str) -> Text {
    Text::new(content).set("x", rounded(x)).set("y", rounded(y))
}

/// A line between two points.
pub(super) fn line(from: (f64, f64), to: (f64, f64), colour: &str) -> Line {
    Line::new()
        .set("x1", rounded(from.0))
        .set("y1", rounded(from.1))
        .set("x2", rounded(to.0))
        .set("y2", rounded(to.1))
        .set("stroke", colour)
}

/// A length in a picture, to a tenth of a pixel.
pub(super) fn rounded(length: f64) -> f64 {
    (length * 10.0).round() / 10.0
}

/// A range that is not empty.
fn widened((low, high): (f64, f64)) -> (f64, f64) {
    if high - low > 1e-9 { (low, high) } else { (low - 0.5, high + 0.5) }
}

/// Round numbers within a range.
fn ticks((low, high): (f64, f64)) -> impl Iterator<Item = f64> {
    let rough = (high - low) / STEPS;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(rough);
    let first = (low / step - 1e-9).ceil() as i64;
    (first..).map(move |number| number as f64 * step).take_while(move |value| *value <= high + step * 1e-9)
}

fn shown(value: f64) -> String {
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_numbers() {
        let of = |range| ticks(range).map(shown).collect::<Vec<_>>();
        assert_eq!(of((0.0, 1.0)), ["0", "0.2", "0.4", "0.6", "0.8", "1"]);
        assert_eq!(of((0.87, 0.94)), ["0.88", "0.9", "0.92", "0.94"]);
        assert_eq!(of((1.0, 12.0)), ["5", "10"]);
        assert_eq!(of(widened((3.0, 3.0))), ["2.6", "2.8", "3", "3.2", "3.4"]);
    }
}
