//! Every key of the Compose Specification: what the documentation says of it is what happens.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that can not go on fails"
)]

mod support;

use blueprint::{Blueprint, MemoryTree, Problem, Severity};
use std::collections::BTreeSet;
use support::{context, everything};

/// A value for each key that is honoured and does not take any text.
const VALUES: &[(&str, &str)] = &[
    ("include", "[other.yaml]"),
    ("services", "{ web: { image: nginx } }"),
    ("networks", "{ n: }"),
    ("volumes", "{ n: }"),
    ("secrets", "{ n: { file: ./file } }"),
    ("configs", "{ n: { file: ./file } }"),
    ("include[].path", "other.yaml"),
    ("include[].project_directory", "."),
    ("include[].env_file", "file.env"),
    ("services.*.build", "."),
    ("services.*.cap_add", "[CHOWN, CAP_SETUID]"),
    ("services.*.cap_drop", "[ALL]"),
    ("services.*.cgroup", "private"),
    ("services.*.command", "[a, b]"),
    ("services.*.configs", "[n]"),
    ("services.*.cpu_period", "100000"),
    ("services.*.cpu_quota", "50000"),
    ("services.*.cpus", "0.5"),
    ("services.*.depends_on", "[other]"),
    ("services.*.deploy", "{ replicas: 1 }"),
    ("services.*.entrypoint", "[a]"),
    ("services.*.env_file", "file.env"),
    ("services.*.environment", "{ A: b }"),
    ("services.*.expose", "['80']"),
    ("services.*.extends", "{ service: other }"),
    ("services.*.extra_hosts", "['a=10.0.0.1', 'b:10.0.0.2']"),
    ("services.*.group_add", "[mail, 100]"),
    ("services.*.healthcheck", "{ test: [CMD, a] }"),
    ("services.*.init", "true"),
    ("services.*.ipc", "private"),
    ("services.*.links", "['other:alias']"),
    ("services.*.mem_limit", "64m"),
    ("services.*.network_mode", "bridge"),
    ("services.*.networks", "[n]"),
    ("services.*.pids_limit", "10"),
    ("services.*.platform", "linux/amd64"),
    ("services.*.ports", "['80']"),
    ("services.*.profiles", "[]"),
    ("services.*.pull_policy", "always"),
    ("services.*.read_only", "true"),
    ("services.*.restart", "'on-failure:3'"),
    ("services.*.scale", "1"),
    ("services.*.secrets", "[n]"),
    ("services.*.security_opt", "['no-new-privileges:true']"),
    ("services.*.shm_size", "64m"),
    ("services.*.stdin_open", "true"),
    ("services.*.stop_grace_period", "3s"),
    ("services.*.stop_signal", "SIGINT"),
    ("services.*.sysctls", "['net.core.somaxconn=1024']"),
    ("services.*.tmpfs", "[/run]"),
    ("services.*.tty", "true"),
    ("services.*.ulimits", "{ nofile: 1024 }"),
    ("services.*.user", "'1000:1000'"),
    ("services.*.volumes", "['n:/data', './file:/etc/file:ro']"),
    ("services.*.volumes_from", "['other:ro']"),
    ("services.*.working_dir", "/srv"),
    ("services.*.build.context", "."),
    ("services.*.build.dockerfile", "Dockerfile"),
    ("services.*.build.dockerfile_inline", "FROM scratch"),
    ("services.*.build.args", "[A=b]"),
    ("services.*.build.labels", "{ a: b }"),
    ("services.*.build.no_cache", "true"),
    (
        "services.*.build.additional_contexts",
        "{ a: ., b: 'docker-image://x', c: 'service:other' }",
    ),
    ("services.*.build.secrets", "[n]"),
    ("services.*.build.tags", "[a]"),
    ("services.*.build.secrets[].source", "n"),
    ("services.*.build.secrets[].target", "id"),
    ("services.*.depends_on.*.condition", "service_started"),
    ("services.*.depends_on.*.required", "true"),
    ("services.*.depends_on.*.restart", "true"),
    ("services.*.deploy.replicas", "1"),
    ("services.*.deploy.resources", "{ limits: { memory: 1m } }"),
    ("services.*.deploy.restart_policy", "{ condition: any }"),
    ("services.*.deploy.resources.limits", "{ memory: 64m }"),
    ("services.*.deploy.resources.limits.cpus", "'1'"),
    ("services.*.deploy.resources.limits.memory", "64m"),
    ("services.*.deploy.resources.limits.pids", "10"),
    ("services.*.deploy.restart_policy.condition", "on-failure"),
    ("services.*.deploy.restart_policy.max_attempts", "3"),
    ("services.*.env_file[].path", "file.env"),
    ("services.*.env_file[].format", "raw"),
    ("services.*.env_file[].required", "false"),
    ("services.*.extends.service", "other"),
    ("services.*.extends.file", "other.yaml"),
    ("services.*.healthcheck.disable", "true"),
    ("services.*.healthcheck.interval", "1s"),
    ("services.*.healthcheck.retries", "3"),
    ("services.*.healthcheck.test", "[CMD-SHELL, a]"),
    ("services.*.healthcheck.timeout", "1s"),
    ("services.*.healthcheck.start_period", "1s"),
    ("services.*.healthcheck.start_interval", "1s"),
    ("services.*.networks.*.aliases", "[a]"),
    ("services.*.ports[].target", "80"),
    ("services.*.ports[].protocol", "tcp"),
    ("services.*.secrets[].source", "n"),
    ("services.*.secrets[].uid", "'1'"),
    ("services.*.secrets[].gid", "'1'"),
    ("services.*.secrets[].mode", "0440"),
    ("services.*.configs[].source", "n"),
    ("services.*.configs[].uid", "'1'"),
    ("services.*.configs[].gid", "'1'"),
    ("services.*.configs[].mode", "0440"),
    ("services.*.ulimits.*.soft", "10"),
    ("services.*.ulimits.*.hard", "10"),
    ("services.*.volumes[].type", "volume"),
    ("services.*.volumes[].source", "n"),
    ("services.*.volumes[].target", "/data"),
    ("services.*.volumes[].read_only", "true"),
    ("services.*.volumes[].bind", "{ create_host_path: true }"),
    ("services.*.volumes[].volume", "{ nocopy: true }"),
    ("services.*.volumes[].tmpfs", "{ size: 1m }"),
    ("services.*.volumes[].bind.create_host_path", "false"),
    ("services.*.volumes[].volume.nocopy", "true"),
    ("services.*.volumes[].tmpfs.size", "1m"),
    ("services.*.volumes[].tmpfs.mode", "1777"),
    ("networks.*.internal", "true"),
    ("volumes.*.driver", "local"),
    ("volumes.*.driver_opts", "{ type: tmpfs, device: tmpfs }"),
    ("secrets.*.environment", "KNOWN"),
    ("secrets.*.file", "./file"),
    ("secrets.*.external", "true"),
    ("secrets.*.external.name", "GRANTED"),
    ("configs.*.environment", "KNOWN"),
    ("configs.*.file", "./file"),
];

