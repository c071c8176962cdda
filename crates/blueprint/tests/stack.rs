//! What is made of good input.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that can not go on fails"
)]

mod support;

use blueprint::{Blueprint, Context, MemoryTree, Problems};
use model::{Capabilities, Condition, Feature, JobEvent, Mount, MountKind, Root, ServiceName};
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
fn what_has_a_schedule_is_run_by_hand() {
    let settings = SETTINGS.replace(
        "policy:",
        "    digest: { service: api, run: [digest], on: { schedule: \"30 3 * * 1-5\" } }\n    tidy: { service: api, run: [tidy], on: hand }\npolicy:",
    );
    let with = |settings: &str| {
        MemoryTree::new([
            ("compose.yaml", COMPOSE),
            ("maquette.yaml", settings),
            ("db/migrations/0001_a.sql", "select 1"),
            ("db/seed.sql", "insert"),
        ])
    };
    let blueprint = read(&with(&settings)).unwrap();
    let job = |name: &str| &blueprint.stack.jobs[&name.parse().unwrap()];
    assert_eq!(
        (job("digest").on, job("digest").schedule.as_deref()),
        (JobEvent::Hand, Some("30 3 * * 1-5"))
    );
    assert_eq!(
        (job("tidy").on, job("tidy").schedule.as_deref()),
        (JobEvent::Hand, None)
    );
    for wrong in ["\"at night\"", "\"* * * *\"", "\"@\"", "[1]", "\"30 3 * * $(x)\""] {
        let problems = read(&with(&settings.replace("\"30 3 * * 1-5\"", wrong))).unwrap_err();
        assert!(problems.to_string().contains("schedule"), "{wrong}: {problems}");
    }
}

