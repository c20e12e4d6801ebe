//! Examples into a daemon and out of it again by the command line: every format, packed or not, from files, folders and the
//! standard input.

mod support;

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use support::{BANK, Daemon, QUESTIONS};
use taxond::proto::v1::LabelledText;

/// The command line against a daemon.
struct Line {
    address: String,
}

impl Line {
    fn of(daemon: &Daemon) -> Self {
        Self { address: format!("http://{}", daemon.running.address) }
    }

    fn run(&self, arguments: &[&str], stdin: &[u8]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_taxond"));
        command.args(["--addr", &self.address]).args(arguments);
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().expect("the program starts");
        let mut input = child.stdin.take().expect("it is piped");
        let bytes = stdin.to_vec();
        // Beside what it prints, so that neither waits for the other. It may end before it has read all.
        let writing = std::thread::spawn(move || drop(input.write_all(&bytes)));
        let output = child.wait_with_output().expect("it ends");
        writing.join().expect("the thread ends");
        output
    }

    /// What a command that succeeds prints.
    fn prints(&self, arguments: &[&str], stdin: &[u8]) -> Vec<u8> {
        let output = self.run(arguments, stdin);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
        output.stdout
    }

    /// The document of a command that succeeds.
    fn document(&self, arguments: &[&str], stdin: &[u8]) -> Value {
        serde_json::from_slice(&self.prints(&[arguments, &["--json"]].concat(), stdin)).expect("JSON")
    }

    /// What a command that fails says.
    fn fails(&self, arguments: &[&str], stdin: &[u8]) -> (Option<i32>, String) {
        let output = self.run(arguments, stdin);
        assert_eq!(output.stdout, b"", "{arguments:?}");
        (output.status.code(), String::from_utf8(output.stderr).expect("text"))
    }
}

fn counts(document: &Value) -> [u64; 5] {
    ["added", "duplicates", "conflicts", "skipped", "too_long"].map(|key| document[key].as_u64().expect(key))
}