/// What must stand beside a key for it to make sense.
fn beside(section: &str, key: &str) -> &'static str {
    match (section, key) {
        ("include[]", "path") | ("services.*.extends", "service") | ("services.*.healthcheck", "test" | "disable") => {
            ""
        }
        ("include[]", _) => "path: other.yaml, ",
        ("services.*", "image") => "",
        ("services.*", "cpu_period") => "image: nginx, cpu_quota: 50000, ",
        ("services.*", _) => "image: nginx, ",
        ("services.*.build.secrets[]" | "services.*.secrets[]" | "services.*.configs[]", "source") => "",
        ("services.*.build.secrets[]" | "services.*.secrets[]" | "services.*.configs[]", _) => "source: n, ",
        ("services.*.env_file[]", "path") | ("services.*.ports[]", "target") => "",
        ("services.*.env_file[]", _) => "path: file.env, ",
        ("services.*.extends", _) => "service: other, ",
        ("services.*.healthcheck", _) => "test: a, ",
        ("services.*.ports[]", _) => "target: 80, ",
        ("services.*.volumes[]", "type") => "target: /data, ",
        ("services.*.volumes[]", "source") => "type: volume, target: /data, ",
        ("services.*.volumes[]", "target") => "type: volume, ",
        ("services.*.volumes[]", "bind") => "type: bind, source: ./file, target: /data, ",
        ("services.*.volumes[]", "tmpfs") => "type: tmpfs, target: /data, ",
        ("services.*.volumes[]", _) => "type: volume, source: n, target: /data, ",
        ("secrets.*", "name") => "file: ./file, ",
        ("secrets.*", "file" | "environment" | "external") => "",
        ("configs.*", "file" | "environment" | "content") => "",
        ("secrets.*" | "configs.*", _) => "file: ./file, ",
        _ => "",
    }
}

