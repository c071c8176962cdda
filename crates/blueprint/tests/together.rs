//! Several files: what they become together, and how problems name where a value comes from.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that can not go on fails"
)]

mod support;

use blueprint::{Blueprint, Context, MemoryTree, Problems};
use model::{Feature, MountKind, Network, Root, SecretRef, Service, Value};
use support::{cell, context, everything, shown};

fn read(files: &[(&str, &str)]) -> Blueprint {
    let tree = MemoryTree::new(files.iter().copied());
    Blueprint::read(&tree, Some(&tree), &trusted(), &everything())
        .map_err(|problems| panic!("{problems}"))
        .unwrap()
}

/// A head that may be given secrets.
fn trusted() -> Context {
    Context {
        secrets: ["TOKEN".to_owned(), "db_password".to_owned(), "UNNAMED".to_owned()].into(),
        ..context()
    }
}

fn service<'a>(blueprint: &'a Blueprint, name: &str) -> &'a Service {
    &blueprint.stack.services[&name.parse().unwrap()]
}

/// The problems of a tree where images run.
fn images(tree: &MemoryTree) -> String {
    match Blueprint::read(tree, None, &context(), &everything()) {
        Ok(blueprint) => format!("(read)\n{}", Problems(blueprint.warnings)),
        Err(problems) => problems.to_string(),
    }
}

fn variable<'a>(blueprint: &'a Blueprint, service_name: &str, name: &str) -> Option<&'a str> {
    service(blueprint, service_name).workload.environment.get(name)?.plain()
}

