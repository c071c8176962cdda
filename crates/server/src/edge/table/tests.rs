//! What visitors find behind a host, for each way that an environment can stand.

use super::*;
use crate::{config::ServerConfig, sources};
use forge::{
    git::{Git, GitLimits},
    local::{FileChange, LocalForge},
};
use model::{CommitId, Digest, EnvironmentSpec, Limits, Restart, Root, Service, ServiceStack, Stack, Workload};
use reconciler::{Reconciler, Settings, SystemClock};
use runtime::simulator::Simulator;
use secrets::Vault;
use std::path::Path;
use store::{EnvironmentPatch, Failure, Outcome, PullRequestState, Store, Suspension};
use tempfile::TempDir;

/// Nothing takes longer on a machine that is busy with other tests, too.
const PATIENCE: Duration = Duration::from_secs(60);

/// A store in which tests write what they like: the reconciler, which would tidy up, has one of its own.
struct World {
    app: App,
    _directory: TempDir,
}

fn commit(digit: char) -> CommitId {
    digit.to_string().repeat(40).parse().unwrap()
}

fn heads(digit: char) -> BTreeMap<model::SourceName, CommitId> {
    [("shop".parse().unwrap(), commit(digit))].into()
}

/// Environment `pr-<number>`, for which nothing was made yet.
fn row(number: u64) -> EnvironmentRow {
    EnvironmentRow {
        id: format!("e{number:0>9}").parse().unwrap(),
        project: "shop".parse().unwrap(),
        origin: Origin::PullRequest { number },
        label: format!("pr-{number}").parse().unwrap(),
        created: Timestamp(number),
        wanted: true,
        reason: String::new(),
        approved_commit: Some(commit('a')),
        head: heads('a'),
        newest: None,
        live: None,
        failed: None,
        power: Power::Running,
        suspended: None,
        ended: None,
        live_at: None,
        nudged: None,
        overrides: serde_json::Value::Null,
        cluster: None,
    }
}

fn service(public_port: Option<u16>) -> Service {
    let workload = Workload {
        root: Root::Host,
        entrypoint: None,
        command: None,
        environment: BTreeMap::new(),
        working_dir: None,
        mounts: Vec::new(),
        limits: Limits::default(),
        read_only: true,
        options: model::Options::default(),
    };
    Service {
        workload,
        aliases: Vec::new(),
        ports: public_port.into_iter().collect(),
        public_port,
        depends_on: BTreeMap::new(),
        health: None,
        restart: Restart::Never,
        stop_signal: "SIGTERM".into(),
        stop_grace_ms: 1000,
        networks: BTreeMap::new(),
        restarts_with: std::collections::BTreeSet::new(),
        restart_limit: None,
        net: model::NetworkMode::default(),
    }
}

/// A generation with these services, each with its public port if it has one.
fn generation(of: &EnvironmentRow, number: u64, digit: char, services: &[(&str, Option<u16>)]) -> GenerationRow {
    let services = services
        .iter()
        .map(|(name, port)| (name.parse().unwrap(), service(*port)))
        .collect();
    let spec = EnvironmentSpec {
        environment: of.id.clone(),
        generation: Generation(number),
        project: of.project.clone(),
        origin: of.origin.clone(),
        sources: heads(digit),
        stack: Stack::Services(ServiceStack {
            services,
            ..ServiceStack::default()
        }),
        limits: Limits::default(),
        egress: model::Egress::default(),
        secrets: BTreeMap::new(),
    };
    GenerationRow {
        environment: of.id.clone(),
        generation: Generation(number),
        inputs: Digest::of(&number.to_le_bytes()),
        spec,
        policy_commit: None,
        restores: None,
        created: Timestamp(number),
        outcome: None,
        failure: None,
        notes: Vec::new(),
    }
}

fn pull(number: u64, title: &str) -> PullRequestRow {
    PullRequestRow {
        project: "shop".parse().unwrap(),
        source: "shop".parse().unwrap(),
        number,
        title: title.to_owned(),
        author: "ada".into(),
        branch: "change".into(),
        head: commit('a'),
        base: "main".into(),
        state: PullRequestState::Open,
        fork: false,
        trusted: true,
        draft: false,
        labels: Vec::new(),
        web_url: Some(format!("https://forge.test/{number}")),
        observed: Timestamp(1),
        closed_reads: 0,
    }
}

