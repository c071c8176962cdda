//! Projects of several repositories: what an environment is made from, whichever of them a pull request is of.

use crate::{
    bench::{Bench, PATIENCE, branch},
    gate::{Door, Gate},
};
use forge::{
    PullRequestNumber, StatusState,
    local::{FileChange, LocalForge, LocalHead, NewPullRequest},
};
use model::{BranchName, CommitId, EnvironmentId, MountKind, Origin, Phase};
use std::{process::Command, sync::Arc, time::Duration};
use store::EnvironmentRow;
use tokio::time::{sleep, timeout};

fn compose(text: &str) -> String {
    let serve = |text: &str| format!("[\"serve\", \"HTTP/1.1 200 OK\\r\\n\\r\\n{text}\"]");
    format!(
        "services:\n  web:\n    image: node:20\n    command: {}\n    ports: [\"8080:8080\"]\n    volumes: [\".:/app:ro\"]\n    \
         depends_on: [api]\n  api:\n    image: node:20\n    command: {}\n    expose: [\"9000\"]\n    volumes: [\".:/srv:ro\"]\n",
        serve(text),
        serve("api")
    )
}

const SETTINGS: &str = "stack:\n  services:\n    web: { host: true, public: true }\n    \
    api: { host: true, source: api }\npolicy: { baseline: none }\n";

/// A bench with a second repository.
struct Two {
    bench: Bench,
    api: Arc<Gate>,
}

impl Two {
    async fn new(joins: bool) -> Self {
        let two = Self::without_base(joins).await;
        two.write("main", "one").await;
        two
    }

    /// One whose second repository has no base branch.
    async fn without_base(joins: bool) -> Self {
        let mut bench = Bench::new().await;
        bench.kill();
        let files = [
            FileChange::write("compose.yaml", compose("one")),
            FileChange::write("maquette.yaml", SETTINGS),
        ];
        bench.forge.commit(&branch("main"), None, &files, "Two").await.unwrap();
        let path = "developer/api".parse().unwrap();
        let forge = LocalForge::open(bench.directory.path().join("api"), &path, &branch("main"))
            .await
            .unwrap();
        let api = Arc::new(Gate::new(Arc::new(forge)));
        bench.api = Some(Arc::clone(&api));
        bench.joins = joins;
        bench.start().await;
        Self { bench, api }
    }

    fn forge(&self) -> &LocalForge {
        self.api.local()
    }

    /// A commit of the second repository.
    async fn write(&self, name: &str, text: &str) -> CommitId {
        let files = [FileChange::write("api.txt", text)];
        let main = branch("main");
        let from = (name != "main").then_some(&main);
        self.forge().commit(&branch(name), from, &files, "Api").await.unwrap()
    }

    /// Moves or removes a branch of the second repository.
    fn set(&self, name: &str, commit: Option<&CommitId>) {
        let name = format!("refs/heads/{name}");
        let mut args = vec!["update-ref"];
        match commit {
            Some(commit) => args.extend([name.as_str(), commit.as_str()]),
            None => args.extend(["-d", name.as_str()]),
        }
        let mut git = Command::new("git");
        let done = git.arg("-C").arg(self.forge().repository_dir()).args(args).status();
        assert!(done.unwrap().success());
    }

    async fn open_shop(&self, name: &str) -> PullRequestNumber {
        self.bench.push(name, &compose("two")).await;
        let new = NewPullRequest::new(branch(name), branch("main"), "Shop");
        self.bench.forge.open_pull_request(new).await.unwrap().number
    }

    async fn open_api(&self, name: &str, text: &str) -> (PullRequestNumber, CommitId) {
        let commit = self.write(name, text).await;
        let new = NewPullRequest::new(branch(name), branch("main"), "Api");
        (self.forge().open_pull_request(new).await.unwrap().number, commit)
    }

    async fn rows(&self, origin: &Origin) -> Vec<EnvironmentRow> {
        let mut rows = self.bench.store.environment_list(None, true).await.unwrap();
        rows.retain(|row| row.origin == *origin);
        rows
    }

