//! Services from further sources of a project.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that can not go on fails"
)]

mod support;

use blueprint::{Blueprint, Further, FurtherCommit, MemoryTree, Problems};
use model::{Build, CommitId, Dockerfile, Feature, MountKind, Root, Service};
use std::collections::BTreeMap;
use support::{context, everything};

const COMPOSE: &str = r#"
services:
  web:
    build: .
    volumes: ["./pages:/pages:ro"]
    ports: ["8080:8080"]
  api:
    build: { context: server, args: { A: b } }
    volumes: ["./config:/config:ro"]
    environment: { OF: "${MAQUETTE_COMMIT}" }
  worker:
    image: debian:12
    command: [work]
    working_dir: /app
    volumes: [".:/app"]
"#;

const SETTINGS: &str = r#"
stack:
  compose: deploy/compose.yaml
  services:
    api: { source: api }
    worker:
      source: api
      build: { run: [make], inputs: ["src/*.c"], outputs: [out] }
"#;

fn shop(compose: &str, settings: &str) -> MemoryTree {
    MemoryTree::new([
        ("deploy/compose.yaml", compose),
        ("deploy/Dockerfile", "FROM scratch"),
        ("deploy/pages/index.html", ""),
        ("maquette.yaml", settings),
    ])
}

fn api() -> MemoryTree {
    MemoryTree::new([
        ("server/Dockerfile", "FROM scratch"),
        ("config/a", ""),
        ("src/a.c", "int main"),
        ("src/b.c", "int b"),
    ])
}

fn commit() -> CommitId {
    "b".repeat(40).parse().unwrap()
}

fn read(tree: &MemoryTree, further: &Further<'_>) -> Result<Blueprint, Problems> {
    let mut capabilities = everything();
    capabilities.features.insert(Feature::NativeBuilds);
    Blueprint::read_from(tree, Some(tree), further, &context(), &capabilities)
}

fn with_api(tree: &MemoryTree) -> Result<Blueprint, Problems> {
    let (api, commit) = (api(), commit());
    let found = FurtherCommit {
        commit: Some(&commit),
        tree: &api,
    };
    let further = Further {
        sources: BTreeMap::from([("api".parse().unwrap(), Ok(found))]),
        open: false,
    };
    read(tree, &further)
}

fn service<'a>(blueprint: &'a Blueprint, name: &str) -> &'a Service {
    blueprint.stack.services.get(&name.parse().unwrap()).expect(name)
}

fn built(service: &Service) -> &Build {
    match &service.workload.root {
        Root::Build(build) => build,
        other => panic!("{other:?}"),
    }
}

fn mounted(service: &Service) -> Vec<(String, String)> {
    let of = |kind: &MountKind| match kind {
        MountKind::Source { source, subpath } => Some((source.to_string(), subpath.clone())),
        _ => None,
    };
    service
        .workload
        .mounts
        .iter()
        .filter_map(|mount| of(&mount.kind))
        .collect()
}

fn errors(read: Result<Blueprint, Problems>) -> String {
    read.map(|_| ()).unwrap_err().to_string()
}

#[test]
fn what_a_service_builds_and_mounts_is_of_its_own_source_and_starts_at_its_root() {
    let blueprint = with_api(&shop(COMPOSE, SETTINGS)).map_err(|p| panic!("{p}")).unwrap();
    let (web, api, worker) = (
        service(&blueprint, "web"),
        service(&blueprint, "api"),
        service(&blueprint, "worker"),
    );
    assert_eq!(built(web).source.as_str(), "shop");
    assert_eq!(built(web).context, "deploy");
    assert_eq!(mounted(web), [("shop".to_owned(), "deploy/pages".to_owned())]);

    assert_eq!(built(api).source.as_str(), "api");
    assert_eq!(built(api).context, "server");
    assert_eq!(built(api).dockerfile, Dockerfile::Path("server/Dockerfile".to_owned()));
    assert_eq!(mounted(api), [("api".to_owned(), "config".to_owned())]);

    assert_eq!(mounted(worker), [("api".to_owned(), String::new())]);
    let job = blueprint.stack.jobs.values().next().expect("the build of worker");
    let product = job.product.as_ref().unwrap();
    assert_eq!(product.source.as_str(), "api");
    let inputs: Vec<&String> = product.inputs.as_ref().unwrap().keys().collect();
    assert_eq!(inputs, ["src/a.c", "src/b.c"]);
}

