//! What operators write, and what they are told.

use super::*;

fn parse(text: &str) -> Result<ServerConfig, ConfigError> {
    ServerConfig::parse(text, Path::new("maquette-server.yaml"))
}

const SHOP: &str = "
state_dir: /srv/maquette
listen: 127.0.0.1:9000
gateway:
  listen: 127.0.0.1:8081
  bases:
    - domain: preview.example.org
      scheme: https
    - domain: localhost
projects:
  - name: shop
    sources:
      - forge:
          kind: gitea
          url: https://git.example.org/
          repository: team/shop
          token_file: /etc/maquette/token
          webhook_secret_file: /etc/maquette/webhook
      - name: mailer
        base_branch: trunk
        forge: {kind: local, path: /srv/git/mailer}
  - name: docs
    base: localhost
    sources:
      - forge: {kind: local, path: /srv/git/docs}
";

#[test]
fn a_whole_file_is_read() {
    let config = parse(SHOP).unwrap();
    let shop = &config.projects[0];
    assert_eq!(config.base_of(shop).unwrap().domain, "preview.example.org");
    assert_eq!(config.port_of(config.base_of(shop).unwrap()), None);
    assert_eq!(config.port_of(config.base_of(&config.projects[1]).unwrap()), Some(8081));
    assert!(!config.is_shared(config.base_of(shop).unwrap()));
    assert_eq!(shop.source_name(&shop.sources[0]).unwrap().as_str(), "shop");
    assert_eq!(shop.sources[0].base_branch.as_str(), "main");
    assert_eq!(shop.sources[1].base_branch.as_str(), "trunk");
    assert_eq!(config.cell_data_dir(), Path::new("/srv/maquette-cells"));
}

#[test]
fn nothing_but_loopback_is_listened_on_unless_it_is_asked_for() {
    let config = parse("projects: []\n").unwrap();
    assert!(config.listen.ip().is_loopback());
    assert!(config.gateway.listen.ip().is_loopback());
}

#[test]
fn an_unknown_key_is_refused_with_its_place_and_what_was_meant() {
    for (text, given, meant) in [
        ("state_dri: /x\n", "state_dri", "state_dir"),
        ("gateway:\n  lisen: 127.0.0.1:1\n", "lisen", "listen"),
        ("projects:\n  - nam: shop\n    sources: []\n", "nam", "name"),
        (
            "projects:\n  - name: shop\n    sources:\n      - forge: {kind: local, path: /x}\n        base_brunch: x\n",
            "base_brunch",
            "base_branch",
        ),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.to_string().contains(given), "{error}");
        assert!(error.to_string().contains("line"), "{error}");
        assert_eq!(
            error.hint(),
            Some(format!("did you mean `{meant}`?").as_str()),
            "{error}"
        );
    }
}

#[test]
fn an_unknown_forge_names_those_that_there_are() {
    let error = parse("projects:\n  - name: a\n    sources:\n      - forge: {kind: gitae, path: /x}\n").unwrap_err();
    assert!(error.to_string().contains("gitea"), "{error}");
}

#[test]
fn contradictions_are_told() {
    for (text, what) in [
        ("gateway: {bases: []}\n", "gateway.bases"),
        ("projects:\n  - {name: a, sources: []}\n", "no source"),
        (
            "projects:\n  - {name: a, base: x.org, sources: [{forge: {kind: local, path: /x}}]}\n",
            "gateway.bases",
        ),
        (
            "projects:\n  - {name: a, sources: [{forge: {kind: local, path: /x}}, {forge: {kind: local, path: /y}}]}\n",
            "two sources",
        ),
        (
            "projects:\n  - {name: a, sources: [{forge: {kind: local, path: /x}}]}\n  - {name: a, sources: [{forge: {kind: local, path: /y}}]}\n",
            "two projects",
        ),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
        assert!(error.hint().is_some(), "{error}");
    }
}

#[test]
fn a_name_that_could_be_a_path_is_refused() {
    let error = parse("projects:\n  - {name: ../x, sources: [{forge: {kind: local, path: /x}}]}\n").unwrap_err();
    assert!(error.to_string().contains("project name"), "{error}");
}

#[test]
fn sources_are_told_apart_and_one_of_them_carries_the_blueprint() {
    let with = |project: &str, sources: &str| {
        parse(&format!(
            "projects:\n  - {{ name: shop{project}, sources: [{sources}] }}\n"
        ))
    };
    let source = |name: &str, path: &str| format!("{{ name: {name}, forge: {{ kind: local, path: {path} }} }}");
    let both = [source("shop", "/a"), source("api", "/b")].join(", ");
    let config = with("", &both).unwrap();
    assert_eq!(config.projects[0].blueprint_place(), Some(0));
    assert_eq!(config.projects[0].join, JoinConfig::None);
    let config = with(", blueprint: api, join: branch", &both).unwrap();
    assert_eq!(config.projects[0].blueprint_place(), Some(1));
    assert_eq!(config.projects[0].join, JoinConfig::Branch);

    let ruled = format!(
        "{}, {{ name: api, policy_branch: rules, forge: {{ kind: local, path: /b }} }}",
        source("shop", "/a")
    );
    for (project, sources, words) in [
        (
            "",
            [source("api", "/a"), source("api", "/b")].join(", "),
            "two sources named api",
        ),
        (
            "",
            [source("shop", "/a"), source("api", "/a")].join(", "),
            "two sources for /a",
        ),
        ("", source("service-web", "/a"), "service-"),
        (", blueprint: apo", both.clone(), "did you mean `api`?"),
        (", blueprint: something", both.clone(), "there are: api, shop"),
        ("", ruled, "`policy_branch` of the source api has no effect"),
    ] {
        let error = with(project, &sources).unwrap_err();
        let ConfigError::Contradiction { what, hint } = &error else {
            panic!("{error}");
        };
        assert!(format!("{what}; {hint}").contains(words), "{what}; {hint}");
    }
    assert!(with(", join: branches", &both).is_err());
}

