//! Commands over a directory of this machine: `init`, `check`, `plan`, `doctor`. Nothing is asked of a server.

mod clusters;
mod directory;
mod goldens;
mod images;
mod serving;
mod spares;

use crate::{
    cli::{CheckArgs, DoctorArgs, InitArgs, PlanArgs},
    exit::Failure,
    process::cell_host::{oci_runtime, pool_config},
    render::tame,
};
use blueprint::{Address, Blueprint, Context, Further, FurtherCommit, Policy, Problems, Severity};
use directory::Directory;
use model::{Capabilities, EngineOffer, MountKind, Root, ServiceStack, SourceName, Staging};
use runtime_cell::doctor::{self as doctor_of_cells, Status};
use serde_json::json;
use server::config::ServerConfig;
use std::{
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::of(&error))?;
    print(&format!("{text}\n"))
}

/// Whether JSON was asked for; local commands take it from the same global option.
pub(crate) struct Output {
    /// JSON instead of text.
    pub(crate) json: bool,
}

/// Writes a first `maquette.yaml`.
pub(crate) fn init(args: &InitArgs) -> Result<ExitCode, Failure> {
    let tree = Directory::open(&args.directory)?;
    let files = blueprint::init(&tree);
    if args.print {
        for file in &files {
            if files.len() > 1 {
                print(&format!("# --- {}\n", file.path))?;
            }
            print(&file.text)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    // All or nothing: half of it would be read as if somebody had meant it.
    let there = |file: &&blueprint::Written| fs::symlink_metadata(args.directory.join(file.path)).is_ok();
    if let Some(file) = files.iter().find(there) {
        let path = args.directory.join(file.path);
        return Err(
            Failure::new(6, format!("{} is there already", path.display())).hint("--print shows what would be written")
        );
    }
    for file in &files {
        let path = args.directory.join(file.path);
        let made = fs::OpenOptions::new().write(true).create_new(true).open(&path);
        let mut opened = made.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Failure::new(6, format!("{} is there already", path.display()))
                .hint("--print shows what would be written"),
            _ => Failure::new(1, format!("{} can not be written: {error}", path.display())),
        })?;
        opened.write_all(file.text.as_bytes())?;
        for found in &file.found {
            print(&format!("found {found}\n"))?;
        }
        print(&format!("wrote {}\n", path.display()))?;
    }
    print("`maquette check` explains it, `maquette plan` shows what would be made\n")?;
    Ok(ExitCode::SUCCESS)
}

/// What this machine can run, as far as it can be told without privileges.
fn capabilities() -> Capabilities {
    let found = runtime_cell::engine::probe_host().installed;
    let offer = |one: &runtime_cell::engine::Installed| EngineOffer {
        kind: one.kind.to_string(),
        major: one.major,
        version: one.version.clone(),
    };
    let engines = found.iter().map(offer).collect();
    Capabilities {
        runtime: "cell".to_owned(),
        staging: Staging::Levels,
        services: true,
        objects: false,
        host_roots: true,
        images: true,
        engines,
        snapshots: true,
        freeze: true,
        sources: true,
        databases: true,
        features: runtime_cell::host::features(),
    }
}

fn read(
    directory: &Path,
    policy: Option<&Path>,
    sources: &[(SourceName, PathBuf)],
) -> Result<Result<Blueprint, Problems>, Failure> {
    let opened = sources.iter().map(|(name, path)| Ok((name, Directory::open(path)?)));
    let opened: Vec<(&SourceName, Directory)> = opened.collect::<Result<_, Failure>>()?;
    let found = |tree| Ok(FurtherCommit { commit: None, tree });
    let further = Further {
        sources: opened
            .iter()
            .map(|(name, tree)| ((*name).clone(), found(tree as &dyn blueprint::Tree)))
            .collect(),
        // Which ones there are is known to the server alone.
        open: true,
    };
    let tree = Directory::open(directory)?;
    let policy = policy.map(Directory::open).transpose()?;
    let policy_tree: &dyn blueprint::Tree = policy.as_ref().map_or(&tree, |policy| policy);
    let mut context = context(directory)?;
    // Which of them have a value is known to the server alone.
    if let Ok((policy, _)) = Policy::read(policy_tree) {
        context.secrets = policy.secrets.into_iter().collect();
    }
    Ok(Blueprint::read_from(
        &tree,
        Some(policy_tree),
        &further,
        &context,
        &capabilities(),
    ))
}

