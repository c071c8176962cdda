//! What is made of good input.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that can not go on fails"
)]

mod support;

use blueprint::{Blueprint, Context, MemoryTree, Problems};
use model::{Condition, JobEvent, MountKind, Root, ServiceName};
use support::{cell, context, docker, read};

const COMPOSE: &str = r#"
name: shop
x-app: &app
  image: debian:12
  working_dir: /app
  volumes: [".:/app"]
  restart: on-failure
services:
  postgres:
    image: postgres:15
    environment: { POSTGRES_USER: shop, POSTGRES_PASSWORD: "${DB_PASSWORD:-s3cret}", POSTGRES_DB: shopdb }
    volumes: [pg:/var/lib/postgresql/data]
    healthcheck: { test: [CMD-SHELL, "pg_isready -U shop"], interval: 1s }
  queue: { image: "rabbitmq:3-management" }
  cache: { image: "redis" }
  api:
    <<: *app
    command: python3 -m api --port 8000
    expose: ["8000"]
    environment: [ "DATABASE_URL=postgres://shop@postgres/shopdb", "PUBLIC=${MAQUETTE_URL_API}" ]
    depends_on: { postgres: { condition: service_healthy }, queue: { condition: service_started } }
  web:
    <<: *app
    command: [node, server.js]
    ports: ["3000:3000"]
    environment: { URL: "${MAQUETTE_URL}", TITLE: "${MAQUETTE_TITLE}" }
    depends_on: [api]
    tmpfs: /tmp:size=64m
    deploy: { resources: { limits: { memory: 128M, cpus: "0.5", pids: 50 } } }
volumes: { pg: }
"#;