#[test]
fn files_are_chosen_by_settings_then_by_dotenv_then_by_name() {
    let files = [
        ("compose.yaml", "services: { a: { image: a, ports: [1] } }"),
        ("compose.override.yaml", "services: { a: { image: over } }"),
        ("one.yaml", "services: { a: { image: one, ports: [1] } }"),
        ("deploy/two.yaml", "services: { a: { image: two, ports: [2] } }"),
    ];
    let image = |more: &[(&str, &str)]| {
        let all: Vec<(&str, &str)> = files.iter().chain(more).copied().collect();
        match &service(&read(&all), "a").workload.root {
            Root::Image { reference, .. } => reference.clone(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(image(&[]), "over");
    assert_eq!(image(&[(".env", "COMPOSE_FILE=one.yaml")]), "one");
    assert_eq!(
        image(&[(
            ".env",
            "COMPOSE_FILE=compose.yaml;deploy/two.yaml\nCOMPOSE_PATH_SEPARATOR=;"
        )]),
        "two"
    );
    let settings = ("maquette.yaml", "stack: { compose: [one.yaml, deploy/two.yaml] }");
    assert_eq!(image(&[settings, (".env", "COMPOSE_FILE=compose.yaml")]), "two");
}

#[test]
fn resets_take_away_and_overrides_replace() {
    let blueprint = read(&[
        (
            "compose.yaml",
            "services: { a: { image: a, ports: [1], environment: { A: 1, B: 2 }, command: [x] }, b: { image: b } }",
        ),
        (
            "compose.override.yaml",
            "services: { a: { ports: !override [2], environment: { A: !reset null }, command: !reset null }, b: !reset null }",
        ),
    ]);
    let a = service(&blueprint, "a");
    assert_eq!(a.ports, [2]);
    assert_eq!(a.workload.command, None);
    assert_eq!(
        (variable(&blueprint, "a", "A"), variable(&blueprint, "a", "B")),
        (None, Some("2"))
    );
    assert_eq!(blueprint.stack.services.len(), 1);
}

#[test]
fn profiles_are_chosen_in_two_places() {
    let compose = (
        "compose.yaml",
        "services: { a: { image: a, ports: [1] }, b: { image: b, profiles: [x, y] }, c: { image: c, profiles: [z], ports: [1] } }",
    );
    let names = |more: &[(&str, &str)]| {
        let all: Vec<(&str, &str)> = std::iter::once(&compose).chain(more).copied().collect();
        let blueprint = read(&all);
        let names: Vec<String> = blueprint.stack.services.keys().map(ToString::to_string).collect();
        (names.join(" "), blueprint.public.len())
    };
    assert_eq!(names(&[]), ("a".to_owned(), 1));
    assert_eq!(names(&[(".env", "COMPOSE_PROFILES=y,q")]), ("a b".to_owned(), 1));
    assert_eq!(
        names(&[("maquette.yaml", "stack: { profiles: z }")]),
        ("a c".to_owned(), 2)
    );
    assert_eq!(
        names(&[("maquette.yaml", "stack: { profiles: ['*'] }")]),
        ("a b c".to_owned(), 2)
    );
}

#[test]
fn secrets_are_references_and_go_where_they_may() {
    let compose = (
        "compose.yaml",
        "services:\n  a:\n    image: a\n    ports: [1]\n    environment: { URL: 'x:${TOKEN}@y', TOKEN: , NOT: '${UNNAMED:-no}' }\n    secrets: [db_password, token]\nsecrets:\n  db_password: { file: ./gitignored.txt }\n  token: { environment: TOKEN }\n",
    );
    let blueprint = read(&[compose, ("maquette.yaml", "policy: { secrets: [TOKEN, db_password] }")]);
    let workload = &service(&blueprint, "a").workload;
    let secret = |name: &str| Value::Secret(SecretRef(name.to_owned()));
    assert_eq!(
        workload.environment["URL"],
        Value::Joined(vec![Value::from("x:"), secret("TOKEN"), Value::from("@y")])
    );
    assert_eq!(workload.environment["TOKEN"], secret("TOKEN"));
    assert_eq!(workload.environment["NOT"], Value::from("no"));
    let contents: Vec<(&str, &Value)> = workload
        .mounts
        .iter()
        .filter_map(|mount| match &mount.kind {
            MountKind::Content { content, .. } => Some((mount.target.as_str(), content)),
            _ => None,
        })
        .collect();
    assert_eq!(
        contents,
        [
            ("/run/secrets/db_password", &secret("db_password")),
            ("/run/secrets/token", &secret("TOKEN"))
        ]
    );
    let explained: String = blueprint.explanation.0.values().map(|one| one.value.clone()).collect();
    assert!(!explained.contains('\0'), "{explained}");
}

#[test]
fn a_secret_goes_nowhere_else() {
    let tree = MemoryTree::new([
        (
            "compose.yaml",
            "services:\n  a:\n    image: \"a:${TOKEN}\"\n    command: [\"$TOKEN\"]\n    ports: [1]\n    build: { context: ., args: [TOKEN] }\n",
        ),
        ("Dockerfile", ""),
        ("maquette.yaml", "policy: { secrets: [TOKEN] }"),
    ]);
    let Problems(problems) = Blueprint::read(&tree, Some(&tree), &trusted(), &everything()).unwrap_err();
    let lines: Vec<u32> = problems
        .iter()
        .filter(|p| p.message.contains("is a secret"))
        .filter_map(|p| p.line)
        .collect();
    assert_eq!(lines, [3, 4, 6]);
    // Who is not trusted is given nothing: the name has no value.
    let blueprint = Blueprint::read(
        &MemoryTree::new([
            (
                "compose.yaml",
                "services: { a: { image: a, ports: [1], environment: { T: '$TOKEN' } } }",
            ),
            ("maquette.yaml", "policy: { secrets: [TOKEN] }"),
        ]),
        Some(&tree),
        &context(),
        &everything(),
    )
    .unwrap();
    assert_eq!(variable(&blueprint, "a", "T"), Some(""));
}

#[test]
fn networks_are_kept_apart_where_the_runtime_can() {
    let files = [(
        "compose.yaml",
        "services: { web: { image: a, ports: [1], networks: [front, back] }, db: { image: b, networks: { back: { aliases: [pg] } } }, own: { image: c } }\nnetworks: { front: , back: { internal: true } }",
    )];
    let blueprint = read(&files);
    let names = |name: &str| {
        let networks = &service(&blueprint, name).networks;
        networks
            .iter()
            .map(|(name, aliases)| format!("{name}{aliases:?}"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(names("web"), "back[] front[]");
    assert_eq!(names("db"), "back[\"pg\"]");
    assert_eq!(names("own"), "default[]");
    assert_eq!(
        blueprint.stack.networks[&"back".parse().unwrap()],
        Network { internal: true }
    );

    let mut without = everything();
    without.features.remove(&Feature::Networks);
    let tree = MemoryTree::new(files);
    let blueprint = Blueprint::read(&tree, None, &context(), &without).unwrap();
    assert_eq!(service(&blueprint, "db").aliases, ["pg"]);
    assert!(blueprint.stack.networks.is_empty());
    assert!(Problems(blueprint.warnings).to_string().contains("not kept apart"));
}

#[test]
fn what_the_runtime_lacks_is_told_by_name() {
    let tree = MemoryTree::new([
        (
            "compose.yaml",
            "services: { a: { image: a, command: [x], ports: [1], ulimits: { nofile: 5 }, init: true, configs: [c] } }\nconfigs: { c: { content: x } }",
        ),
        ("maquette.yaml", "stack: { services: { a: { host: true } } }"),
    ]);
    let problems = Blueprint::read(&tree, None, &context(), &cell())
        .unwrap_err()
        .to_string();
    for part in [
        "the file `/c` of service `a` is not supported by the runtime `cell`",
        "warning: `ulimits` of service `a` has no effect",
        "warning: `init` of service `a` has no effect",
    ] {
        assert!(problems.contains(part), "{part}\n{problems}");
    }
}

#[test]
fn problems_say_where_a_value_comes_from() {
    let table = [
        shown(&MemoryTree::new([
            (
                "compose.yaml",
                "services:\n  a:\n    image: redis:7\n    ports: [\"${PORT}\"]\n",
            ),
            (".env", "# ports\nPORT=eighty\n"),
        ])),
        shown(&MemoryTree::new([
            ("compose.yaml", "include:\n  - path: sub/compose.yaml\n"),
            (
                "sub/compose.yaml",
                "services:\n  a:\n    image: redis:7\n    restrat: always\n    cpus: \"$CPUS\"\n",
            ),
            ("sub/.env", "CPUS=many\n"),
        ])),
        shown(&MemoryTree::new([
            (
                "compose.yaml",
                "services:\n  a:\n    extends: { file: base/common.yaml, service: web }\n",
            ),
            (
                "base/common.yaml",
                "services:\n  web:\n    image: redis:7\n    volumes: [\"../../out:/x\", \"./none.conf:/y\"]\n",
            ),
        ])),
        shown(&MemoryTree::new([
            (
                "compose.yaml",
                "services:\n  a:\n    image: redis:7\n    env_file: app.env\n",
            ),
            ("app.env", "A=1\nB=\"open\n"),
        ])),
    ];
    insta::assert_snapshot!(table.join("\n\n"));
}

#[test]
fn circles_and_crowds_are_told() {
    let services: String = (0..1000).map(|n| format!("  s{n}: {{ image: a }}\n")).collect();
    let doubling = |n: usize| {
        format!(
            "include: [i{}.yaml, i{}.yaml]\nservices: {{ s{n}: {{ image: a }} }}\n",
            n + 1,
            n + 1
        )
    };
    let files: Vec<(String, String)> = (0..30).map(|n| (format!("i{n}.yaml"), doubling(n))).collect();
    let mut bomb: Vec<(&str, &str)> = files
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect();
    bomb.push(("compose.yaml", "include: [i0.yaml]"));
    bomb.push(("i30.yaml", "services: { last: { image: a } }"));
    let chain: String = (0..90)
        .map(|n| format!("  s{n}: {{ image: a, extends: s{} }}\n", n + 1))
        .collect();
    let table = [
        images(&MemoryTree::new([
            ("compose.yaml", "include: [a.yaml]"),
            ("a.yaml", "include: [compose.yaml]"),
        ])),
        images(&MemoryTree::new([(
            "compose.yaml",
            "services: { a: { extends: b }, b: { extends: c }, c: { extends: a } }",
        )])),
        images(&MemoryTree::new([(
            "compose.yaml",
            format!("services:\n{services}").as_str(),
        )])),
        images(&MemoryTree::new(bomb)),
        images(&MemoryTree::new([(
            "compose.yaml",
            format!("services:\n{chain}  s90: {{ image: a }}\n").as_str(),
        )])),
        images(&MemoryTree::new([(
            "compose.yaml",
            "include: ['https://example.com/compose.yaml', 'oci://x/y', ../up.yaml]",
        )])),
        images(&MemoryTree::new([(
            "compose.yaml",
            "services: { a: { image: redis, extends: { file: 'git@example.com:x/y', service: b } }, b: { image: redis, extends: { servce: a } } }",
        )])),
    ];
    insta::assert_snapshot!(table.join("\n\n"));
}

#[test]
fn folders_that_are_not_there_are_volumes_that_services_share() {
    let blueprint = read(&[(
        "compose.yaml",
        "services: { a: { image: a, ports: [1], volumes: ['./data/pg:/x'] }, b: { image: b, volumes: [{ type: bind, source: ./data/pg, target: /y }] } }",
    )]);
    let volume = |name: &str| match &service(&blueprint, name).workload.mounts[0].kind {
        MountKind::Volume { volume } => volume.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(volume("a"), volume("b"));
    assert!(blueprint.stack.volumes.contains_key(&volume("a")));
    assert_eq!(blueprint.warnings.len(), 2);
}

#[test]
fn a_service_is_started_again_with_what_it_depends_on() {
    let spec = |image: &str| {
        let compose = format!(
            "services: {{ web: {{ image: a, ports: [1], depends_on: {{ db: {{ condition: service_started, restart: true }} }} }}, db: {{ image: '{image}' }}, other: {{ image: c, depends_on: [db] }} }}"
        );
        let blueprint = read(&[("compose.yaml", &compose)]);
        model::EnvironmentSpec {
            environment: "e123456789".parse().unwrap(),
            generation: model::Generation(1),
            project: "shop".parse().unwrap(),
            origin: model::Origin::PullRequest { number: 1 },
            sources: [("shop".parse().unwrap(), "a".repeat(40).parse().unwrap())].into(),
            stack: model::Stack::Services(blueprint.stack),
            limits: model::Limits::default(),
            egress: model::Egress::default(),
            secrets: std::collections::BTreeMap::new(),
        }
    };
    let digest = |image: &str, name: &str| spec(image).service_digest(&name.parse().unwrap());
    assert_ne!(digest("b:1", "web"), digest("b:2", "web"));
    assert_eq!(digest("b:1", "other"), digest("b:2", "other"));
}

#[test]
fn a_build_without_a_context_is_of_the_folder_of_its_application() {
    let blueprint = read(&[
        (
            "deploy/compose.yaml",
            "include: [sub/c.yaml]\nservices: { a: { build: { dockerfile: D }, ports: [1] } }",
        ),
        ("deploy/sub/c.yaml", "services: { b: { build: { args: [A=1] } } }"),
        ("deploy/D", ""),
        ("deploy/sub/Dockerfile", ""),
        ("maquette.yaml", "stack: { compose: deploy/compose.yaml }"),
    ]);
    let context = |name: &str| match &service(&blueprint, name).workload.root {
        Root::Build(build) => build.context.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!((context("a").as_str(), context("b").as_str()), ("deploy", "deploy/sub"));
}

#[test]
fn what_is_made_of_several_files_is_bounded() {
    let many: String = (0..2000).map(|n| format!("      V{n}: x\n")).collect();
    let services: String = (0..99).map(|n| format!("  s{n}: {{ extends: base }}\n")).collect();
    let extended = format!("services:\n  base:\n    image: a\n    environment:\n{many}{services}");
    let text = "x".repeat(900_000);
    let files: Vec<(String, String)> = (0..40)
        .map(|n| (format!("{n}.env"), format!("A{n}={text}\n")))
        .collect();
    let named: String = files.iter().take(20).map(|(path, _)| format!("{path}, ")).collect();
    let services: String = (0..40)
        .map(|n| format!("  s{n}: {{ image: a, env_file: [{n}.env] }}\n"))
        .collect();
    let mut one: Vec<(&str, &str)> = files
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect();
    let mut all = one.clone();
    let (first, second) = (
        format!("services: {{ a: {{ image: a, env_file: [{named}] }} }}"),
        format!("services:\n{services}"),
    );
    one.push(("compose.yaml", &first));
    all.push(("compose.yaml", &second));
    for (tree, part) in [
        (
            MemoryTree::new([("compose.yaml", extended.as_str())]),
            "too large together",
        ),
        (MemoryTree::new(one), "hold more than"),
        (MemoryTree::new(all), "too many or too large"),
    ] {
        let told = images(&tree);
        assert!(told.contains(part), "{part}\n{told:.3000}");
    }
}