impl World {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        let main = "main".parse().unwrap();
        let forge = LocalForge::open(at.join("forge"), &"local/shop".parse().unwrap(), &main)
            .await
            .unwrap();
        let file = FileChange::write("compose.yaml", "services: {}\n");
        forge.commit(&main, None, &[file], "Begin").await.unwrap();
        let text = format!(
            "state_dir: {0}/state\nlisten: 127.0.0.1:0\ngateway: {{bases: [{{domain: Preview.test}}]}}\n\
             projects:\n  - name: shop\n    sources:\n      - forge: {{kind: local, path: {0}/forge}}\n",
            at.display()
        );
        let config = ServerConfig::parse(&text, Path::new("test.yaml")).unwrap();
        let (ours, other) = (
            Store::open(&at.join("ours")).await.unwrap(),
            Store::open(&at.join("other")).await.unwrap(),
        );
        let opened = sources::open(&config, &other).await.unwrap();
        let runtime = Arc::new(Simulator::new());
        let reconciler = Reconciler {
            store: other,
            runtime: runtime.clone(),
            projects: opened.projects,
            git: Git::new(at.join("git-home"), GitLimits::default()).unwrap(),
            mirrors: at.join("mirrors"),
            vault: Arc::new(Vault::open(&at.join("secrets"), &at.join("secrets.key")).unwrap()),
            clock: Arc::new(SystemClock),
            settings: Settings::default(),
        };
        let handle = reconciler.start().await.unwrap();
        Self {
            app: App::new(ours, runtime, handle, opened.secrets),
            _directory: directory,
        }
    }

    async fn put(&self, row: &EnvironmentRow, generations: &[GenerationRow]) {
        self.app.store.environment_create(row).await.unwrap();
        for generation in generations {
            self.app.store.generation_put(generation).await.unwrap();
        }
    }

    async fn routes(&self) -> BTreeMap<String, Route> {
        self.again(&mut Settled::new()).await
    }

    async fn awaited(&self) -> Vec<(RouteKey, Target)> {
        look(&self.app, &mut Settled::new()).await.unwrap().1
    }

    /// With what was made before.
    async fn again(&self, settled: &mut Settled) -> BTreeMap<String, Route> {
        let (made, _, waking) = look(&self.app, settled).await.unwrap();
        assert!(!waking);
        let named = |(key, route): (RouteKey, Route)| (format!("{}.{}", key.label, key.base), route);
        made.into_iter().map(named).collect()
    }
}

const WEB: &[(&str, Option<u16>)] = &[("api", Some(81)), ("db", None), ("web", Some(80))];

#[tokio::test]
async fn a_host_is_there_before_anything_is_known_of_what_will_run() {
    let world = World::new().await;
    world.put(&row(7), &[]).await;
    world.app.store.pull_request_put(&pull(7, "A change")).await.unwrap();
    let routes = world.routes().await;
    let route = &routes["pr-7.preview.test"];
    assert_eq!(routes.len(), 1, "{routes:#?}");
    assert_eq!(route.state, RouteState::Starting { steps: Vec::new() });
    let about = About {
        title: "A change".into(),
        pull_request: Some(7),
        commit: commit('a').to_string(),
        link: Some("https://forge.test/7".into()),
    };
    assert_eq!(route.about, about);
    assert_eq!(hosts(&world.app, &row(7)).await.unwrap(), ["pr-7.preview.test"]);
}

#[tokio::test]
async fn each_public_service_has_a_host_and_the_first_one_is_the_environments_own() {
    let world = World::new().await;
    let mut live = row(7);
    (live.newest, live.live) = (Some(Generation(3)), Some(Generation(3)));
    world.put(&live, &[generation(&live, 3, 'a', WEB)]).await;
    let routes = world.routes().await;
    let found: Vec<_> = routes
        .iter()
        .map(|(host, route)| (host.as_str(), route.target.service.as_str(), route.target.port))
        .collect();
    let wanted = [("api--pr-7.preview.test", "api", 81), ("pr-7.preview.test", "web", 80)];
    assert_eq!(found, wanted);
    for route in routes.values() {
        assert_eq!((&route.state, route.epoch), (&RouteState::Live, 3));
        assert_eq!(route.target.environment, live.id);
    }
    // Sessions of all of them end with it.
    let hosts = hosts(&world.app, &live).await.unwrap();
    assert!(routes.keys().all(|host| hosts.contains(host)), "{hosts:?}");
}

#[tokio::test]
async fn while_an_update_is_on_its_way_hosts_lead_to_what_is_live() {
    let world = World::new().await;
    let mut updating = row(7);
    (updating.newest, updating.live) = (Some(Generation(4)), Some(Generation(3)));
    let old = generation(&updating, 3, 'b', &[("web", Some(80))]);
    let new = generation(&updating, 4, 'a', &[("web", Some(8080)), ("admin", Some(90))]);
    world.put(&updating, &[old, new]).await;
    let routes = world.routes().await;
    let route = &routes["pr-7.preview.test"];
    assert_eq!(routes.len(), 1, "{routes:#?}");
    assert_eq!(
        (&route.state, route.target.port, route.epoch),
        (&RouteState::Live, 80, 3)
    );
    assert_eq!(route.about.commit, commit('b').to_string());

    let coming = world.awaited().await;
    let coming: Vec<_> = coming
        .iter()
        .map(|(key, target)| (key.label.as_str(), target.service.as_str(), target.port))
        .collect();
    assert_eq!(coming, [("pr-7", "web", 8080), ("admin--pr-7", "admin", 90)]);
    let done = (Outcome::Live, None);
    let store = &world.app.store;
    store
        .generation_outcome(&updating.id, Generation(4), done.0, done.1)
        .await
        .unwrap();
    let patch = EnvironmentPatch {
        live: Some(Some(Generation(4))),
        ..EnvironmentPatch::default()
    };
    store.environment_update(&updating.id, &patch).await.unwrap();
    assert_eq!(world.awaited().await, []);
    assert_eq!(world.routes().await["pr-7.preview.test"].target.port, 8080);
}