#[test]
fn a_service_sees_the_commit_of_its_own_source() {
    let blueprint = with_api(&shop(COMPOSE, SETTINGS)).map_err(|p| panic!("{p}")).unwrap();
    let sees = |name: &str, variable: &str| {
        let environment = &service(&blueprint, name).workload.environment;
        environment
            .get(variable)
            .and_then(|value| value.plain().map(str::to_owned))
    };
    assert_eq!(sees("api", "MAQUETTE_COMMIT"), Some(commit().to_string()));
    assert_eq!(sees("web", "MAQUETTE_COMMIT"), Some(context().commit.to_string()));
    // What the file interpolates is the blueprint's.
    assert_eq!(sees("api", "OF"), Some(context().commit.to_string()));
}

#[test]
fn an_unknown_source_is_told_with_its_place_and_the_name_that_was_meant() {
    let settings = SETTINGS.replace("api: { source: api }", "api: { source: aip }");
    let text = errors(with_api(&shop(COMPOSE, &settings)));
    assert!(text.contains("maquette.yaml:5:20"), "{text}");
    assert!(text.contains("the project has no source `aip`"), "{text}");
    assert!(
        text.contains("known here: `api`, `shop`") || text.contains("did you mean `api`?"),
        "{text}"
    );
    let strange = SETTINGS.replace("api: { source: api }", "api: { source: \"../x\" }");
    assert!(errors(with_api(&shop(COMPOSE, &strange))).contains("no source `../x`"));
}

#[test]
fn a_source_without_a_commit_says_why() {
    let why = "has neither a branch fix-login nor its base branch main".to_owned();
    let further = Further {
        sources: BTreeMap::from([("api".parse().unwrap(), Err(why.clone()))]),
        open: false,
    };
    let text = errors(read(&shop(COMPOSE, SETTINGS), &further));
    assert!(text.contains(&format!("source `api` {why}")), "{text}");
}

#[test]
fn what_is_not_in_that_source_is_missing_although_it_is_in_the_other() {
    let compose = COMPOSE.replace("./config:/config:ro", "./pages/index.html:/config:ro");
    let text = errors(with_api(&shop(&compose, SETTINGS)));
    assert!(text.contains("`./pages/index.html` does not exist"), "{text}");
    let compose = COMPOSE.replace("context: server", "context: ../server");
    assert!(errors(with_api(&shop(&compose, SETTINGS))).contains("leads out of the repository"));
}

#[test]
fn files_that_are_not_here_are_not_looked_at_and_that_is_said() {
    let read = read(&shop(COMPOSE, SETTINGS), &Further::unseen()).map_err(|p| panic!("{p}"));
    let blueprint = read.unwrap();
    assert_eq!(built(service(&blueprint, "api")).source.as_str(), "api");
    let warned: Vec<String> = blueprint.warnings.iter().map(ToString::to_string).collect();
    let of = |part: &str| warned.iter().filter(|text| text.contains(part)).count();
    assert_eq!(of("source `api` is not here"), 2, "{warned:#?}");
}

#[test]
fn engines_and_services_that_take_nothing_of_it_can_not_name_a_source() {
    let compose =
        format!("{COMPOSE}  db: {{ image: \"redis:7\" }}\n  plain: {{ image: \"debian:12\", command: [x] }}\n");
    let named = |service: &str| format!("{SETTINGS}    {service}: {{ source: api }}\n");
    let blueprint = with_api(&shop(&compose, &named("plain")))
        .map_err(|p| panic!("{p}"))
        .unwrap();
    let warned: Vec<String> = blueprint.warnings.iter().map(ToString::to_string).collect();
    assert!(
        warned
            .iter()
            .any(|text| text.contains("`source` of service `plain` has no effect")),
        "{warned:#?}"
    );
}

#[test]
fn a_build_is_not_used_by_a_service_of_another_source() {
    let compose = COMPOSE.replace("    build: .\n", "    image: debian:12\n    command: [x]\n");
    let settings = format!("{SETTINGS}    web: {{ build: {{ of: worker }} }}\n");
    let text = errors(with_api(&shop(&compose, &settings)));
    assert!(
        text.contains("uses the build of a service that is from another source"),
        "{text}"
    );
}