const SETTINGS: &str = r#"
stack:
  services:
    web: { host: true, public: true }
    api: { host: true, public: 8000 }
  data:
    postgres: { versions: "15-17", migrations: db/migrations/*.sql, seed: [db/seed.sql] }
  jobs:
    warm: { service: api, run: [python3, -m, api.warm], on: start, timeout: 30s, environment: { WARM: yes } }
policy: { sleep_after: 10m, limits: { memory: 1GiB } }
"#;

fn shop() -> MemoryTree {
    MemoryTree::new([
        ("compose.yaml", COMPOSE),
        ("maquette.yaml", SETTINGS),
        ("db/migrations/0002_b.sql", "select 2"),
        ("db/migrations/0001_a.sql", "select 1"),
        ("db/migrations/old/0000.sql", "select 0"),
        ("db/seed.sql", "insert"),
        ("server.js", "//"),
    ])
}

fn name(text: &str) -> ServiceName {
    text.parse().unwrap()
}

#[test]
fn a_stack_of_services_and_engines_is_read_whole() {
    let blueprint = read(&shop()).map_err(|p| panic!("{p}")).unwrap();
    insta::assert_json_snapshot!(blueprint);
}

#[test]
fn engines_keep_their_roles_and_their_data() {
    let blueprint = read(&shop()).unwrap();
    let stack = &blueprint.stack;
    let data = &stack.data[&name("postgres")];
    assert_eq!(
        (data.user.as_str(), data.database.as_str(), data.password.plain()),
        ("shop", "shopdb", Some("s3cret"))
    );
    assert_eq!(data.volume.as_str(), "pg");
    let paths: Vec<&str> = data.migrations.iter().map(|m| m.path.as_str()).collect();
    assert_eq!(paths, ["db/migrations/0001_a.sql", "db/migrations/0002_b.sql"]);
    assert!(stack.volumes.contains_key(&data.volume));
    let engine = &stack.services[&name("queue")];
    assert_eq!(engine.ports, [5672]);
    assert!(
        engine.workload.environment.is_empty(),
        "engines see no documented values"
    );
}

#[test]
fn addresses_and_titles_reach_services() {
    let blueprint = read(&shop()).unwrap();
    let value = |service: &str, variable: &str| {
        let environment = &blueprint.stack.services[&name(service)].workload.environment;
        environment[variable].plain().unwrap().to_owned()
    };
    assert_eq!(blueprint.public, [name("web"), name("api")]);
    assert_eq!(value("web", "URL"), "http://pr-12.localhost:8080");
    assert_eq!(value("api", "PUBLIC"), "http://api--pr-12.localhost:8080");
    assert_eq!(value("api", "MAQUETTE_PULL_REQUEST"), "12");
    assert_eq!(value("web", "TITLE"), "Fix login  ");
}

#[test]
fn jobs_have_what_their_service_has() {
    let blueprint = read(&shop()).unwrap();
    let job = &blueprint.stack.jobs[&"warm".parse().unwrap()];
    assert_eq!(job.on, JobEvent::Start);
    assert_eq!(job.timeout_ms, 30_000);
    assert_eq!(job.workload.root, Root::Host);
    assert_eq!(job.needs, [name("postgres"), name("queue")]);
    assert_eq!(job.workload.environment["WARM"].plain(), Some("yes"));
    assert!(job.workload.environment.contains_key("DATABASE_URL"));
}

#[test]
fn a_compose_file_alone_is_enough_where_images_run() {
    let tree = MemoryTree::new([("docker-compose.yml", "services: { web: { image: nginx, ports: [80] } }")]);
    let blueprint = Blueprint::read(&tree, None, &context(), &docker()).unwrap();
    assert_eq!(blueprint.public, [name("web")]);
    assert_eq!(blueprint.stack.services[&name("web")].public_port, Some(80));
    assert_eq!(blueprint.policy, blueprint::Policy::default());
    assert!(blueprint.warnings.is_empty(), "{}", Problems(blueprint.warnings));
}

#[test]
fn several_published_services_are_all_public_and_web_is_the_main_one() {
    let tree = MemoryTree::new([(
        "compose.yaml",
        "services: { admin: { image: a, ports: [9000] }, web: { image: a, ports: [80] }, db: { image: postgres:15, ports: [5432], environment: { POSTGRES_PASSWORD: x } } }",
    )]);
    let blueprint = Blueprint::read(&tree, None, &context(), &docker()).unwrap();
    assert_eq!(blueprint.public, [name("web"), name("admin")]);
    assert_eq!(blueprint.stack.services[&name("db")].public_port, None);
}

#[test]
fn policy_comes_from_the_policy_branch_alone() {
    let head = shop();
    let ruling = MemoryTree::new([("maquette.yaml", "policy: { sleep_after: 1h }")]);
    let blueprint = Blueprint::read(&head, Some(&ruling), &context(), &cell()).unwrap();
    assert_eq!(blueprint.policy.sleep_after_ms, 3_600_000);
    assert_eq!(blueprint.policy.limits.memory_bytes, Some(2 << 30));
    assert!(
        Problems(blueprint.warnings)
            .to_string()
            .contains("read from the policy branch, not from here")
    );
    assert_eq!(
        blueprint.explanation.0["policy.sleep_after"].from.to_string(),
        "maquette.yaml:1 (policy branch)"
    );

    let strict = Blueprint::read(&head, None, &context(), &cell()).unwrap();
    assert_eq!(strict.policy, blueprint::Policy::default());
}

#[test]
fn triggers_are_compared_as_written() {
    let tree = MemoryTree::new([(
        "maquette.yaml",
        "policy: { triggers: { drafts: false, labels: [preview], base_branches: [main, 'release/*'] } }",
    )]);
    let (policy, warnings) = blueprint::Policy::read(&tree).unwrap();
    assert!(warnings.is_empty());
    assert!(policy.triggers.admits(false, "release/1", ["x", "preview"]));
    assert!(!policy.triggers.admits(true, "main", ["preview"]));
    assert!(!policy.triggers.admits(false, "develop", ["preview"]));
    assert!(!policy.triggers.admits(false, "main", ["$(preview)"]));
    assert_eq!(
        policy.triggers.uncovered(false, "main", ["other"]),
        Some(blueprint::Uncovered::Labels)
    );
}

#[test]
fn the_fingerprint_of_a_context_is_that_of_what_a_stack_can_see() {
    let (now, mut later) = (context(), context());
    assert_eq!(now.fingerprint(), later.fingerprint());
    let title = |text: &str| {
        Some(blueprint::PullRequest {
            number: 12,
            title: text.to_owned(),
        })
    };
    later.pull_request = title("Another title");
    assert_ne!(now.fingerprint(), later.fingerprint());
    // What is cut off nobody sees.
    let (mut long, mut longer) = (context(), context());
    long.pull_request = title(&"x".repeat(300));
    longer.pull_request = title(&"x".repeat(301));
    assert_eq!(long.fingerprint(), longer.fingerprint());
}

#[test]
fn conditions_and_mounts_become_what_runtimes_know() {
    let blueprint = read(&shop()).unwrap();
    let api = &blueprint.stack.services[&name("api")];
    assert_eq!(api.depends_on[&name("postgres")], Condition::Healthy);
    assert_eq!(api.workload.command.as_ref().unwrap().len(), 5);
    let MountKind::Source { source, subpath } = &api.workload.mounts[0].kind else {
        panic!("a source")
    };
    assert_eq!((source.as_str(), subpath.as_str()), ("shop", ""));
}

#[test]
fn the_published_schema_is_that_of_the_reader() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/maquette.schema.json");
    let text = format!("{}\n", serde_json::to_string_pretty(&blueprint::schema()).unwrap());
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let stored = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        stored == text,
        "docs/reference/maquette.schema.json is stale: run this test with UPDATE=1"
    );
}

#[test]
fn services_are_left_out_with_their_data_and_jobs_and_what_depends_on_them_runs_without() {
    let compose = "services:\n  web: { image: nginx, ports: ['80'], depends_on: [search, db] }\n  \
                   search: { image: search, expose: ['9'], depends_on: [index] }\n  index: { image: postgres:15, environment: { POSTGRES_PASSWORD: x } }\n  \
                   db: { image: postgres:15, environment: { POSTGRES_PASSWORD: x } }\n";
    let settings = |without: &str| {
        format!(
            "stack:\n  {without}\n  data: {{ index: {{ versions: '15' }} }}\n  jobs:\n    fill: {{ service: search, run: [x] }}\n    \
             warm: {{ service: web, run: [x] }}\n    check: {{ service: web, run: [x], needs: [index] }}\n"
        )
    };
    let tree = |without: &str| MemoryTree::new([("compose.yaml", compose), ("maquette.yaml", &settings(without))]);
    let names = |blueprint: &Blueprint| {
        let services = blueprint.stack.services.keys().map(ToString::to_string);
        let jobs = blueprint.stack.jobs.keys().map(ToString::to_string);
        (
            services.collect::<Vec<_>>().join(" "),
            jobs.collect::<Vec<_>>().join(" "),
        )
    };
    let read = |tree: &MemoryTree, context: &Context| Blueprint::read(tree, Some(tree), context, &docker()).unwrap();
    let all = read(&tree("profiles: []"), &context());
    assert_eq!(names(&all), ("db index search web".into(), "check fill warm".into()));

    let tree = tree("without: [search, index]");
    let blueprint = read(&tree, &context());
    assert_eq!(names(&blueprint), ("db web".into(), "warm".into()));
    assert_eq!(blueprint.left_out, ["search", "index"]);
    assert!(!blueprint.stack.data.contains_key(&name("index")));
    let needs: Vec<_> = blueprint.stack.services[&name("web")].depends_on.keys().collect();
    assert_eq!(needs, [&name("db")]);
    assert_eq!(blueprint.explanation.0["stack.services.search"].value, "left out");
    assert_eq!(blueprint.explanation.0["stack.jobs.fill"].value, "left out with search");

    // What is asked for one environment wins over what the stack says.
    let mut other = context();
    other.with = [name("search"), name("index")].into();
    other.without = [name("web")].into();
    let blueprint = read(&tree, &other);
    assert_eq!(names(&blueprint), ("db index search".into(), "fill".into()));
    assert!(blueprint.public.is_empty());
}

#[test]
fn what_is_left_out_must_be_there() {
    let tree = MemoryTree::new([
        (
            "compose.yaml",
            "services: { web: { image: nginx, ports: ['80'] }, search: { image: s } }\n",
        ),
        ("maquette.yaml", "stack: { without: [serach] }\n"),
    ]);
    let problems = Blueprint::read(&tree, Some(&tree), &context(), &docker()).unwrap_err();
    let text = problems.to_string();
    assert!(
        text.contains("there is no service `serach`") && text.contains("did you mean `search`?"),
        "{text}"
    );
    assert!(text.contains("maquette.yaml:1"), "{text}");
}