/// An environment as it could be: the values are examples, the form is that of real ones.
fn context(directory: &Path) -> Result<Context, Failure> {
    let name = directory
        .canonicalize()
        .ok()
        .and_then(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()));
    let slug: String = model::slug(name.as_deref().unwrap_or_default())
        .chars()
        .take(30)
        .collect();
    let project = slug.trim_matches('-').replace("--", "-");
    let example = |error: &dyn std::error::Error| Failure::of(error);
    let project = if project.is_empty() {
        "project".to_owned()
    } else {
        project
    };
    Ok(Context {
        project: project.parse().map_err(|error| example(&error))?,
        source: project.parse().map_err(|error| example(&error))?,
        commit: "0".repeat(40).parse().map_err(|error| example(&error))?,
        branch: "example".parse().ok(),
        base: "main".parse().ok(),
        pull_request: Some(blueprint::PullRequest {
            number: 1,
            title: "An example".to_owned(),
        }),
        environment: "pr-1".parse().map_err(|error| example(&error))?,
        address: Address {
            scheme: "http".to_owned(),
            base: "localhost".to_owned(),
            port: Some(8080),
        },
        without: std::collections::BTreeSet::new(),
        endpoints: std::collections::BTreeMap::new(),
        with: std::collections::BTreeSet::new(),
        secrets: std::collections::BTreeSet::new(),
        images: None,
    })
}

/// Says what is wrong.
pub(crate) fn check(args: &CheckArgs, output: &Output) -> Result<ExitCode, Failure> {
    let read = read(&args.directory, args.policy.as_deref(), &args.source)?;
    let (problems, explanation) = match &read {
        Ok(blueprint) => (blueprint.warnings.as_slice(), Some(&blueprint.explanation)),
        Err(problems) => (problems.0.as_slice(), None),
    };
    let code = if read.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    };
    if output.json {
        print_json(&json!({ "ok": read.is_ok(), "problems": problems, "values": explanation }))?;
        return Ok(code);
    }
    let mut text = String::new();
    for problem in problems {
        let _ = writeln!(text, "{problem}\n");
    }
    if let Some(explanation) = explanation.filter(|_| args.explain) {
        let width = explanation.0.keys().map(String::len).max().unwrap_or(0);
        for (name, value) in &explanation.0 {
            let _ = writeln!(text, "{name:width$}  {}  ({})", value.value, value.from);
        }
        text.push('\n');
    }
    let count = |severity| problems.iter().filter(|problem| problem.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let verdict = if read.is_ok() {
        "The blueprint can be used"
    } else {
        "The blueprint can not be used"
    };
    let _ = writeln!(text, "{verdict}: {errors} errors, {warnings} warnings");
    print(&text)?;
    Ok(code)
}

