//! What a model must look like, by what the daemon acknowledged.

use std::{collections::BTreeMap, time::Duration};

use taxond::proto::v1::{
    self, CreateModelRequest, DeleteExamplesRequest, DeleteModelRequest, ExampleFilter, ImportVersionRequest,
    LabelledText, Learn, MergeClassesRequest, RelabelExamplesRequest, SetAliasRequest, UndoChangeRequest,
};
use tokio::{sync::mpsc, time::sleep};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::clients::Clients;

/// Labels of the examples, which are classes of the model as it comes.
pub(crate) const LABELS: [&str; 4] = ["withdraw under 20k", "withdraw over 20k", "balance", "card lost"];

/// A model as clients see it; none where there is none.
pub(crate) type Seen = Option<State>;

/// What clients see of a model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) latest_version: u64,
    pub(crate) aliases: BTreeMap<String, u64>,
    /// Of the serving version: revision and names of active classes.
    pub(crate) classes: Option<(u64, Vec<String>)>,
    /// Text to label.
    pub(crate) examples: BTreeMap<String, String>,
}

/// A call that changes a model.
#[derive(Debug, Clone)]
pub(crate) enum Call {
    Create,
    Import,
    Promote,
    Add(Vec<LabelledText>),
    /// A stream of two messages is reset after the first one and so many microseconds, then sent whole, with the same request id.
    AddAfterReset(Vec<LabelledText>, u64),
    Relabel {
        part: String,
        label: &'static str,
    },
    Remove {
        part: String,
    },
    Merge,
    Undo,
    Canary(u64),
    Delete,
}

impl Call {
    /// What the call makes of a model.
    pub(crate) fn done_to(&self, seen: &Seen) -> Seen {
        if matches!(self, Self::Create) {
            return Some(State::default());
        }
        let mut state = seen.clone().expect("only a model is changed");
        match self {
            Self::Create => unreachable!("handled above"),
            Self::Delete => return None,
            Self::Import => state.latest_version += 1,
            Self::Promote => {
                state.aliases.insert("serving".into(), 1);
                state.classes = Some((1, sorted(LABELS)));
            }
            Self::Add(texts) | Self::AddAfterReset(texts, _) => {
                state.examples.extend(texts.iter().map(|text| (text.text.clone(), text.label.clone())));
            }
            Self::Relabel { part, label } => {
                let meant = state.examples.iter_mut().filter(|(text, _)| text.contains(part.as_str()));
                meant.for_each(|(_, old)| *old = (*label).to_owned());
            }
            Self::Remove { part } => state.examples.retain(|text, _| !text.contains(part.as_str())),
            Self::Merge => state.change(["withdraw", "balance", "card lost"]),
            Self::Undo => state.change(LABELS),
            Self::Canary(version) => {
                state.aliases.insert("canary".into(), *version);
            }
        }
        Some(state)
    }

