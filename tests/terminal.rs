//! What users write reaches no terminal as a command to it, and no pipe otherwise than it was written.

mod support;

use std::process::{Command, Output};

use support::{BANK, Daemon, train_request};
use taxond::{proto::v1, text::is_hidden};

/// Colours, a title, a control character of C1, a direction and a line that nobody wrote.
const EVIL: &str = "\u{1b}[31mred\u{1b}]0;title\u{7}\u{9b}1m\u{202e}\nrevision 99 by admin";

async fn run(daemon: &Daemon, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_taxond"));
    command.args(arguments).env("TAXOND_ADDR", daemon.running.address.to_string()).env("USER", "ada");
    tokio::task::spawn_blocking(move || command.output().expect("the program starts")).await.expect("it ends")
}

fn is_plain(text: &str) -> bool {
    !text.contains(|c| is_hidden(c) && !matches!(c, '\n' | '\t'))
}

#[tokio::test(flavor = "multi_thread")]
async fn reasons_texts_and_errors_are_printed_visibly() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;
    let example = v1::LabelledText { text: format!("what is my {EVIL}"), label: "balance".into() };
    daemon.add(BANK, vec![example]).await;
    daemon.train(v1::TrainRequest { epochs: Some(1), ..train_request() }).await;
    let rename = v1::RenameClassRequest {
        model: BANK.into(),
        class_name: "balance".into(),
        new_name: "how much".into(),
        reason: EVIL.into(),
        ..Default::default()
    };
    daemon.taxonomy.rename_class(rename).await.unwrap();

    let question = "what is \u{1b}[31mred\u{9b}1m\u{202e}";
    for (arguments, shows) in [
        (&["history", "bank"][..], true),
        (&["manifests", "bank"], true),
        (&["show", "models/bank/manifests/2"], true),
        (&["examples", "list", "bank", "--limit", "1000"], true),
        (&["predict", "bank", question], true),
        (&["predict", "bank\u{1b}[31m", "hello"], true),
        (&["merge", "bank", question, "card lost", "--into", "x"], true),
        (&["history", "bank", "--json"], false),
        (&["examples", "list", "bank", "--limit", "1000", "--json"], false),
        // The message of the daemon shows it already.
        (&["predict", "bank\u{1b}\u{9b}", "hello", "--json"], true),
    ] {
        let Output { stdout, stderr, .. } = run(&daemon, arguments).await;
        let printed = String::from_utf8([stdout, stderr].concat()).unwrap();
        assert!(is_plain(&printed), "{arguments:?}: {printed:?}");
        assert!(!printed.contains("\nrevision 99"), "{arguments:?}: {printed}");
        assert_eq!(printed.contains(r"\u{1b}"), shows, "{arguments:?}: {printed}");
    }
    // Values of documents are what was written.
    let output = run(&daemon, &["history", "bank", "--json", "--limit", "1"]).await;
    let entry: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(entry["reason"], EVIL);

    let output = run(&daemon, &["examples", "export", "bank", "--format", "csv"]).await;
    let exported = String::from_utf8(output.stdout).unwrap();
    assert!(exported.contains(EVIL), "an export is exact");
    daemon.stop().await;
}