/// An environment at its first generation, changed like this, and what visitors find.
async fn state_of(change: impl FnOnce(&mut EnvironmentRow, &mut GenerationRow)) -> RouteState {
    let world = World::new().await;
    let mut row = row(7);
    row.newest = Some(Generation(1));
    let mut generation = generation(&row, 1, 'a', WEB);
    change(&mut row, &mut generation);
    world.put(&row, std::slice::from_ref(&generation)).await;
    if let (Some(outcome), failure) = (generation.outcome, &generation.failure) {
        let store = &world.app.store;
        store
            .generation_outcome(&row.id, generation.generation, outcome, failure.as_ref())
            .await
            .unwrap();
    }
    let routes = world.routes().await;
    routes["pr-7.preview.test"].state.clone()
}

#[tokio::test]
async fn visitors_find_what_is_so() {
    let live = |row: &mut EnvironmentRow| row.live = Some(Generation(1));
    let starting = state_of(|_, _| {}).await;
    assert_eq!(starting, RouteState::Starting { steps: Vec::new() });
    let asleep = state_of(|row, _| {
        live(row);
        row.power = Power::Stopped;
    });
    assert_eq!(asleep.await, RouteState::Sleeping);
    // A visit wakes it first.
    let asleep_and_behind = state_of(|row, _| {
        live(row);
        row.power = Power::Frozen;
        row.head = heads('c');
        row.approved_commit = Some(commit('c'));
    });
    assert_eq!(asleep_and_behind.await, RouteState::Sleeping);
    let unapproved_push = state_of(|row, _| {
        live(row);
        row.head = heads('c');
    });
    assert_eq!(unapproved_push.await, RouteState::Live);
    let ending = state_of(|row, _| {
        live(row);
        row.wanted = false;
    });
    assert_eq!(ending.await, RouteState::Gone);
}

#[tokio::test]
async fn what_is_kept_from_running_is_not_told_as_a_failure() {
    let unapproved = state_of(|row, _| row.approved_commit = None).await;
    let RouteState::Held { reason } = unapproved else {
        panic!("{unapproved:?}")
    };
    assert_eq!(
        reason,
        ["Nothing runs until somebody who may push to the repository approves the commit."]
    );
    let suspended = state_of(|row, _| {
        row.live = Some(Generation(1));
        row.suspended = Some(Suspension {
            since: Timestamp(1),
            reason: "The forge can not be read.".into(),
            until: None,
        });
    })
    .await;
    let RouteState::Held { reason } = suspended else {
        panic!("{suspended:?}")
    };
    assert_eq!(reason[0], "The forge can not be read.");
    assert!(
        reason.len() == 2 && reason[1].contains("runs again by itself"),
        "{reason:?}"
    );
}

#[tokio::test]
async fn a_failure_is_told_with_its_hint_and_a_bounded_log() {
    let failed = |failure: Option<Failure>| {
        state_of(|row, generation| {
            row.failed = Some(Generation(1));
            (generation.outcome, generation.failure) = (Some(Outcome::Failed), failure);
        })
    };
    let failure = Failure {
        step: "service:web".into(),
        message: "web ended with status 3".into(),
        hint: Some("look at its log".into()),
        log: (0..500).map(|n| format!("line {n}")).collect(),
    };
    let RouteState::Failed { reason } = failed(Some(failure)).await else {
        panic!("it has failed")
    };
    let told = ["service:web: web ended with status 3", "look at its log", "line 0"];
    assert_eq!(reason[..3], told);
    assert_eq!(reason.len(), 2 + REASON_LINES);
    let unexplained = failed(None).await;
    let reason = vec!["It could not be started.".to_owned()];
    assert_eq!(unexplained, RouteState::Failed { reason });
}

