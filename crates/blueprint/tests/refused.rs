//! What people read when something is wrong: file, line, column, the line itself and a hint.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that can not go on fails"
)]

mod support;

use blueprint::MemoryTree;
use support::shown;

fn compose(text: &str) -> String {
    shown(&MemoryTree::new([("compose.yaml", text)]))
}

fn with_settings(compose: &str, settings: &str) -> String {
    shown(&MemoryTree::new([
        ("compose.yaml", compose),
        ("maquette.yaml", settings),
        ("db/1.sql", "select 1"),
    ]))
}

#[test]
fn broken_yaml() {
    let table = [
        "services:\n  web:\n    image: a\n   command: b\n",
        "services: [",
        "services: {web: *nowhere}",
        "a: \"\\q\"",
        "\t- x",
        "services: { web: { image: a, image: b } }",
        "services: {}\n---\nservices: {}\n",
        "services: { ? [a, b] : c }",
        "services: { web: !reset null }",
        "a: &a [*a]",
        "",
        "just text",
        "services: [web]",
        "services: { a: [x], b: { image: redis, depends_on: [a] } }",
        "services: { web: { image: a\u{0} } }",
        "services: { web: { image: \"a\\0\" } }",
    ];
    insta::assert_snapshot!(table.map(compose).join("\n\n"));
}

#[test]
fn bombs() {
    let laughs: String = (1..30)
        .map(|n| format!("x{n}: &a{n} [{}]\n", format!("*a{},", n - 1).repeat(9)))
        .collect();
    let deep = format!("x: {}{}", "[".repeat(100_000), "]".repeat(100_000));
    let nested: String = (1..30).map(|n| format!("x{n}: &a{n} [[[[*a{}]]]]\n", n - 1)).collect();
    let table = [
        format!("x0: &a0 [lol]\n{laughs}"),
        deep,
        format!("x0: &a0 [lol]\n{nested}"),
        format!("x: &a {}\ny: [{}]", "b".repeat(500_000), "*a,".repeat(1000)),
        "x: y\n".repeat(300_000),
    ];
    insta::assert_snapshot!(table.map(|text| compose(&text)).join("\n\n"));
}

#[test]
fn unknown_keys_have_a_suggestion() {
    let text = "servces: {}\nservices:\n  web:\n    image: postgres:15\n    comand: [x]\n    enviroment: {}\n    zzz: 1\n    x-mine: ok\n    healthcheck: { tset: x, test: NONE }\n    environment: { POSTGRES_PASSWORD: x }\n";
    let settings = "stak: {}\nstack:\n  service: {}\n  services: { wob: { hots: true } }\n  data: { web: { versoins: 15 } }\n  jobs: { a: { rum: [x] } }\npolicy:\n  sleep: 5m\n  limits: { mem: 1g }\n  triggers: { pull_request: true }\n";
    insta::assert_snapshot!(with_settings(text, settings));
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let keys = [
        "build: .",
        "privileged: true",
        "cap_add: [NET_ADMIN]",
        "devices: [/dev/kvm]",
        "network_mode: host",
        "pid: host",
        "ipc: host",
        "userns_mode: host",
        "security_opt: [seccomp=unconfined]",
        "links: [db]",
        "user: root",
        "extends: { service: b }",
        "secrets: [s]",
        "networks: [front]",
        "hostname: x",
        "container_name: x",
        "labels: { a: b }",
        "deploy: { replicas: 3 }",
        "ports: ['8000-8005:8000-8005', '53:53/udp', 'http', 0, 70000]",
    ];
    let text = keys.map(|key| format!("services:\n  web:\n    image: redis:7\n    {key}\n"));
    let top = [
        "version: '3'\nservices: { web: { image: redis:7 } }",
        "services: { web: { image: redis:7 } }\nsecrets: { a: { file: b } }",
        "services: { web: { image: redis:7 } }\ninclude: [other.yaml]",
        "services: { web: { image: redis:7 } }\nnetworks: { front: {} }",
        "services: { web: { image: redis:7 } }\nvolumes: { v: { external: true }, w: { driver: nfs }, u: }",
    ];
    let all: Vec<String> = text
        .iter()
        .map(|text| compose(text))
        .chain(top.into_iter().map(compose))
        .collect();
    insta::assert_snapshot!(all.join("\n\n"));
}