/// Texts that some format has no place for, after many that all have.
fn examples() -> Vec<LabelledText> {
    let example = |text: &str, label: &str| LabelledText { text: text.into(), label: label.into() };
    let mut examples: Vec<_> =
        (0..2500).map(|n| example(&format!("text {n}"), &format!("c{}", n % 7))).collect();
    for text in
        ["two\nlines\r\n", "a\ttab", "\"quotes\", commas", "__label__c1 hello", "👩‍👩‍👧 存钱", "  led", "cr\r"]
    {
        examples.push(example(text, "取款"));
    }
    examples
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_out_comes_in_again_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(&dir.path().join("data")).await;
    daemon.create("bank").await;
    daemon.add(BANK, examples()).await;
    let line = Line::of(&daemon);
    let place = |name: &str| dir.path().join(name).display().to_string();
    let listed = |model: &str| {
        let printed = line.prints(&["examples", "export", model, "--format", "jsonl"], b"");
        let printed = String::from_utf8(printed).unwrap();
        let document = |line: &str| -> Value { serde_json::from_str(line).unwrap() };
        let text =
            |of: Value| (of["label"].as_str().unwrap().to_owned(), of["text"].as_str().unwrap().to_owned());
        let mut texts: Vec<_> = printed.lines().map(document).map(text).collect();
        texts.sort();
        texts
    };
    let all = listed("bank");
    assert_eq!(all.len(), 2507);
    for (name, bad) in [
        ("a.csv", 0),
        ("a.csv.zst", 0),
        ("a.tsv", 3),
        ("a.jsonl.gz", 0),
        ("a.parquet", 0),
        ("a.ft.gz", 3),
        ("folder", 0),
    ] {
        let (out, model) = (place(name), name.replace('.', "-"));
        let mut export = vec!["examples", "export", "bank", "-o", &out];
        if name == "folder" {
            export.extend(["--format", "folder"]);
        }
        if bad > 0 {
            let (code, said) = line.fails(&export, b"");
            assert_eq!(code, Some(4), "{said}");
            assert!(said.contains(&format!("cannot hold {bad} examples, nothing was exported")), "{said}");
            assert!(said.contains("example 2501: the text holds") && !Path::new(&out).exists(), "{said}");
            export.push("--skip-bad");
        }
        let told = line.document(&export, b"");
        assert_eq!((told["exported"].as_u64(), told["left_out"].as_u64()), (Some(2507 - bad), Some(bad)));
        daemon.create(&model).await;
        let added = line.document(&["examples", "add", &model, &out], b"");
        assert_eq!(counts(&added), [2507 - bad, 0, 0, 0, 0], "{name}");
        let held = listed(&model);
        assert!(held.iter().all(|example| all.contains(example)), "{name}");
    }
    let names =
        fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(names.into_iter().all(|name| !name.contains("partial")));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_standard_input_and_the_summary() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(&dir.path().join("data")).await;
    daemon.create("bank").await;
    let line = Line::of(&daemon);
    let mut table = "text,label\nhello,greet\n Hello ,greet\nhello,part\n,greet\n".to_owned();
    table += &format!("{},greet\n", "long ".repeat(20_000));
    let packed = zstd::encode_all(table.as_bytes(), 1).unwrap();
    let add = ["examples", "add", "bank", "-", "--format", "csv"];

    let (code, said) = line.fails(&add, &packed);
    assert_eq!(code, Some(4));
    for part in [
        "2 bad rows, 1 of them too long",
        "the standard input: row 5: the text is empty",
        "row 6: the text has 100000",
    ] {
        assert!(said.contains(part), "{said}");
    }
    let told = line.document(&[&add[..], &["--skip-bad"]].concat(), &packed);
    assert_eq!(counts(&told), [2, 1, 1, 2, 1]);
    assert_eq!(told["skipped_rows"][1]["row"], 6);
    let printed =
        line.prints(&["examples", "add", "bank", "-"], b"__label__greet good bye\n__label__part good bye\n");
    let printed = String::from_utf8(printed).unwrap();
    assert!(
        printed.starts_with("2 examples added, 0 were there already, 0 bad rows skipped; bank has 4 now\n"),
        "{printed}"
    );
    assert!(printed.contains("1 example added with a text that is there with another label"), "{printed}");

    let (code, said) = line.fails(&["examples", "add", "bank", "-"], b"text,label\na,b\n");
    assert!(code == Some(4) && said.contains("--format"), "{said}");
    let (code, said) = line.fails(&add, &packed[..packed.len() - 8]);
    assert!(code == Some(4) && said.contains("cannot read the standard input"), "{said}");
    let bomb = zstd::encode_all(std::io::Read::take(std::io::repeat(b'x'), 1 << 28), 1).unwrap();
    let (code, said) = line.fails(&add, &bomb);
    assert!(code == Some(4) && said.contains("row 1: a row that is longer than"), "{said}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_reader_of_labelled_texts_takes_every_format() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::trained(&dir.path().join("data")).await;
    let line = Line::of(&daemon);
    let out = dir.path().join("bank.parquet").display().to_string();
    line.prints(&["examples", "export", "bank", "--split", "validation", "--out", &out], b"");
    let measured = line.document(&["evaluate", "bank", &out], b"");
    assert_eq!(measured["examples"], line.document(&["evaluate", "bank"], b"")["examples"]);

    let parts = dir.path().join("parts");
    fs::create_dir(&parts).unwrap();
    fs::write(parts.join("lost"), "i lost my card\n").unwrap();
    fs::write(parts.join("stolen"), "my card was stolen\n").unwrap();
    let split =
        ["split", "bank", "card lost", "--into", "lost", "--into", "stolen", "--rest", "lost", "--dry-run"];
    let tried = line.document(&[&split[..], &["--file", &parts.display().to_string()]].concat(), b"");
    assert_eq!(tried["preview"]["splits"][0]["unmatched_texts"], 0, "{tried}");

    let asked = QUESTIONS.map(|text| format!("__label__any {text}\n")).concat();
    let packed = dir.path().join("asked.ft.zst");
    fs::write(&packed, zstd::encode_all(asked.as_bytes(), 1).unwrap()).unwrap();
    let printed = line.prints(&["predict", "bank", "--file", &packed.display().to_string()], b"");
    let printed = String::from_utf8(printed).unwrap();
    let texts: Vec<_> = printed.lines().map(|line| line.split('\t').next().unwrap()).collect();
    assert_eq!(texts, QUESTIONS);
    let printed = line.prints(&["predict", "bank", "--file", &out], b"");
    let first: Value = serde_json::from_slice(printed.split(|&byte| byte == b'\n').next().unwrap()).unwrap();
    assert!(
        first["label"].is_string() && first["predicted_label"].is_string() && first["id"].is_u64(),
        "{first}"
    );
    daemon.stop().await;
}