#[tokio::test]
async fn what_is_not_there_for_people_has_no_host() {
    let world = World::new().await;
    for (number, origin, project) in [
        (1, Origin::Golden, "shop"),
        (2, Origin::Spare, "shop"),
        (3, Origin::PullRequest { number: 3 }, "forgotten"),
    ] {
        let mut row = row(number);
        (row.origin, row.project) = (origin, project.parse().unwrap());
        (row.newest, row.live) = (Some(Generation(1)), None);
        let made = generation(&row, 1, 'a', WEB);
        world.put(&row, &[made]).await;
    }
    assert_eq!(world.routes().await, BTreeMap::new());
    assert_eq!(world.awaited().await, []);
    let mut forgotten = row(3);
    forgotten.project = "forgotten".parse().unwrap();
    assert_eq!(hosts(&world.app, &forgotten).await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn what_is_settled_is_made_again_when_it_changes() {
    let world = World::new().await;
    let store = &world.app.store;
    let mut live = row(7);
    (live.newest, live.live) = (Some(Generation(1)), Some(Generation(1)));
    world.put(&live, &[generation(&live, 1, 'a', WEB)]).await;
    store.pull_request_put(&pull(7, "A change")).await.unwrap();
    let mut settled = Settled::new();
    let first = world.again(&mut settled).await;
    assert_eq!(settled.len(), 1);
    assert_eq!(world.again(&mut settled).await, first);

    store.pull_request_put(&pull(7, "A better title")).await.unwrap();
    let renamed = world.again(&mut settled).await;
    assert_eq!(renamed["pr-7.preview.test"].about.title, "A better title");
    let patch = EnvironmentPatch {
        power: Some(Power::Stopped),
        ..EnvironmentPatch::default()
    };
    store.environment_update(&live.id, &patch).await.unwrap();
    let asleep = world.again(&mut settled).await;
    assert!(asleep.values().all(|route| route.state == RouteState::Sleeping));
    let patch = EnvironmentPatch {
        wanted: Some(false),
        ended: Some(Some(Timestamp(9))),
        ..EnvironmentPatch::default()
    };
    store.environment_update(&live.id, &patch).await.unwrap();
    assert_eq!(world.again(&mut settled).await, BTreeMap::new());
    assert!(settled.is_empty(), "nothing is kept of what has ended");
}

#[tokio::test]
async fn the_version_rises_only_when_routes_do() {
    let world = World::new().await;
    world.put(&row(7), &[]).await;
    let (sender, mut table) = watch::channel(Table::default());
    let end = CancellationToken::new();
    let keeper = tokio::spawn(keep(world.app.clone(), sender, end.clone()));
    let has = async |table: &mut watch::Receiver<Table>, title: &str| {
        let of = |table: &Table| table.routes.first().map(|(_, route)| route.about.title.clone());
        let found = timeout(PATIENCE, table.wait_for(|table| of(table).as_deref() == Some(title))).await;
        found.expect(title).unwrap().version
    };
    assert_eq!(has(&mut table, "").await, 1);
    let store = &world.app.store;
    for (at, title) in [(2, "One"), (3, "Two")] {
        // This is written, too, and changes nothing that visitors see.
        let patch = EnvironmentPatch {
            nudged: Some(Some(Timestamp(at))),
            ..EnvironmentPatch::default()
        };
        store.environment_update(&row(7).id, &patch).await.unwrap();
        sleep(PAUSE * 4).await;
        store.pull_request_put(&pull(7, title)).await.unwrap();
        assert_eq!(has(&mut table, title).await, at);
    }
    end.cancel();
    timeout(PATIENCE, keeper).await.unwrap().unwrap();
}

#[test]
fn steps_are_told_as_they_stand() {
    use planner::StepState as Stands;
    let step = |state| planner::Step {
        id: "service:web".into(),
        action: Action::Apply(Stage::Services(["web".parse().unwrap()].into())),
        after: Vec::new(),
        state,
    };
    let (never, once) = (
        BTreeMap::new(),
        BTreeMap::from([("service:web".to_owned(), Timestamp(1500))]),
    );
    let failure = "no such file".to_owned();
    let table = [
        (Stands::Done, &once, StepState::Done, ""),
        (Stands::Ready, &never, StepState::Waiting, ""),
        (Stands::Ready, &once, StepState::Running, ""),
        (Stands::Blocked { by: Vec::new() }, &never, StepState::Waiting, ""),
        (
            Stands::InProgress {
                waiting_for: "web to be ready".into(),
                until: None,
            },
            &once,
            StepState::Running,
            "waiting for web to be ready",
        ),
        (Stands::Failed { failure }, &once, StepState::Failed, "no such file"),
    ];
    for (stands, began, state, detail) in table {
        let told = shown(&step(stands), began);
        assert_eq!(
            (told.name.as_str(), told.state, told.detail.as_str()),
            ("Start web", state, detail)
        );
        let since = began
            .get("service:web")
            .map(|_| SystemTime::UNIX_EPOCH + Duration::from_millis(1500));
        assert_eq!(told.since, since);
    }
}