#[test]
fn reserved_words_of_a_policy_are_never_ignored() {
    let settings = "policy:\n  secrets: [STRIPE_KEY]\n  access: { guests: true }\n  sleep_after: soon\n  expire_after: 1s\n  limits: { memory: lots, cpus: 0, pids: -1 }\n";
    insta::assert_snapshot!(with_settings("services: { web: { image: redis:7 } }", settings));
}

#[test]
fn what_can_not_be_reached_by_a_policy() {
    let settings = "\
policy:
  egress:
    - https://api.stripe.com/v1
    - 10.0.0.5:5432
    - 10.0.0.6
    - '*'
    - '*.com'
    - a.*.com
    - npn
    - example.com:0
    - example.com:80,http
    - example.com:53
    - exa mple.com
  private:
    a: 10.0.0.5
    b: search.internal:9200
    c: 169.254.169.254:80
    d: '[::ffff:169.254.169.254]:80'
    e: 0.0.0.0:80
    f: fd00::5:5432
    g: 127.0.0.1:5432
    h: [10.0.0.5:1]
    i j: 10.0.0.5:1
    localhost: 10.0.0.5:1
    k: 10.0.0.5:53
";
    insta::assert_snapshot!(with_settings("services: { web: { image: redis:7 } }", settings));
    let single = "policy: { egress: { host: a } , private: [a] }";
    insta::assert_snapshot!(with_settings("services: { web: { image: redis:7 } }", single));
}

#[test]
fn what_does_not_fit_the_runtime() {
    let table = [
        compose("services: { web: { image: node:20, ports: [80] } }"),
        compose("services: { web: { ports: [80] } }"),
        compose("services: { db: { image: postgres:12, environment: { POSTGRES_PASSWORD: x } } }"),
        with_settings(
            "services: { db: { image: postgres:16, environment: { POSTGRES_PASSWORD: x } } }",
            "stack: { data: { db: { versions: '16-17' } } }",
        ),
        with_settings(
            "services: { db: { image: postgres:16 } }",
            "stack: { data: { db: { versions: '17-16' } } }",
        ),
        with_settings(
            "services: { web: { image: node:20 } }",
            "stack: { services: { web: { host: true } } }",
        ),
        with_settings(
            "services: { web: { image: a } }",
            "stack: { data: { web: { seed: db/1.sql } } }",
        ),
        with_settings(
            "services: { web: { image: redis:7 } }",
            "stack: { data: { web: { seed: db/1.sql } } }",
        ),
    ];
    insta::assert_snapshot!(table.join("\n\n"));
}

#[test]
fn dependencies() {
    let cycle = "services:\n  a: { image: redis, depends_on: [b] }\n  b: { image: redis, depends_on: { c: { condition: service_healthy } } }\n  c: { image: redis, depends_on: [a] }\n  d: { image: redis, depends_on: [d] }\n";
    let unknown = "services:\n  postgres: { image: redis }\n  web: { image: redis, depends_on: [postgrse] }\n  x: { image: redis, depends_on: { web: { condition: service_helthy } } }\n";
    let never = "services:\n  a: { image: redis, restart: always }\n  b: { image: redis, depends_on: { a: { condition: service_completed_successfully } } }\n  p: { image: redis, profiles: [x] }\n  q: { image: redis, depends_on: [p] }\n";
    insta::assert_snapshot!([cycle, unknown, never].map(compose).join("\n\n"));
}

#[test]
fn paths_stay_inside() {
    let text = "services:\n  web:\n    image: redis:7\n    volumes:\n      - /etc:/host\n      - ../..:/up\n      - ~/.ssh:/keys\n      - ./missing:/missing\n      - ./link:/link\n      - ./link/below:/below\n      - ./module:/module\n      - ./big.bin:/big\n      - ./.git:/git\n      - undeclared:/data\n      - .:/proc/self\n      - .:relative\n      - a:b:c:d\n      - { type: bind, source: /var/run/docker.sock, target: /sock }\n      - { type: npipe, source: a, target: /b }\n    working_dir: relative\n    env_file: ../../secrets.env\n";
    let tree = MemoryTree::new([
        ("compose.yaml", text),
        ("link/below", "never seen"),
        (".gitmodules", ""),
    ])
    .with_link("link")
    .with_submodule("module")
    .with(
        "big.bin",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    );
    insta::assert_snapshot!(shown(&tree));
}