const CLUSTER: &str = "
clusters:
  staging:
    kubeconfig: /etc/maquette/staging
    context: previews
    network_policies: enforced
    delivery: gitops
    gitops: {url: https://git.example.org/team/previews.git, credentials_file: /etc/maquette/previews, argocd_cluster: staging}
    neighbours: [ingress]
  other: {kubeconfig: /etc/maquette/other, context: other, network_policies: enforced, production: insist}
projects:
  - name: shop
    target: staging
    sources: [{forge: {kind: local, path: /srv/git/shop}}]
  - name: docs
    sources: [{forge: {kind: local, path: /srv/git/docs}}]
";

#[test]
fn a_project_names_its_cluster() {
    let config = parse(CLUSTER).unwrap();
    let target = |at: usize| config.target_of(&config.projects[at]).unwrap().map(ToString::to_string);
    assert_eq!((target(0).as_deref(), target(1)), (Some("staging"), None));
    assert!(config.needs_cells(), "docs are in cells");
    let staging = &config.clusters[&"staging".parse().unwrap()];
    let neighbours = staging.neighbours();
    assert_eq!(neighbours.allowed, ["argocd", "ingress"].map(str::to_owned).into());
    assert!(!neighbours.insists);
    assert!(config.clusters[&"other".parse().unwrap()].neighbours().insists);
    let without = CLUSTER.split("  - name: docs").next().unwrap();
    let config = parse(&format!("state_dir: /nowhere/state\n{without}")).unwrap();
    assert!(!config.needs_cells(), "no project is in cells, and none ever was");
}

#[test]
fn what_is_wrong_with_a_cluster_is_told_with_its_place_and_a_hint() {
    let cases = [
        (
            "target: staging",
            "target: stagin",
            "project shop: `target` names no cluster: stagin",
            "did you mean `staging`?",
        ),
        (
            "target: staging",
            "target: elsewhere",
            "project shop: `target` names no cluster: elsewhere",
            "there are: other, staging",
        ),
        (
            "delivery: gitops",
            "delivery: apply",
            "clusters.staging: `gitops` has no effect with `delivery: apply`",
            "remove it, or write `delivery: gitops`",
        ),
        (
            "kubeconfig: /etc/maquette/other, context: other,",
            "delivery: gitops,",
            "clusters.other: `delivery: gitops` needs a repository",
            "say under `gitops` of the cluster where it is",
        ),
        (
            "https://git.",
            "https://me:secret@git.",
            "clusters.staging: `gitops.url` has a user or a password in it",
            "write `user:password` into a file",
        ),
        (
            "https://git.",
            "ftp://git.",
            "clusters.staging: `gitops.url` is no address of the web",
            "write it as https://",
        ),
        (
            "argocd_cluster: staging",
            "folder: ../elsewhere",
            "clusters.staging: `gitops.folder` is no folder of a repository",
            "write it as `previews`",
        ),
        (
            "    kubeconfig: /etc/maquette/staging\n",
            "",
            "clusters.staging: `context` has no effect without `kubeconfig`",
            "name the kubeconfig file",
        ),
        (
            "    context: previews\n",
            "",
            "clusters.staging: `context` is missing",
            "name one of the kubeconfig's contexts",
        ),
        (
            "    network_policies: enforced\n",
            "",
            "clusters.staging: it is not said whether its network enforces network policies",
            "write `network_policies: enforced` if its plugin does",
        ),
    ];
    for (given, instead, what, hint) in cases {
        let error = parse(&CLUSTER.replacen(given, instead, 1)).unwrap_err();
        assert_eq!(error.to_string(), what);
        assert!(error.hint().unwrap().starts_with(hint), "{error}: {:?}", error.hint());
        assert!(!format!("{error} {:?}", error.hint()).contains("secret@"));
    }
    let error = parse(&CLUSTER.replacen("context:", "contxt:", 1)).unwrap_err();
    assert!(error.to_string().contains("line"), "{error}");
    assert_eq!(error.hint(), Some("did you mean `context`?"));
    let none = "projects: [{name: shop, target: staging, sources: [{forge: {kind: local, path: /x}}]}]\n";
    let error = parse(none).unwrap_err();
    assert!(
        error.hint().unwrap().starts_with("say under `clusters`"),
        "{:?}",
        error.hint()
    );
}
