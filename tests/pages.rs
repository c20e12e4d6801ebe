//! Page tokens over real sockets: pages are full of what a caller may see, and tokens tell nothing and are no one else's.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use support::{
    BANK, Daemon,
    identities::{settings, signed},
    train_request,
};
use taxond::proto::v1::{self, Learn};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

const IDENTITIES: [support::identities::Entry<'_>; 2] =
    [("admin", "admin", &[]), ("shopkeeper", "admin", &["shop-*"])];

fn refused_field(status: &Status) -> (Code, String) {
    let details = status.get_error_details();
    let field = details.bad_request().and_then(|of| of.field_violations.first()).map(|of| of.field.clone());
    (status.code(), field.unwrap_or_default())
}

/// Names and token of a page of models.
async fn models(
    daemon: &mut Daemon,
    who: &str,
    size: u32,
    token: &str,
) -> Result<(Vec<String>, String), Status> {
    let request = v1::ListModelsRequest { page_size: size, page_token: token.into() };
    let page = daemon.registry.list_models(signed(who, request)).await?.into_inner();
    Ok((page.models.into_iter().map(|model| model.name).collect(), page.next_page_token))
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_filled_with_what_the_caller_may_see_and_tokens_outlast_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut open = Daemon::start(dir.path()).await;
    for id in ["alpha", "hidden", "secret", "shop-a", "shop-b", "shop-c", "zeta"] {
        open.create(id).await;
    }
    open.stop().await;
    let mut daemon = Daemon::start_with(dir.path(), settings(dir.path(), &IDENTITIES)).await;
    let (first, token) = models(&mut daemon, "shopkeeper", 2, "").await.unwrap();
    assert_eq!(first, ["models/shop-a", "models/shop-b"]);
    assert!(!token.contains("shop"), "{token}");
    daemon.stop().await;

    let mut daemon = Daemon::start_with(dir.path(), settings(dir.path(), &IDENTITIES)).await;
    let (rest, end) = models(&mut daemon, "shopkeeper", 5, &token).await.unwrap();
    assert_eq!((rest, end), (vec!["models/shop-c".to_owned()], String::new()));
    let (_, of_admin) = models(&mut daemon, "admin", 2, "").await.unwrap();
    for (who, token) in [("admin", token.as_str()), ("shopkeeper", &of_admin), ("admin", "alpha")] {
        let refused = models(&mut daemon, who, 2, token).await.unwrap_err();
        assert_eq!(refused_field(&refused), (Code::InvalidArgument, "page_token".into()), "{who}: {refused}");
    }
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_out_of_sight_take_no_place_on_a_page_and_are_in_no_token() {
    let dir = tempfile::tempdir().unwrap();
    let mut open = Daemon::start(dir.path()).await;
    for id in ["shop-mail", "bank"] {
        open.create(id).await;
        open.add(&format!("models/{id}"), support::texts()).await;
        let model = format!("models/{id}");
        for _ in 0..2 {
            open.train(v1::TrainRequest { model: model.clone(), epochs: Some(1), ..train_request() }).await;
        }
    }
    open.stop().await;
    let mut daemon = Daemon::start_with(dir.path(), settings(dir.path(), &IDENTITIES)).await;
    let (mut found, mut tokens) = (Vec::new(), vec![String::new()]);
    loop {
        let page_token = tokens.last().unwrap().clone();
        let request = v1::ListJobsRequest { page_size: 1, page_token, ..Default::default() };
        let page = daemon.training.list_jobs(signed("shopkeeper", request)).await.unwrap().into_inner();
        found.extend(page.jobs.into_iter().map(|job| job.name));
        if page.next_page_token.is_empty() {
            break;
        }
        tokens.push(page.next_page_token);
    }
    assert_eq!(found, ["jobs/2", "jobs/1"]);
    assert!(tokens.len() <= 3, "jobs of others take no page: {tokens:?}");
    // The same list of one model is another list.
    let request =
        v1::ListJobsRequest { model: "models/shop-mail".into(), page_token: tokens[1].clone(), page_size: 1 };
    let refused = daemon.training.list_jobs(signed("shopkeeper", request)).await.unwrap_err();
    assert_eq!(refused_field(&refused), (Code::InvalidArgument, "page_token".into()), "{refused}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_list_seals_its_tokens_for_itself() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;
    daemon.merge(Learn::None).await;
    daemon.undo().await;
    daemon.train(train_request()).await;
    daemon.create("other").await;
    /// Asks each list for a page of one, with a token; answers its token, or the field that was refused.
    async fn ask(daemon: &mut Daemon, list: usize, token: &str) -> Result<String, (Code, String)> {
        let (model, page_size, page_token) = (BANK.to_owned(), 1, token.to_owned());
        let answered = match list {
            0 => {
                let request = v1::ListModelsRequest { page_size, page_token };
                daemon.registry.list_models(request).await.map(|of| of.into_inner().next_page_token)
            }
            1 => {
                let request = v1::ListVersionsRequest { model, page_size, page_token };
                daemon.registry.list_versions(request).await.map(|of| of.into_inner().next_page_token)
            }
            2 => {
                let request = v1::ListManifestsRequest { model, page_size, page_token };
                daemon.taxonomy.list_manifests(request).await.map(|of| of.into_inner().next_page_token)
            }
            3 => {
                let request = v1::GetHistoryRequest { model, page_size, page_token };
                daemon.taxonomy.get_history(request).await.map(|of| of.into_inner().next_page_token)
            }
            4 => {
                let request = v1::ListJobsRequest { model, page_size, page_token };
                daemon.training.list_jobs(request).await.map(|of| of.into_inner().next_page_token)
            }
            _ => {
                let request = v1::ListExamplesRequest { model, page_size, page_token, ..Default::default() };
                daemon.dataset.list_examples(request).await.map(|of| of.into_inner().next_page_token)
            }
        };
        answered.map_err(|status| refused_field(&status))
    }
    let mut tokens = Vec::new();
    for list in 0..6 {
        tokens.push(ask(&mut daemon, list, "").await.unwrap());
        assert!(!tokens[list].is_empty(), "list {list} has a second page");
    }
    for list in 0..6 {
        for (of, token) in tokens.iter().enumerate() {
            let answered = ask(&mut daemon, list, token).await;
            if list == of {
                assert!(answered.is_ok(), "list {list}: {answered:?}");
            } else {
                let refused = (Code::InvalidArgument, "page_token".to_owned());
                assert_eq!(answered, Err(refused), "list {list} with the token of list {of}");
            }
        }
        for plain in ["1", "bank"] {
            let refused = (Code::InvalidArgument, "page_token".to_owned());
            assert_eq!(ask(&mut daemon, list, plain).await, Err(refused), "list {list}");
        }
    }
    let filtered = v1::ListExamplesRequest {
        model: BANK.into(),
        page_size: 1,
        page_token: tokens[5].clone(),
        label: "balance".into(),
        ..Default::default()
    };
    let refused = daemon.dataset.list_examples(filtered).await.unwrap_err();
    assert_eq!(refused_field(&refused), (Code::InvalidArgument, "page_token".into()));
    daemon.stop().await;
}
