//! The forms in which Compose lets the same thing be said.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that can not go on fails"
)]

mod support;

use blueprint::{Blueprint, MemoryTree, Problems};
use model::{HealthTest, MountKind, Restart, Service};
use support::{context, docker};

/// The service `web` of a file whose service has these keys.
fn web(keys: &str) -> Service {
    let tree = MemoryTree::new([
        (
            "deploy/compose.yaml",
            format!(
                "services:\n  web:\n    image: nginx\n{keys}\n  other: {{ image: x, expose: [1] }}\nvolumes: {{ v: }}\n"
            )
            .as_str(),
        ),
        ("maquette.yaml", "stack: { compose: deploy/compose.yaml }"),
        ("deploy/.env", "FROM_DOTENV=1\n"),
        ("deploy/web.env", "A=file\nB=${FROM_DOTENV}\n"),
        ("deploy/conf/nginx.conf", ""),
        ("app/index.html", ""),
    ]);
    let read = Blueprint::read(&tree, None, &context(), &docker());
    let blueprint = read.map_err(|problems| panic!("{keys}\n{problems}")).unwrap();
    blueprint.stack.services[&"web".parse().unwrap()].clone()
}

fn mounts(service: &Service) -> Vec<String> {
    let show = |kind: &MountKind| match kind {
        MountKind::Source { subpath, .. } => format!("source {subpath}"),
        MountKind::Volume { volume } => format!("volume {volume}"),
        MountKind::VolumePath { volume, subpath } => format!("volume {volume}/{subpath}"),
        MountKind::Built { job, subpath } => format!("{job}/{subpath}"),
        MountKind::Content { content, mode, .. } => format!("content {content:?} {mode:o}"),
        MountKind::Tmpfs { size_bytes, .. } => format!("tmpfs {size_bytes:?}"),
        MountKind::Program => "our program".to_owned(),
    };
    let one = |m: &model::Mount| format!("{} {}{}", m.target, show(&m.kind), if m.read_only { " ro" } else { "" });
    service.workload.mounts.iter().map(one).collect()
}

#[test]
fn mounts_in_short_and_long_form_are_the_same() {
    let short = web(
        "    volumes: ['./conf:/etc/nginx/conf.d:ro', '../app:/app', '..:/repo', 'v:/data', '/cache']\n    tmpfs: ['/run:size=1m']",
    );
    let long = web(concat!(
        "    volumes:\n",
        "      - { type: bind, source: ./conf, target: /etc/nginx/conf.d, read_only: true }\n",
        "      - { type: bind, source: ../app, target: /app/ }\n",
        "      - { type: bind, source: .., target: /repo }\n",
        "      - { type: volume, source: v, target: /data, volume: { nocopy: true } }\n",
        "      - { type: volume, target: /cache }\n",
        "      - { type: tmpfs, target: /run, tmpfs: { size: 1m } }\n",
    ));
    let expected = [
        "/app source app",
        "/cache volume web-cache",
        "/data volume v",
        "/etc/nginx/conf.d source deploy/conf ro",
        "/repo source ",
        "/run tmpfs Some(1048576)",
    ];
    assert_eq!(mounts(&short), expected);
    assert_eq!(mounts(&long), expected);
}

#[test]
fn ports_in_short_and_long_form_are_the_same() {
    let short = web("    ports: ['127.0.0.1:8080:80', '443', '53:53/udp']\n    expose: ['9000', '80/tcp']");
    let long =
        web("    ports: [{ target: 80, published: '8080' }, { target: 443, protocol: tcp }]\n    expose: [9000]");
    assert_eq!(short.ports, [80, 443, 9000]);
    assert_eq!(long.ports, short.ports);
    assert_eq!(short.public_port, Some(80));
}

#[test]
fn environments_are_put_together_in_order() {
    let service = web(
        "    env_file: [web.env, { path: nothing.env, required: false }]\n    environment: [A=own, FROM_DOTENV, 'C=x=$$y']",
    );
    let value = |name: &str| service.workload.environment[name].plain().unwrap().to_owned();
    assert_eq!(
        [value("A"), value("B"), value("C"), value("FROM_DOTENV")],
        ["own", "1", "x=$y", "1"]
    );
    let service = web("    environment: { A: 1.50, B: true, C: '', MAQUETTE_URL: mine }");
    let value = |name: &str| service.workload.environment[name].plain().unwrap().to_owned();
    assert_eq!(
        [value("A"), value("B"), value("C"), value("MAQUETTE_URL")],
        ["1.50", "true", "", "mine"]
    );
}