    /// Makes the call, and returns once it is acknowledged.
    pub(crate) async fn make(
        &self,
        clients: &mut Clients,
        file: &[u8],
        id: &str,
        request_id: &str,
    ) -> Result<(), Status> {
        let (model, request_id) = (format!("models/{id}"), request_id.to_owned());
        let part = |part: &str| Some(ExampleFilter { text_contains: part.into(), ..Default::default() });
        match self {
            Self::Create => {
                let request = CreateModelRequest { model_id: id.into(), request_id, ..Default::default() };
                clients.registry.create_model(request).await.map(drop)
            }
            Self::Delete => {
                let request = DeleteModelRequest { name: model, request_id, ..Default::default() };
                clients.registry.delete_model(request).await.map(drop)
            }
            Self::Import => {
                let first = ImportVersionRequest { model, request_id, ..Default::default() };
                let rest = file
                    .chunks(256 << 10)
                    .map(|data| ImportVersionRequest { data: data.to_vec(), ..Default::default() });
                let messages: Vec<_> = [first].into_iter().chain(rest).collect();
                clients.registry.import_version(tokio_stream::iter(messages)).await.map(drop)
            }
            Self::Promote | Self::Canary(_) => {
                let (alias, version) = match self {
                    Self::Canary(version) => ("canary", *version),
                    _ => ("", 1),
                };
                let request =
                    SetAliasRequest { model, alias: alias.into(), version, request_id, ..Default::default() };
                clients.registry.set_alias(request).await.map(drop)
            }
            Self::Add(examples) => {
                let request = v1::AddExamplesRequest { model, examples: examples.clone(), request_id };
                clients.dataset.add_examples(tokio_stream::once(request)).await.map(drop)
            }
            Self::AddAfterReset(examples, after) => {
                let (first, second) = examples.split_at(examples.len() / 2);
                let first = v1::AddExamplesRequest { model, examples: first.to_vec(), request_id };
                let second = v1::AddExamplesRequest { examples: second.to_vec(), ..Default::default() };
                let (sender, receiver) = mpsc::channel(2);
                sender.send(first.clone()).await.expect("the receiver is there");
                let mut cut = clients.dataset.clone();
                tokio::select! {
                    // Done before, or the daemon is gone, which the second call meets as well.
                    _early = cut.add_examples(ReceiverStream::new(receiver)) => {}
                    // The call is dropped, which resets its stream.
                    () = sleep(Duration::from_micros(*after)) => {}
                }
                drop(sender);
                loop {
                    let whole = tokio_stream::iter([first.clone(), second.clone()]);
                    match clients.dataset.add_examples(whole).await {
                        // The daemon has not noticed the reset yet.
                        Err(status) if is_under_way(&status) => sleep(Duration::from_millis(1)).await,
                        outcome => return outcome.map(drop),
                    }
                }
            }
            Self::Relabel { part: of, label } => {
                let request = RelabelExamplesRequest {
                    model,
                    filter: part(of),
                    label: (*label).into(),
                    request_id,
                    ..Default::default()
                };
                clients.dataset.relabel_examples(request).await.map(drop)
            }
            Self::Remove { part: of } => {
                let request =
                    DeleteExamplesRequest { model, filter: part(of), request_id, ..Default::default() };
                clients.dataset.delete_examples(request).await.map(drop)
            }
            Self::Merge => {
                let request = MergeClassesRequest {
                    model,
                    classes: LABELS[..2].iter().map(|class| (*class).into()).collect(),
                    into: "withdraw".into(),
                    learn: Learn::None.into(),
                    request_id,
                    ..Default::default()
                };
                let mut stream = clients.taxonomy.merge_classes(request).await?.into_inner();
                stream.message().await?.map(drop).ok_or_else(|| Status::unavailable("the stream was cut"))
            }
            Self::Undo => {
                let request = UndoChangeRequest { model, request_id, ..Default::default() };
                clients.taxonomy.undo_change(request).await.map(drop)
            }
        }
    }
}

/// Whether the daemon refuses a call as long as the one before it has not ended: it still holds the model, or the request id.
fn is_under_way(status: &Status) -> bool {
    match status.code() {
        Code::Aborted => true,
        Code::Unavailable => status.message().contains("with this request_id is under way"),
        _ => false,
    }
}

impl State {
    fn change<const N: usize>(&mut self, classes: [&str; N]) {
        self.latest_version += 1;
        self.aliases.insert("serving".into(), self.latest_version);
        let revision = self.classes.as_ref().map_or(0, |(revision, _)| *revision);
        self.classes = Some((revision + 1, sorted(classes)));
    }

    /// Reads what there is.
    pub(crate) async fn read(clients: &mut Clients, id: &str) -> Seen {
        let name = format!("models/{id}");
        let model = match clients.registry.get_model(v1::GetModelRequest { name: name.clone() }).await {
            Ok(answer) => answer.into_inner().model.expect("a model"),
            Err(status) if status.code() == Code::NotFound => return None,
            Err(status) => panic!("{status}"),
        };
        let mut classes = None;
        if model.aliases.contains_key("serving") {
            let manifest = clients
                .taxonomy
                .get_manifest(v1::GetManifestRequest { name: name.clone(), ..Default::default() })
                .await;
            let manifest = manifest.expect("it serves").into_inner().manifest.expect("a manifest");
            let active = manifest.classes.iter().filter(|class| class.state() == v1::ClassState::Active);
            classes = Some((manifest.revision, sorted(active.map(|class| class.name.as_str()))));
        }
        let mut examples = BTreeMap::new();
        let mut page_token = String::new();
        loop {
            let request = v1::ListExamplesRequest {
                model: name.clone(),
                page_size: 1000,
                page_token,
                ..Default::default()
            };
            let page = clients.dataset.list_examples(request).await.expect("readable").into_inner();
            examples.extend(page.examples.into_iter().map(|example| (example.text, example.label)));
            if page.next_page_token.is_empty() {
                break;
            }
            page_token = page.next_page_token;
        }
        assert_eq!(examples.len() as u64, model.example_count, "{name}");
        let aliases = model.aliases.into_iter().collect();
        Some(Self { latest_version: model.latest_version, aliases, classes, examples })
    }
}

fn sorted<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut names: Vec<String> = names.into_iter().map(Into::into).collect();
    names.sort();
    names
}
