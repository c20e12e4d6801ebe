//! Asking before what cannot be taken back.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use crate::{
    cli::failure::{Exit, Failure},
    text::visible,
};

/// Asks whether what is about to happen is wanted. Where nobody can be asked, it is not.
///
/// # Errors
/// [`Exit::Usage`] without a terminal, [`Exit::Interrupted`] where the answer is no.
pub(super) fn confirm(what: &str) -> Result<(), Failure> {
    let mut questions = io::stderr();
    if !(io::stdin().is_terminal() && questions.is_terminal()) {
        return Err(Failure::new(Exit::Usage, what).with_hint("say --yes if that is wanted"));
    }
    write!(questions, "{}; go on? [y/N] ", visible(what))?;
    questions.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if is_yes(&answer) { Ok(()) } else { Err(Failure::new(Exit::Interrupted, "nothing was changed")) }
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        assert!(["y\n", "Y", " yes \r\n"].into_iter().all(is_yes));
        assert!(!["", "\n", "n", "no", "yep", "j"].into_iter().any(is_yes));
    }
}