#[test]
fn mail_is_caught_where_an_image_does_that_or_the_stack_asks_for_it() {
    let compose = "services:\n  inbox: { image: \"axllent/mailpit:v1\", ports: [\"8025:8025\"] }\n  web: { image: \"debian:12\", \
                   command: [sleep, \"9\"], ports: [\"80:80\"], depends_on: [inbox] }\n";
    let settings = "stack: { services: { web: { host: true, public: true } }, mail: { port: 2525 } }\n";
    let tree = MemoryTree::new([("compose.yaml", compose), ("maquette.yaml", settings)]);
    let mut capabilities = cell();
    capabilities.features.insert(Feature::Program);
    let read = |tree: &MemoryTree| Blueprint::read(tree, Some(tree), &context(), &capabilities);
    let blueprint = read(&tree).unwrap();
    assert_eq!(
        blueprint.public,
        [name("web"), name("inbox"), name("mail")],
        "never the main one"
    );
    for (service, port) in [("inbox", 1025), ("mail", 2525)] {
        let made = &blueprint.stack.services[&name(service)];
        assert!(made.ports.contains(&port) && made.public_port == Some(8025), "{made:?}");
        assert!(
            made.workload
                .mounts
                .iter()
                .any(|mount| mount.kind == MountKind::Program)
        );
        let kept = format!("{service}-kept").parse().unwrap();
        assert!(
            blueprint.stack.volumes.contains_key(&kept),
            "it lives as long as the environment"
        );
    }
    let taken = settings.replace("port: 2525", "service: web");
    let tree = MemoryTree::new([("compose.yaml", compose), ("maquette.yaml", taken.as_str())]);
    let problems = read(&tree).unwrap_err().to_string();
    assert!(problems.contains("there is a service `web`"), "{problems}");
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
fn what_may_be_reached_comes_from_the_policy_branch_alone() {
    let head = MemoryTree::new([
        ("compose.yaml", "services: { web: { image: redis:7 } }"),
        ("maquette.yaml", "policy: { egress: [evil.example.com] }"),
    ]);
    let ruling = MemoryTree::new([(
        "maquette.yaml",
        "policy:\n  egress: [api.stripe.com, '*.Example.com:80,8443', packages]\n  private: { search: '10.0.0.5:9200,9300', db: '[fd00::5]:5432' }\n",
    )]);
    let blueprint = Blueprint::read(&head, Some(&ruling), &context(), &cell()).unwrap();
    let egress = &blueprint.policy.egress;
    let reach = |name: &str| egress.find(&name.parse().unwrap());
    let ports = |ports: &[u16]| Some(model::Reachable::Public(ports.iter().copied().collect()));
    assert_eq!(reach("api.stripe.com"), ports(&[443]));
    assert_eq!(reach("a.example.com"), ports(&[80, 8443]));
    assert_eq!(blueprint.policy.presets, ["packages".to_owned()].into());
    assert_eq!(
        reach("evil.example.com"),
        ports(&[80, 8443]),
        "by the pattern of the policy, not by name"
    );
    assert_eq!(reach("packages.example.org"), None);
    let search = ["10.0.0.5:9200", "10.0.0.5:9300"].map(|text| text.parse().unwrap());
    assert_eq!(reach("search"), Some(model::Reachable::Private(search.into())));
    let explained = |key: &str| {
        let one = &blueprint.explanation.0[key];
        format!("{} <- {}", one.value, one.from)
    };
    assert_eq!(
        explained("policy.egress"),
        "packages (a preset of the server), api.stripe.com:443, *.example.com:80,8443 <- maquette.yaml:2 (policy branch)"
    );
    assert_eq!(
        explained("policy.private"),
        "db: [fd00::5]:5432, search: 10.0.0.5:9200 10.0.0.5:9300 <- maquette.yaml:3 (policy branch)"
    );
    let without = Blueprint::read(&head, None, &context(), &cell()).unwrap();
    assert!(without.policy.egress.is_empty(), "the commit grants itself nothing");
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

const WEB: &str = "services:\n  web: { image: node, command: [node, server.js], working_dir: /app, volumes: ['.:/app:ro'], \
                   environment: { URL: \"${MAQUETTE_URL}\" }, ports: ['80'] }\n  \
                   worker: { image: node, command: [node, worker.js], volumes: ['.:/srv'] }\n";

fn built(build: &str, more: &[(&str, &str)]) -> MemoryTree {
    let settings =
        format!("stack:\n  services:\n    web: {{ host: true, build: {build} }}\n    worker: {{ host: true }}\n");
    let files = [
        ("compose.yaml", WEB),
        ("maquette.yaml", settings.as_str()),
        ("package.json", "{}"),
        ("lock", "1"),
    ];
    MemoryTree::new(files.into_iter().chain(more.iter().copied()))
}

fn builder() -> Capabilities {
    Capabilities {
        features: [Feature::NativeBuilds].into(),
        ..cell()
    }
}

fn built_with(tree: &MemoryTree) -> Result<Blueprint, Problems> {
    Blueprint::read(tree, Some(tree), &context(), &builder())
}

fn mounts(blueprint: &Blueprint, service: &str) -> Vec<String> {
    let mounts = &blueprint.stack.services[&name(service)].workload.mounts;
    let shown = |mount: &Mount| match &mount.kind {
        MountKind::Source { subpath, .. } => format!("{} source/{subpath}", mount.target),
        MountKind::Built { job, subpath } => format!("{} {job}/{subpath}", mount.target),
        _ => "?".to_owned(),
    };
    mounts.iter().map(shown).collect()
}

#[test]
fn a_build_is_a_job_whose_outputs_are_mounted() {
    let settings =
        "{ run: [npm, ci], inputs: [package.json, lock], outputs: [node_modules], environment: { CI: yes } }";
    let tree = built(settings, &[]);
    let blueprint = built_with(&tree).unwrap();
    assert_eq!(
        mounts(&blueprint, "web"),
        ["/app source/", "/app/node_modules build-web/node_modules"]
    );
    assert_eq!(mounts(&blueprint, "worker"), ["/srv source/"]);
    let job = &blueprint.stack.jobs[&"build-web".parse().unwrap()];
    assert_eq!((job.on, job.timeout_ms), (JobEvent::Build, 900_000));
    assert_eq!(job.workload.entrypoint.as_ref().unwrap(), &["npm", "ci"]);
    assert_eq!(job.workload.command, None);
    assert_eq!(job.workload.working_dir.as_deref(), Some("/app"));
    let variables: Vec<_> = job.workload.environment.keys().collect();
    assert_eq!(
        variables,
        ["CI"],
        "what differs between environments would make what it makes differ"
    );
    let product = job.product.as_ref().unwrap();
    let inputs: Vec<_> = product.inputs.as_ref().unwrap().keys().collect();
    assert_eq!(inputs, ["lock", "package.json"]);
    assert!(
        !job.workload.mounts[0].read_only,
        "a build writes, where the service only reads"
    );
    assert_eq!(
        blueprint.explanation.0["stack.services.web.build"].value,
        "`npm ci` with 2 files, makes node_modules"
    );
    let same = built_with(&built(settings, &[("other", "2")])).unwrap();
    let other = built_with(&built(settings, &[("lock", "2")])).unwrap();
    let product = |blueprint: &Blueprint| blueprint.stack.jobs[&"build-web".parse().unwrap()].product.clone();
    assert_eq!(product(&blueprint), product(&same));
    assert_ne!(product(&blueprint), product(&other));
}

#[test]
fn a_build_without_inputs_is_of_the_whole_commit_and_can_be_used_by_others() {
    let blueprint = built_with(&built("{ run: [make] }", &[])).unwrap();
    assert_eq!(mounts(&blueprint, "web"), ["/app build-web/"]);
    let job = &blueprint.stack.jobs[&"build-web".parse().unwrap()];
    assert_eq!(job.product.as_ref().unwrap().inputs, None);

    let settings = "stack:\n  services:\n    web: { host: true, build: { run: [make], outputs: [web/dist, gen] } }\n    \
                    worker: { host: true, build: { of: web } }\n  jobs: { warm: { service: worker, run: [x] } }\n";
    let tree = MemoryTree::new([("compose.yaml", WEB), ("maquette.yaml", settings)]);
    let blueprint = built_with(&tree).unwrap();
    assert_eq!(
        mounts(&blueprint, "worker"),
        [
            "/srv source/",
            "/srv/gen build-web/gen",
            "/srv/web/dist build-web/web/dist"
        ]
    );
    let warm = &blueprint.stack.jobs[&"warm".parse().unwrap()];
    assert_eq!(warm.workload.mounts.len(), 3, "a job has what its service has");
    let names: Vec<_> = blueprint.stack.jobs.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["build-web", "warm"]);
}

#[test]
fn builds_that_can_not_be_are_refused_with_what_to_do() {
    let told = |build: &str| built_with(&built(build, &[])).unwrap_err().to_string();
    for (build, says, hint) in [
        (
            "{ inputs: [lock] }",
            "the build of service `web` runs nothing",
            "run: [program",
        ),
        (
            "{ run: [x], inputs: [lock] }",
            "has `inputs` and no `outputs`",
            "outputs: [node_modules]",
        ),
        (
            "{ run: [x], inputs: ['*.toml'], outputs: [a] }",
            "no file matches `*.toml`",
            "start at the root",
        ),
        (
            "{ run: [x], inputs: [none], outputs: [a] }",
            "`none` is no file of the repository",
            "",
        ),
        ("{ run: [x], outputs: [../a] }", "leads out of the repository", ""),
        (
            "{ run: [x], outputs: [.] }",
            "the whole repository can not be an output",
            "leave out",
        ),
        ("{ of: worker }", "no service `worker` has a build of its own", ""),
        ("{ of: worker, run: [x] }", "says `of` and something else", ""),
        ("{ rum: [x] }", "`rum`", "did you mean `run`?"),
    ] {
        let text = told(build);
        assert!(text.contains(says) && text.contains(hint), "{build}: {text}");
        assert!(text.contains("maquette.yaml:3"), "{build} has no place: {text}");
    }
    let elsewhere = "services: { web: { image: node, command: [x], volumes: ['./web:/app'], ports: ['80'] } }";
    let settings = "stack: { services: { web: { host: true, build: { run: [x], outputs: [api/out] } } } }";
    let tree = MemoryTree::new([("compose.yaml", elsewhere), ("maquette.yaml", settings), ("web/a", "")]);
    let text = built_with(&tree).unwrap_err().to_string();
    assert!(text.contains("mounts nothing in which `api/out` lies"), "{text}");
    let nothing = "services: { web: { image: node, command: [x], ports: ['80'] } }";
    let tree = MemoryTree::new([("compose.yaml", nothing), ("maquette.yaml", settings)]);
    let text = built_with(&tree).unwrap_err().to_string();
    assert!(
        text.contains("mounts nothing of the repository") && text.contains(".:/app"),
        "{text}"
    );
    let text = read(&built("{ run: [x] }", &[])).unwrap_err().to_string();
    assert!(
        text.contains("the runtime `cell` builds nothing in a checkout"),
        "{text}"
    );
}