#[test]
fn health_checks_have_their_forms() {
    let exec = |keys: &str| {
        web(keys).health.map(|health| match health.test {
            HealthTest::Exec(words) => words.join(" "),
            HealthTest::Tcp(port) => port.to_string(),
        })
    };
    assert_eq!(
        exec("    healthcheck: { test: [CMD, curl, -f, x] }").as_deref(),
        Some("curl -f x")
    );
    assert_eq!(
        exec("    healthcheck: { test: curl x || exit 1 }").as_deref(),
        Some("/bin/sh -c curl x || exit 1")
    );
    assert_eq!(
        exec("    healthcheck: { test: [CMD-SHELL, a b] }").as_deref(),
        Some("/bin/sh -c a b")
    );
    assert_eq!(exec("    healthcheck: { test: [NONE] }"), None);
    assert_eq!(exec("    healthcheck: { disable: true }"), None);
    let health = web("    healthcheck: { test: x, interval: 1m30s, timeout: 500ms, retries: 5, start_period: 1h }")
        .health
        .unwrap();
    assert_eq!(
        (
            health.interval_ms,
            health.timeout_ms,
            health.retries,
            health.start_period_ms
        ),
        (90_000, 500, 5, 3_600_000)
    );
}

#[test]
fn the_rest_has_its_forms_too() {
    let service = web(
        "    restart: on-failure\n    stop_signal: int\n    stop_grace_period: 1m\n    init: false\n    scale: 1\n    privileged: false",
    );
    assert_eq!(
        (service.restart, service.stop_signal.as_str(), service.stop_grace_ms),
        (Restart::OnFailure, "SIGINT", 60_000)
    );
    let service =
        web("    mem_limit: 64m\n    cpus: 0.25\n    deploy: { resources: { limits: { memory: 64M, pids: 9 } } }");
    let limits = service.workload.limits;
    assert_eq!(
        (limits.memory_bytes, limits.cpu_millis, limits.pids),
        (Some(64 << 20), Some(250), Some(9))
    );
    let service = web(
        "    networks: { default: { aliases: [www] } }\n    depends_on: { other: { condition: service_healthy }, gone: { condition: service_started, required: false } }",
    );
    assert_eq!(service.aliases, ["www"]);
    assert_eq!(service.depends_on.len(), 1);
    let service = web("    entrypoint: /bin/sh -c\n    command: ['echo $$HOME']\n    working_dir: /srv/./x/");
    assert_eq!(service.workload.entrypoint.unwrap(), ["/bin/sh", "-c"]);
    assert_eq!(service.workload.command.unwrap(), ["echo $HOME"]);
    assert_eq!(service.workload.working_dir.as_deref(), Some("/srv/x"));
}

#[test]
fn many_problems_are_bounded() {
    let keys: String = (0..5_000).map(|n| format!("    k{n}: 1\n")).collect();
    let tree = MemoryTree::new([(
        "compose.yaml",
        format!("services:\n  web:\n    image: a\n{keys}").as_str(),
    )]);
    let Problems(problems) = Blueprint::read(&tree, None, &context(), &docker()).unwrap_err();
    assert!(problems.len() < 150, "{}", problems.len());
    assert!(problems.iter().any(|problem| problem.message.contains("more problems")));
}

#[test]
fn what_maquette_gives_can_not_be_replaced_by_a_file() {
    let tree = MemoryTree::new([
        (
            "compose.yaml",
            "services: { web: { image: a, ports: [80], environment: { U: '$MAQUETTE_URL' } } }",
        ),
        (".env", "MAQUETTE_URL=http://evil\n"),
    ]);
    let blueprint = Blueprint::read(&tree, None, &context(), &docker()).unwrap();
    let environment = &blueprint.stack.services[&"web".parse().unwrap()].workload.environment;
    assert_eq!(environment["U"].plain(), Some("http://pr-12.localhost:8080"));
    assert!(Problems(blueprint.warnings).to_string().contains("MAQUETTE_URL"));
}