/// Shows what would be made.
pub(crate) fn plan(args: &PlanArgs, output: &Output) -> Result<ExitCode, Failure> {
    let blueprint = match read(&args.directory, args.policy.as_deref(), &args.source)? {
        Ok(blueprint) => blueprint,
        Err(problems) => {
            if output.json {
                print_json(&json!({ "ok": false, "problems": problems }))?;
            } else {
                print(&format!("{problems}\n"))?;
            }
            return Err(Failure::new(1, "there is no plan: the blueprint can not be used")
                .hint("`maquette check` says the same"));
        }
    };
    if output.json {
        let policy: &Policy = &blueprint.policy;
        let json = json!({ "ok": true, "stack": blueprint.stack, "public": blueprint.public, "policy": policy,
            "warnings": blueprint.warnings });
        print_json(&json)?;
    } else {
        print(&plan_text(&blueprint))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn plan_text(blueprint: &Blueprint) -> String {
    let mut text = String::new();
    let stack = &blueprint.stack;
    for (level, names) in levels(stack).iter().enumerate() {
        let _ = writeln!(text, "stage {}", level + 1);
        for name in names {
            let Some(service) = stack.services.get(name) else {
                continue;
            };
            let runs = match &service.workload.root {
                Root::Host => service
                    .workload
                    .command
                    .as_ref()
                    .map_or_else(|| "host packages".to_owned(), |argv| argv.join(" ")),
                Root::Image { reference, .. } => format!("image {reference}"),
                Root::Build(build) => format!("built from ./{}", build.context),
                Root::Engine(engine) if engine.versions.min == engine.versions.max => {
                    format!("{} {}", engine.kind, engine.versions.min)
                }
                Root::Engine(engine) => format!("{} {}–{}", engine.kind, engine.versions.min, engine.versions.max),
            };
            let visited = match blueprint.public.iter().position(|public| public == *name) {
                Some(0) => ", the environment's address",
                Some(_) => ", an address of its own",
                None => "",
            };
            let ports: Vec<String> = service.ports.iter().map(u16::to_string).collect();
            let ports = if ports.is_empty() {
                String::new()
            } else {
                format!(", ports {}", ports.join(" "))
            };
            let _ = writeln!(text, "  {name}: {runs}{ports}{visited}");
            if let Some(data) = stack.data.get(name) {
                let (migrations, seeds) = (data.migrations.len(), data.seeds.len());
                let _ = writeln!(
                    text,
                    "    database {}: {migrations} migrations, {seeds} seed files",
                    data.database
                );
            }
            for mount in &service.workload.mounts {
                if let MountKind::Volume { volume } = &mount.kind {
                    let _ = writeln!(text, "    volume {volume} at {}", mount.target);
                }
            }
        }
    }
    for (name, job) in &stack.jobs {
        let _ = writeln!(text, "job {name}: on {:?}", job.on);
    }
    for warning in &blueprint.warnings {
        let _ = writeln!(text, "\n{warning}");
    }
    text
}

/// Services by the stage in which they start: each after all that it depends on.
fn levels(stack: &ServiceStack) -> Vec<Vec<&model::ServiceName>> {
    let mut levels: Vec<Vec<&model::ServiceName>> = Vec::new();
    let mut left: Vec<_> = stack.services.iter().collect();
    while !left.is_empty() {
        let placed: Vec<&model::ServiceName> = levels.iter().flatten().copied().collect();
        let (ready, rest): (Vec<_>, Vec<_>) = left
            .into_iter()
            .partition(|(_, service)| service.depends_on.keys().all(|name| placed.contains(&name)));
        if ready.is_empty() {
            break;
        }
        levels.push(ready.into_iter().map(|(name, _)| name).collect());
        left = rest;
    }
    levels
}

/// Says what this machine lacks.
pub(crate) fn doctor(args: &DoctorArgs, output: &Output) -> Result<ExitCode, Failure> {
    let config = match ServerConfig::load(&args.config) {
        Ok(config) => config,
        Err(_) if !args.config.exists() => {
            ServerConfig::parse("{}\n", &args.config).map_err(|error| Failure::of(&error))?
        }
        Err(error) => return Err(crate::process::config_failure(&error)),
    };
    let mut findings = if config.needs_cells() {
        doctor_of_cells::examine(&pool_config(&config, "doctor"), oci_runtime(&config))
    } else {
        Vec::new()
    };
    findings.extend(serving::findings(&config, rustix::process::geteuid().is_root()));
    findings.extend(clusters::findings(&config));
    findings.extend(spares::findings(&config));
    findings.extend(goldens::findings(&config, spares::now()));
    findings.extend(images::findings(&config, spares::now()));
    let worst = doctor_of_cells::worst(&findings);
    let code = if worst == Status::Fail {
        ExitCode::from(1)
    } else {
        ExitCode::SUCCESS
    };
    if output.json {
        print_json(&json!({ "status": worst, "findings": findings }))?;
        return Ok(code);
    }
    let mut text = String::new();
    for finding in &findings {
        let mark = match finding.status {
            Status::Ok => "ok  ",
            Status::Warn => "warn",
            Status::Fail => "FAIL",
        };
        // Some of it was said by the server, which may not be root.
        let _ = writeln!(text, "{mark}  {}: {}", tame(&finding.check), tame(&finding.meaning));
        if let Some(mend) = &finding.mend {
            let _ = writeln!(text, "        mend: {mend}");
        }
    }
    print(&text)?;
    Ok(code)
}