    /// Waits until the newest environment of an origin is in this phase with the second repository at this commit, and nothing is on
    /// its way.
    async fn reaches(&self, origin: &Origin, phase: Phase, api: Option<&CommitId>) -> EnvironmentRow {
        let wait = async {
            loop {
                if let Some(row) = self.rows(origin).await.pop()
                    && api.is_none_or(|api| row.head.get(&source("api")) == Some(api))
                    && self.bench.phase(&row.id).await == phase
                {
                    // It was read before its phase.
                    return self.bench.store.environment_get(&row.id).await.unwrap().unwrap();
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        match timeout(PATIENCE, wait).await {
            Ok(row) => row,
            Err(_) => panic!(
                "{origin:?} never was {phase:?} at {api:?}: {}",
                self.report(origin).await
            ),
        }
    }

    async fn report(&self, origin: &Origin) -> String {
        let mut text = String::new();
        for row in self.rows(origin).await {
            text += &format!("{row:#?}\n");
            for generation in self.bench.store.generation_list(&row.id).await.unwrap() {
                text += &format!("{:?} {:?}\n", generation.outcome, generation.failure);
            }
        }
        text
    }

    /// Where the files of the service `api` are from in what is live.
    async fn api_is_from(&self, id: &EnvironmentId) -> (String, CommitId) {
        let row = self.bench.store.environment_get(id).await.unwrap().unwrap();
        let live = row.live.expect("something is live");
        let spec = self.bench.store.generation_get(id, live).await.unwrap().unwrap().spec;
        let mounts = &spec.services().unwrap().services[&"api".parse().unwrap()]
            .workload
            .mounts;
        let from = mounts.iter().find_map(|mount| match &mount.kind {
            MountKind::Source { source, .. } => Some(source.clone()),
            _ => None,
        });
        let from = from.expect("a mount of a repository");
        (from.to_string(), spec.sources[&from].clone())
    }

    /// Waits until our comment on a pull request contains a text.
    async fn told(&self, forge: &LocalForge, number: PullRequestNumber, text: &str) -> String {
        let us = LocalForge::ours().id;
        let wait = async {
            loop {
                let comments = forge.comments(number).unwrap();
                let ours: Vec<_> = comments.iter().filter(|comment| comment.account.id == us).collect();
                assert!(ours.len() < 2, "two comments: {ours:#?}");
                if let [only] = ours.as_slice()
                    && only.body.contains(text)
                {
                    return only.body.clone();
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        match timeout(PATIENCE, wait).await {
            Ok(body) => body,
            Err(_) => panic!("never said {text:?}: {:#?}", forge.comments(number).unwrap()),
        }
    }

    async fn status(&self, forge: &LocalForge, commit: &CommitId, state: StatusState) {
        let wait = async {
            while forge.status(commit).unwrap().is_none_or(|status| status.state != state) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let done = timeout(PATIENCE, wait).await;
        assert!(done.is_ok(), "{commit} never was {state:?}: {:?}", forge.status(commit));
    }
}

fn source(name: &str) -> model::SourceName {
    name.parse().unwrap()
}

fn of_shop(number: PullRequestNumber) -> Origin {
    Origin::PullRequest { number: number.0 }
}

fn of_api(number: PullRequestNumber) -> Origin {
    Origin::FurtherPullRequest {
        source: source("api"),
        number: number.0,
    }
}

fn of_branch(name: &str) -> Origin {
    let branch: BranchName = branch(name);
    Origin::PullRequests { branch }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_further_source_is_at_the_branch_of_the_same_name_while_there_is_one() {
    let two = Two::new(false).await;
    let main = two.write("main", "two").await;
    let number = two.open_shop("feature").await;
    let origin = of_shop(number);
    let row = two.reaches(&origin, Phase::Live, Some(&main)).await;
    assert_eq!(two.api_is_from(&row.id).await, ("api".to_owned(), main.clone()));
    two.told(&two.bench.forge, number, "Source api is at branch main").await;

    // The base branch is followed.
    let main = two.write("main", "three").await;
    two.reaches(&origin, Phase::Live, Some(&main)).await;

    // A branch of that name appears, is pushed to, with force, and goes.
    let first = two.write("feature", "first").await;
    let live = two.reaches(&origin, Phase::Live, Some(&first)).await;
    assert_eq!(live.id, row.id);
    assert_eq!(two.api_is_from(&row.id).await, ("api".to_owned(), first.clone()));
    two.told(&two.bench.forge, number, "Source api is at branch feature")
        .await;
    let second = two.write("feature", "second").await;
    two.reaches(&origin, Phase::Live, Some(&second)).await;
    let forced = two
        .forge()
        .commit_create(None, &[FileChange::write("api.txt", "x")], "Anew")
        .await;
    let forced = forced.unwrap();
    two.set("feature", Some(&forced));
    two.reaches(&origin, Phase::Live, Some(&forced)).await;
    assert_eq!(two.api_is_from(&row.id).await, ("api".to_owned(), forced.clone()));
    two.set("feature", None);
    two.reaches(&origin, Phase::Live, Some(&main)).await;

    two.bench.forge.close(number).await.unwrap();
    two.reaches(&origin, Phase::Ended, None).await;
    assert_eq!(two.bench.inventory().await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_request_of_a_further_source_has_an_environment() {
    let two = Two::new(false).await;
    let (number, first) = two.open_api("feature", "first").await;
    let origin = of_api(number);
    let row = two.reaches(&origin, Phase::Live, Some(&first)).await;
    assert_eq!(row.label.as_str(), format!("pr-{number}-api"));
    assert_eq!(two.api_is_from(&row.id).await, ("api".to_owned(), first.clone()));
    let body = two
        .told(two.forge(), number, &format!("pr-{number}-api.preview.test"))
        .await;
    assert!(body.contains("Source shop is at branch main"), "{body}");
    two.status(two.forge(), &first, StatusState::Success).await;

    let second = two.write("feature", "second").await;
    two.reaches(&origin, Phase::Live, Some(&second)).await;
    two.status(two.forge(), &second, StatusState::Success).await;
    // The blueprint's own source has such a branch now.
    let shop = two.bench.push("feature", &compose("three")).await;
    let wait = async {
        while two.rows(&origin).await.pop().unwrap().head.get(&source("shop")) != Some(&shop) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, wait)
        .await
        .expect("the branch of the blueprint's source is followed");
    two.reaches(&origin, Phase::Live, Some(&second)).await;

    // The same number in the other repository is another pull request.
    let other = two.open_shop("other").await;
    assert_eq!(other, number);
    let of_other = two.reaches(&of_shop(other), Phase::Live, None).await;
    assert_ne!(of_other.id, row.id);
    two.forge().close(number).await.unwrap();
    two.reaches(&origin, Phase::Ended, None).await;
    let receipt = two.bench.store.receipt_get(&row.id).await.unwrap().expect("a receipt");
    assert!(receipt.entries.iter().all(|entry| entry.gone.is_some()));
    two.told(two.forge(), number, "verified gone").await;
    two.reaches(&of_shop(other), Phase::Live, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fork_of_a_further_source_waits_for_approval_and_chooses_no_branch_beside_it() {
    let two = Two::new(false).await;
    let shop = two.bench.push("fork", &compose("a branch of ours")).await;
    let files = [FileChange::write("api.txt", "from a fork")];
    let commit = two.forge().commit_create(None, &files, "Fork").await.unwrap();
    let new = NewPullRequest {
        head: LocalHead::Fork(commit.clone()),
        ..NewPullRequest::new(branch("x"), branch("main"), "Fork")
    };
    let number = two.forge().open_pull_request(new).await.unwrap().number;
    let row = two.reaches(&of_api(number), Phase::NeedsApproval, Some(&commit)).await;
    assert_eq!(two.bench.inventory().await, []);
    assert_ne!(
        row.head.get(&source("shop")),
        Some(&shop),
        "a branch that is called like the fork's"
    );

    let approval = format!("/preview approve {commit}");
    two.told(two.forge(), number, &approval).await;
    let (stranger, developer) = (LocalForge::stranger(), LocalForge::developer());
    two.forge().comment_add(number, stranger, &approval).await.unwrap();
    two.forge().comment_add(number, developer, &approval).await.unwrap();
    two.reaches(&of_api(number), Phase::Live, Some(&commit)).await;
    two.status(two.forge(), &commit, StatusState::Success).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_further_source_that_is_away_is_told_of_and_nothing_is_lost_for_it() {
    let two = Two::new(false).await;
    let (number, head) = two.open_api("feature", "first").await;
    let ours = two.reaches(&of_api(number), Phase::Live, Some(&head)).await;
    let shop = two.open_shop("change").await;
    let row = two.reaches(&of_shop(shop), Phase::Live, None).await;

    two.api.set(Door::Silent);
    two.told(&two.bench.forge, shop, "Source api can not be read").await;
    // What the other repository does is followed.
    let pushed = two.bench.push("change", &compose("three")).await;
    let live = two.bench.reaches(shop, Phase::Live, Some(&pushed)).await;
    assert_eq!(live.head.get(&source("api")), row.head.get(&source("api")));
    two.reaches(&of_api(number), Phase::Live, Some(&head)).await;
    // A new environment has nothing of it to run from, and says so.
    let late = two.open_shop("late").await;
    let told = two.told(&two.bench.forge, late, "source `api` can not be read").await;
    assert!(told.contains("maquette.yaml:4"), "{told}");
    two.bench.forge.close(shop).await.unwrap();
    two.reaches(&of_shop(shop), Phase::Ended, None).await;

    two.api.set(Door::Open);
    two.reaches(&of_shop(late), Phase::Live, None).await;
    let live = two.rows(&of_api(number)).await.pop().unwrap();
    assert_eq!((live.id, live.wanted), (ours.id, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_further_source_without_its_base_branch_says_which_it_lacks() {
    let two = Two::without_base(false).await;
    let number = two.open_shop("feature").await;
    two.reaches(&of_shop(number), Phase::Failed, None).await;
    let words = "has neither a branch feature nor its base branch main";
    two.told(&two.bench.forge, number, words).await;
    let main = two.write("main", "one").await;
    two.reaches(&of_shop(number), Phase::Live, Some(&main)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pull_requests_of_one_branch_share_an_environment_until_the_last_is_closed() {
    let two = Two::new(true).await;
    let origin = of_branch("feature");
    let (of_the_api, first) = two.open_api("feature", "first").await;
    let row = two.reaches(&origin, Phase::Live, Some(&first)).await;
    assert_eq!(row.label.as_str(), "prs-feature");
    let of_the_shop = two.open_shop("feature").await;
    let body = two
        .told(&two.bench.forge, of_the_shop, "prs-feature.preview.test")
        .await;
    assert!(body.contains("The environment is shared with"), "{body}");
    two.told(two.forge(), of_the_api, "The environment is shared with")
        .await;
    let shop = two.bench.push("feature", &compose("three")).await;
    two.status(&two.bench.forge, &shop, StatusState::Success).await;
    let second = two.write("feature", "second").await;
    let live = two.reaches(&origin, Phase::Live, Some(&second)).await;
    assert_eq!((&live.id, live.head.get(&source("shop"))), (&row.id, Some(&shop)));
    two.status(two.forge(), &second, StatusState::Success).await;

    // A fork's branch may have any name.
    let files = [FileChange::write("api.txt", "from a fork")];
    let commit = two.forge().commit_create(None, &files, "Fork").await.unwrap();
    let new = NewPullRequest {
        head: LocalHead::Fork(commit.clone()),
        ..NewPullRequest::new(branch("feature"), branch("main"), "Fork")
    };
    let fork = two.forge().open_pull_request(new).await.unwrap().number;
    two.reaches(&of_api(fork), Phase::NeedsApproval, Some(&commit)).await;

    two.forge().close(of_the_api).await.unwrap();
    two.told(two.forge(), of_the_api, "the environment goes on for").await;
    two.reaches(&origin, Phase::Live, Some(&second)).await;
    two.bench.forge.close(of_the_shop).await.unwrap();
    two.reaches(&origin, Phase::Ended, None).await;
    two.told(two.forge(), of_the_api, "verified gone").await;
    two.told(&two.bench.forge, of_the_shop, "verified gone").await;
    assert_eq!(two.rows(&origin).await.len(), 1);
    assert!(two.rows(&of_shop(of_the_shop)).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_people_ask_for_of_a_further_source_holds_in_one_environment() {
    let two = Two::new(false).await;
    let (shop, handle) = ("shop".parse().unwrap(), two.bench.handle.clone().unwrap());
    two.bench.push("change", &compose("two")).await;
    let same = two.write("change", "of the same name").await;
    let other = two.write("other", "another branch").await;
    let made = handle.create_branch(&shop, &branch("change"), "a test").await.unwrap();
    let row = two.reaches(&made.origin, Phase::Live, Some(&same)).await;

    // A copy has the commits of the original, and is left alone.
    let copy = handle.create_clone(&row.id, "a test").await.unwrap();
    let copied = two.reaches(&copy.origin, Phase::Live, Some(&same)).await;
    assert_eq!(copied.head, row.head);

    // The whole source follows another branch.
    let api = "api".parse().unwrap();
    handle.update_service(&row.id, &api, &branch("other")).await.unwrap();
    two.reaches(&made.origin, Phase::Live, Some(&other)).await;
    let other = two.write("other", "pushed").await;
    two.reaches(&made.origin, Phase::Live, Some(&other)).await;

    // Another commit, until the branch moves on.
    let (from, first) = (source("api"), same.clone());
    handle.deploy_of(&row.id, Some(&from), &first).await.unwrap();
    two.reaches(&made.origin, Phase::Live, Some(&first)).await;
    let other = two.write("other", "moved on").await;
    two.reaches(&made.origin, Phase::Live, Some(&other)).await;
    let copied = two.reaches(&copy.origin, Phase::Live, Some(&same)).await;
    assert_eq!(copied.head, row.head);

    // It ends with the branch of the source that carries the blueprint.
    two.bench.forge.delete_branch(&branch("change")).await.unwrap();
    two.reaches(&made.origin, Phase::Ended, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whether_pull_requests_share_is_a_setting_that_may_change() {
    let mut two = Two::new(false).await;
    let number = two.open_shop("feature").await;
    let (of_the_api, head) = two.open_api("feature", "first").await;
    let own = [of_shop(number), of_api(of_the_api)];
    for origin in &own {
        two.reaches(origin, Phase::Live, Some(&head)).await;
    }
    two.bench.kill();
    two.bench.joins = true;
    two.bench.start().await;
    let shared = two.reaches(&of_branch("feature"), Phase::Live, Some(&head)).await;
    for origin in &own {
        let ended = two.reaches(origin, Phase::Ended, None).await;
        assert!(ended.reason.contains("share an environment now"), "{}", ended.reason);
    }
    two.told(two.forge(), of_the_api, "prs-feature.preview.test").await;

    two.bench.kill();
    two.bench.joins = false;
    two.bench.start().await;
    let ended = two.reaches(&of_branch("feature"), Phase::Ended, None).await;
    assert_eq!(ended.id, shared.id);
    for origin in &own {
        two.reaches(origin, Phase::Live, Some(&head)).await;
    }
    two.told(two.forge(), of_the_api, &format!("pr-{of_the_api}-api.preview.test"))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_is_taken_out_of_the_configuration_is_no_part_of_what_follows() {
    let mut two = Two::new(false).await;
    let number = two.open_shop("feature").await;
    let row = two.reaches(&of_shop(number), Phase::Live, None).await;
    two.bench.kill();
    two.bench.api = None;
    two.bench.start().await;
    // The stack still names it.
    two.told(&two.bench.forge, number, "the project has no source `api`")
        .await;
    let settings = "stack:\n  services:\n    web: { host: true, public: true }\npolicy: { baseline: none }\n";
    let files = [
        FileChange::write("maquette.yaml", settings),
        FileChange::write("compose.yaml", crate::bench::compose("alone")),
    ];
    let head = two
        .bench
        .forge
        .commit(&branch("feature"), None, &files, "Alone")
        .await
        .unwrap();
    let live = two.bench.reaches(number, Phase::Live, Some(&head)).await;
    assert_eq!(live.id, row.id);
    assert_eq!(live.head.get(&source("api")), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_shared_stays_at_the_commit_that_may_run_until_the_next_one_is_approved() {
    let two = Two::new(true).await;
    let origin = of_branch("feature");
    let (number, first) = two.open_api("feature", "first").await;
    two.reaches(&origin, Phase::Live, Some(&first)).await;
    // Nobody knows who pushed this.
    let files = [FileChange::write("api.txt", "whose?")];
    let doubted = two.forge().commit_create(None, &files, "Whose?").await.unwrap();
    two.api.doubt(&doubted);
    two.set("feature", Some(&doubted));
    let approval = format!("/preview approve {doubted}");
    two.told(two.forge(), number, &approval).await;
    let shop = two.open_shop("feature").await;
    let words = format!("{} waits for approval", doubted.short());
    two.told(&two.bench.forge, shop, &words).await;
    let row = two.reaches(&origin, Phase::Live, Some(&first)).await;

    let developer = LocalForge::developer();
    two.forge().comment_add(number, developer, &approval).await.unwrap();
    let live = two.reaches(&origin, Phase::Live, Some(&doubted)).await;
    assert_eq!(live.id, row.id);
    two.status(two.forge(), &doubted, StatusState::Success).await;
}