#[test]
fn data_files() {
    let settings = "stack:\n  data:\n    db:\n      migrations: [nothing/*.sql, ../x.sql, link.sql, 'db/[0-9].sql', db, lfs.sql]\n      seed: /etc/passwd\n";
    let text = "services:\n  db:\n    image: postgres:15\n    volumes: [./db:/docker-entrypoint-initdb.d, ./db:/var/lib/postgresql/data]\n";
    let tree = MemoryTree::new([("compose.yaml", text), ("maquette.yaml", settings), ("db/1.sql", "")])
        .with_link("link.sql")
        .with("lfs.sql", b"version https://git-lfs.github.com/spec/v1\n");
    insta::assert_snapshot!(shown(&tree));
}

#[test]
fn interpolation() {
    let text = "services:\n  web:\n    image: redis:${REDIS_VERSION}\n    environment:\n      A: ${MAQUETTE_URI}\n      B: \"x $(reboot) ${\"\n      C: ${D:?set it in .env}\n      E: $$ok ${F:-${MAQUETTE_PULL_REQUEST}}\n      G: |\n        first\n        ${NOPE}\n    command: echo ${MAQUETTE_TITLE} '\n";
    let tree = MemoryTree::new([("compose.yaml", text), (".env", "F=1\nbroken\nG='x\n")]);
    insta::assert_snapshot!(shown(&tree));
}

#[test]
fn commands_and_probes() {
    let text = "services:\n  a: { image: redis, command: 'x && y' }\n  b: { image: redis, entrypoint: \"x 'y\" }\n  c: { image: redis, healthcheck: { test: [curl, x] } }\n  d: { image: redis, healthcheck: { interval: 5 } }\n  e: { image: redis, restart: sometimes, stop_signal: SIGFOO, stop_grace_period: long }\n  f: { image: redis, mem_limit: big, cpus: two, pids_limit: -1, read_only: yes }\n  g: { image: redis, mem_limit: 1g, deploy: { resources: { limits: { memory: 2g } } } }\n  'h/i': { image: redis }\n  j: { image: redis, command: { a: b }, environment: [1=2, 'A B=c'], tmpfs: ['/x:size=many'] }\n";
    insta::assert_snapshot!(compose(text));
}

#[test]
fn jobs() {
    let settings = "stack:\n  jobs:\n    a: { service: wob, run: [x] }\n    b: { service: web }\n    c: { run: x y }\n    d: { run: [x], on: creation, needs: [bd], timeout: 5h }\n    e: { service: db, run: [x] }\n    'f g': { run: [x] }\n    web: { run: [x] }\n";
    insta::assert_snapshot!(with_settings(
        "services: { web: { image: a }, db: { image: redis } }",
        settings
    ));
}

#[test]
fn files_that_are_no_text() {
    let table = [
        shown(&MemoryTree::default()),
        shown(&MemoryTree::default().with("compose.yaml", &[0xff, 0xfe, 0])),
        shown(&MemoryTree::default().with_link("compose.yaml")),
        shown(&MemoryTree::default().with("compose.yaml", &vec![b' '; 1_100_000])),
        shown(&MemoryTree::new([("compose.yaml/x", "")])),
        with_settings(
            "services: { web: { image: redis:7 } }",
            "stack: { compose: other.yaml }",
        ),
        with_settings(
            "services: { web: { image: redis:7 } }",
            "stack: { compose: ../../etc/passwd }",
        ),
        shown(&MemoryTree::new([
            ("compose.yml", "services: {a: {image: redis}}"),
            ("compose.yaml", "services: {b: {image: redis}}"),
            ("maquette.yml", ""),
        ])),
    ];
    insta::assert_snapshot!(table.join("\n\n"));
}

#[test]
fn hostile_text_is_shown_escaped() {
    let text = "services:\n  web:\n    image: redis\n    \"\u{202e}evil\u{1b}[31m\": 1\n    environment: { \"a\\n\u{200f}b\": x }\n    depends_on: [\"\\u202e\\e[2J\"]\n";
    let out = compose(text);
    assert!(!out.contains(['\u{202e}', '\u{200f}', '\u{1b}']), "{out:?}");
    let long = compose(&format!(
        "services: {{ web: {{ image: redis, {}: 1 }} }}",
        "k".repeat(9_000)
    ));
    assert!(long.len() < 2_000, "{}", long.len());
    insta::assert_snapshot!(format!("{out}\n\n{long}"));
}
