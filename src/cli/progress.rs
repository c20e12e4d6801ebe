//! Progress on the standard error: a bar on a terminal, else a plain line now and then.

use std::{
    io::IsTerminal as _,
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::{
    cli::output::{self, count, percent, seconds},
    proto::v1::Progress,
    text::visible,
};

/// Time between two plain lines of the same epoch.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Shows how far something is.
#[derive(Debug)]
pub(crate) struct ProgressView {
    kind: Kind,
    /// Stands before everything that is shown; empty where there is one view alone.
    name: String,
}

#[derive(Debug)]
enum Kind {
    Bar(ProgressBar),
    Lines { last: Option<Instant>, epoch: u32 },
    Hidden,
}

impl ProgressView {
    /// A view for people, or none at all.
    pub(crate) fn new(hidden: bool) -> Self {
        Self::with(hidden, String::new(), |bar| bar)
    }

    /// A view below others, which bears a name.
    pub(crate) fn among(bars: &MultiProgress, name: &str, hidden: bool) -> Self {
        Self::with(hidden, format!("{name}: "), |bar| bars.add(bar))
    }

    fn with(hidden: bool, name: String, place: impl FnOnce(ProgressBar) -> ProgressBar) -> Self {
        let kind = if hidden {
            Kind::Hidden
        } else if std::io::stderr().is_terminal() {
            Kind::Bar(place(ProgressBar::new(0)))
        } else {
            Kind::Lines { last: None, epoch: 0 }
        };
        Self { kind, name }
    }

    /// Shows the progress of a training.
    pub(crate) fn training(&mut self, progress: &Progress) {
        let Self { kind, name } = self;
        match kind {
            Kind::Bar(bar) => {
                bar.set_style(style("{bar:24.cyan} {percent:>3}%  {msg}"));
                bar.set_length(progress.steps.max(1));
                bar.set_position(progress.step);
                bar.set_message(visible(&format!("{name}{}", describe(progress))).into_owned());
            }
            Kind::Lines { last, epoch } => {
                let now = Instant::now();
                let due = last.is_none_or(|last| now.duration_since(last) >= LINE_EVERY);
                if due || *epoch != progress.epoch {
                    (*last, *epoch) = (Some(now), progress.epoch);
                    output::aside(format!("{name}{}", describe(progress)));
                }
            }
            Kind::Hidden => {}
        }
    }

    /// Shows how many of `total` things are done.
    pub(crate) fn counted(&mut self, done: u64, total: u64, what: &str) {
        match &mut self.kind {
            Kind::Bar(bar) => {
                bar.set_style(style("{bar:24.cyan} {percent:>3}%  {msg}"));
                bar.set_length(total.max(1));
                bar.set_position(done);
                bar.set_message(format!("{} of {} {what}", count(done), count(total)));
            }
            Kind::Lines { last, .. } => {
                let now = Instant::now();
                if last.is_some_and(|last| now.duration_since(last) >= LINE_EVERY) {
                    output::aside(format!("{} of {} {what}", count(done), count(total)));
                }
                if last.is_none_or(|last| now.duration_since(last) >= LINE_EVERY) {
                    *last = Some(now);
                }
            }
            Kind::Hidden => {}
        }
    }

    /// Prints a line beside the bar.
    pub(crate) fn note(&self, text: impl AsRef<str>) {
        if !matches!(self.kind, Kind::Hidden) {
            self.aside(|| output::aside(format!("{}{}", self.name, text.as_ref())));
        }
    }

    /// What is printed meanwhile does not meet the bar, which stands below it afterwards.
    pub(crate) fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.kind {
            Kind::Bar(bar) => bar.suspend(print),
            Kind::Lines { .. } | Kind::Hidden => print(),
        }
    }

    /// Takes the bar off the screen, for good.
    pub(crate) fn clear(&self) {
        if let Kind::Bar(bar) = &self.kind {
            bar.finish_and_clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("the templates in this file are sound")
        .progress_chars("━╸─")
}

/// `wide  loss 0.812`, then `fit 3/12  loss 0.412  accuracy 91.2 %  1,900/s  ETA 12.0 s`
fn describe(progress: &Progress) -> String {
    let mut parts = vec![match progress.epoch {
        0 => progress.stage.clone(),
        epoch => format!("{} {epoch}/{}", progress.stage, progress.epochs),
    }];
    if progress.loss > 0.0 {
        parts.push(format!("loss {:.3}", progress.loss));
    }
    if let Some(accuracy) = progress.validation_accuracy {
        parts.push(format!("accuracy {}", percent(accuracy)));
    }
    if progress.examples_per_second >= 1.0 {
        parts.push(format!("{}/s", count(progress.examples_per_second as u64)));
    }
    if progress.eta_seconds > 0.0 {
        parts.push(format!("ETA {}", seconds(progress.eta_seconds)));
    }
    parts.join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_stage_epoch_loss_accuracy_and_eta() {
        let mut progress = Progress { stage: "wide".into(), epochs: 12, loss: 0.8123, ..Progress::default() };
        assert_eq!(describe(&progress), "wide  loss 0.812");
        progress = Progress {
            stage: "fit".into(),
            epoch: 3,
            epochs: 12,
            step: 40,
            steps: 480,
            loss: 0.4123,
            validation_accuracy: Some(0.912),
            examples_per_second: 1900.4,
            eta_seconds: 12.04,
        };
        assert_eq!(describe(&progress), "fit 3/12  loss 0.412  accuracy 91.2 %  1,900/s  ETA 12.0 s");
    }

    #[test]
    fn a_bar_goes_on_after_what_is_printed_beside_it() {
        let bar = ProgressBar::hidden();
        let view = ProgressView { kind: Kind::Bar(bar.clone()), name: String::new() };
        assert_eq!(view.aside(|| 7), 7);
        assert!(!bar.is_finished());
        view.clear();
        assert!(bar.is_finished());
    }

    #[test]
    fn the_bar_has_a_sound_template() {
        style("{bar:24.cyan} {percent:>3}%  {msg}");
    }
}