/// A Compose file with this key.
fn document(path: &str, value: &str) -> String {
    let parts: Vec<&str> = path.split('.').collect();
    let mut text = value.to_owned();
    for (index, part) in parts.iter().enumerate().rev() {
        let section = parts[..index].join(".");
        if index == 0 {
            let part = part.trim_end_matches("[]");
            text = format!(
                "{part}: {}\n",
                if parts[0].ends_with("[]") {
                    format!("[{text}]")
                } else {
                    text
                }
            );
            break;
        }
        let name = match (*part, section.as_str()) {
            ("*", "services") => "web",
            ("*", "services.*.depends_on") => "other",
            ("*", "services.*.ulimits") => "nofile",
            ("*", _) => "n",
            (part, _) => part,
        };
        let (name, text_of) = match name.strip_suffix("[]") {
            Some(name) => (name, format!("[{text}]")),
            None => (name, text),
        };
        // The items of a list are sections of their own.
        let beside = beside(&section, name);
        text = format!("{{ {beside}{name}: {text_of} }}");
    }
    let mut whole = text;
    let head = parts[0].trim_end_matches("[]");
    let others = [
        (
            "services",
            "services: { web: { image: nginx, secrets: [n], configs: [n], networks: [n], volumes: ['n:/volume'] }, other: { image: nginx, build: ., expose: ['1'] } }\n",
        ),
        ("networks", "networks: { n: }\n"),
        ("volumes", "volumes: { n: }\n"),
        ("secrets", "secrets: { n: { file: ./file } }\n"),
        ("configs", "configs: { n: { file: ./file } }\n"),
    ];
    for (section, text) in others {
        if section != head {
            whole.push_str(text);
        }
    }
    if head == "services" && parts.len() > 1 {
        let other = "{ web:";
        whole = whole.replacen(other, "{ other: { image: nginx, build: ., expose: ['1'] }, web:", 1);
    }
    whole
}

fn problems(text: &str) -> Vec<Problem> {
    let tree = MemoryTree::new([
        ("compose.yaml", text),
        ("other.yaml", "services: { other: { image: nginx, expose: ['1'] } }"),
        ("file", "x"),
        ("file.env", "A=1\n"),
        (".env", "KNOWN=1\n"),
        ("Dockerfile", "FROM scratch"),
        ("maquette.yaml", "policy: { secrets: [GRANTED, n] }"),
    ]);
    let context = blueprint::Context {
        without: std::collections::BTreeSet::new(),
        endpoints: std::collections::BTreeMap::new(),
        with: std::collections::BTreeSet::new(),
        secrets: ["GRANTED".to_owned(), "n".to_owned()].into(),
        ..context()
    };
    match Blueprint::read(&tree, Some(&tree), &context, &everything()) {
        Ok(blueprint) => blueprint.warnings,
        Err(problems) => problems.0,
    }
}

#[test]
fn every_key_of_the_specification_is_in_the_table() {
    let known: BTreeSet<&str> = blueprint::compose_keys().map(|(path, ..)| path).collect();
    assert_eq!(known.len(), blueprint::compose_keys().count(), "a key is there twice");
    let missing: Vec<&str> = include_str!("specification-keys.txt")
        .lines()
        .filter(|path| !known.contains(path))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn what_is_honoured_is_read_without_a_word() {
    let mut wrong = Vec::new();
    for (path, fate, _) in blueprint::compose_keys() {
        if !matches!(fate, "honoured" | "wish") {
            continue;
        }
        let value = VALUES
            .iter()
            .find(|(known, _)| *known == path)
            .map_or("text", |(_, value)| *value);
        let text = document(path, value);
        let key = path.rsplit('.').next().unwrap().trim_end_matches("[]");
        for problem in problems(&text) {
            let about = problem.message.contains(&format!("`{key}`"));
            if problem.severity == Severity::Error || (about && problem.message.contains("no effect")) {
                wrong.push(format!("{path}\n{text}{problem}\n"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_ignored_or_refused_is_told_with_its_reason() {
    let mut wrong = Vec::new();
    for (path, fate, reason) in blueprint::compose_keys() {
        let severity = match fate {
            "ignored" => Severity::Warning,
            "refused" => Severity::Error,
            _ => continue,
        };
        // All of these share one word about the host's side of ports.
        if matches!(
            path,
            "services.*.ports[].published" | "services.*.ports[].host_ip" | "services.*.ports[].mode"
        ) {
            continue;
        }
        let text = document(path, "{ a: b }");
        let told = problems(&text).iter().any(|problem| {
            problem.severity == severity
                && (problem.message.contains(reason) || problem.hint.as_deref() == Some(reason))
        });
        if !told {
            wrong.push(format!("{path}\n{text}{}", blueprint::Problems(problems(&text))));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn the_published_reference_is_that_of_the_reader() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/compose.md");
    let text = blueprint::compose_reference();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let stored = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        stored == text,
        "docs/reference/compose.md is stale: run this test with UPDATE=1"
    );
}
