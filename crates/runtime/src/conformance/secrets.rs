//! Secrets, and files whose text the stack gives.

use super::{
    Case,
    bench::{Bench, Draft, Outcome, all_services, ensure, ok},
};
use crate::{ExecExit, NoSecrets, RuntimeError, Secrets};
use model::{EnvironmentSpec, Feature, Mount, MountKind, SecretRef, Service, Stage, Value};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "variables reach the process, secrets among them, and nothing else does",
        run: |bench| Box::pin(variables(bench)),
    },
    Case {
        name: "a secret without a value is refused by name before anything is made",
        run: |bench| Box::pin(unknown(bench)),
    },
    Case {
        name: "a secret that no variable can hold is refused, and given as a file",
        run: |bench| Box::pin(unfit(bench)),
    },
    Case {
        name: "a file with a text has its mode and owner, and can not be written",
        run: |bench| Box::pin(content(bench)),
    },
    Case {
        name: "another version of a secret replaces those that are given it, and no others",
        run: |bench| Box::pin(rotated(bench)),
    },
    Case {
        name: "a service that is stopped and started again still has its secrets",
        run: |bench| Box::pin(power(bench)),
    },
];

const TEXT: &str = "the value\nof two lines";

/// Knows one secret.
struct One(&'static [u8]);

impl Secrets for One {
    fn value(&self, secret: &SecretRef) -> Option<&[u8]> {
        (secret.0 == "known").then_some(self.0)
    }
}

fn known() -> Value {
    Value::Secret(SecretRef("known".to_owned()))
}

fn file(mut service: Service, target: &str, content: Value, mode: u32, owner: Option<(u32, u32)>) -> Service {
    service.workload.mounts.push(Mount {
        target: target.to_owned(),
        kind: MountKind::Content {
            content,
            mode,
            uid: owner.map(|(uid, _)| uid),
            gid: owner.map(|(_, gid)| gid),
        },
        read_only: true,
    });
    service
}

fn with_variable(bench: &Bench<'_>, text: &str) -> Service {
    let mut service = bench.server(text);
    service.workload.environment.insert("SECRET".to_owned(), known());
    service
}

async fn bring_up(bench: &Bench<'_>, spec: &EnvironmentSpec, secrets: &dyn Secrets) -> Outcome {
    bench.apply(spec, &Stage::Envelope).await?;
    let stage = all_services(spec);
    ok(
        "applying services with a secret",
        bench.runtime().apply(spec, &stage, secrets).await,
    )?;
    for service in spec.services().into_iter().flat_map(|stack| stack.services.keys()) {
        bench.ready(&spec.environment, service.as_str()).await?;
    }
    Ok(())
}

fn versioned(mut spec: EnvironmentSpec, version: &str) -> EnvironmentSpec {
    spec.secrets.insert(SecretRef("known".to_owned()), version.to_owned());
    spec
}

async fn variables(bench: &Bench<'_>) -> Outcome {
    let mut service = with_variable(bench, "web");
    let variables = &mut service.workload.environment;
    variables.insert("PLAIN".to_owned(), Value::Plain("plain $HOME".to_owned()));
    let joined = Value::Joined(vec!["before:".into(), known(), ":after".into()]);
    variables.insert("JOINED".to_owned(), joined);
    let spec = bench.spec()?.with("web", service)?;
    let id = &spec.environment;
    bring_up(bench, &spec, &One(TEXT.as_bytes())).await?;
    for (variable, value) in [
        ("PLAIN", "plain $HOME\n".to_owned()),
        ("SECRET", format!("{TEXT}\n")),
        ("JOINED", format!("before:{TEXT}:after\n")),
    ] {
        let (_, printed) = bench.exec(id, "web", &["printenv", variable], b"").await?;
        ensure!(printed == value, "expected {variable} to be {value:?}, got {printed:?}");
    }
    // Cargo gives these to whatever runs this suite.
    for variable in ["CARGO", "CARGO_MANIFEST_DIR"] {
        let (exit, printed) = bench.exec(id, "web", &["printenv", variable], b"").await?;
        ensure!(
            exit != ExecExit::Status(0),
            "expected nothing of our own environment, saw {variable}={printed:?}"
        );
    }
    Ok(())
}

fn refused(applied: Result<(), RuntimeError>, words: &[&str]) -> Outcome {
    let Err(error) = applied else {
        return Err(format!("expected a refusal that says {words:?}, and it was accepted"));
    };
    let text = error.to_string();
    ensure!(
        !error.is_transient() && words.iter().all(|word| text.contains(word)),
        "expected a final refusal that says {words:?}, got: {text}"
    );
    Ok(())
}

async fn unknown(bench: &Bench<'_>) -> Outcome {
    let spec = bench
        .spec()?
        .with("other", bench.server("other"))?
        .with("web", with_variable(bench, "web"))?;
    bench.apply(&spec, &Stage::Envelope).await?;
    let applied = bench.runtime().apply(&spec, &all_services(&spec), &NoSecrets).await;
    refused(applied, &["`known`", "has no value"])?;
    let seen = bench.observe(&spec.environment).await?;
    ensure!(
        seen.services.is_empty(),
        "expected nothing to be made, there is {:?}",
        seen.services
    );
    Ok(())
}

async fn unfit(bench: &Bench<'_>) -> Outcome {
    const BINARY: &[u8] = b"one\0two\xff";
    let spec = bench.spec()?.with("web", with_variable(bench, "web"))?;
    bench.apply(&spec, &Stage::Envelope).await?;
    let applied = bench.runtime().apply(&spec, &all_services(&spec), &One(BINARY)).await;
    refused(applied, &["`known`", "`SECRET`", "as a file"])?;
    if !offers_files(bench) {
        return Ok(());
    }
    let service = file(bench.server("web"), "/run/secrets/known", known(), 0o444, None);
    let spec = spec.next().with("web", service)?;
    bring_up(bench, &spec, &One(BINARY)).await?;
    let found = bench.read(&spec.environment, "web", "/run/secrets/known").await?;
    let wanted = String::from_utf8_lossy(BINARY).into_owned();
    ensure!(
        found.as_deref() == Some(wanted.as_str()),
        "expected the file to hold the bytes {wanted:?}, it holds {found:?}"
    );
    Ok(())
}

fn offers_files(bench: &Bench<'_>) -> bool {
    bench.runtime().capabilities().features.contains(&Feature::Content)
}

async fn content(bench: &Bench<'_>) -> Outcome {
    if !offers_files(bench) {
        return Ok(());
    }
    let web = file(bench.server("web"), "/run/secrets/known", known(), 0o440, Some((0, 0)));
    let web = file(web, "/config/app.conf", "plain = true\n".into(), 0o604, Some((7, 8)));
    let spec = bench.spec()?.with("web", web)?;
    let id = &spec.environment;
    bring_up(bench, &spec, &One(TEXT.as_bytes())).await?;
    for (path, text, stat) in [
        ("/run/secrets/known", TEXT, "440 0 0\n"),
        ("/config/app.conf", "plain = true\n", "604 7 8\n"),
    ] {
        let found = bench.read(id, "web", path).await?;
        ensure!(
            found.as_deref() == Some(text),
            "expected {path} to hold {text:?}, it holds {found:?}"
        );
        let (_, printed) = bench.exec(id, "web", &["stat", "-c", "%a %u %g", path], b"").await?;
        ensure!(
            printed == stat,
            "expected mode and owner of {path} to be {stat:?}, they are {printed:?}"
        );
        let (exit, _) = bench.exec(id, "web", &["tee", path], b"other").await?;
        ensure!(exit != ExecExit::Status(0), "expected {path} to be read-only");
    }
    Ok(())
}

async fn rotated(bench: &Bench<'_>) -> Outcome {
    let mut first = bench
        .spec()?
        .with("other", bench.server("other"))?
        .with("variable", with_variable(bench, "variable"))?;
    if offers_files(bench) {
        let service = file(bench.server("file"), "/run/secrets/known", known(), 0o444, None);
        first = first.with("file", service)?;
    }
    let first = versioned(first, "1");
    bring_up(bench, &first, &One(b"old")).await?;
    let before = bench.observe(&first.environment).await?.services;
    let second = versioned(first.next(), "2");
    bring_up(bench, &second, &One(b"new")).await?;
    let after = bench.observe(&second.environment).await?.services;
    for (name, fact) in &after {
        let same = before.get(name).is_some_and(|old| old.digest == fact.digest);
        let uses = name.as_str() != "other";
        ensure!(
            same != uses,
            "expected exactly those that use the secret to be replaced: {name} was {}",
            if same { "left alone" } else { "replaced" }
        );
    }
    let id = &second.environment;
    let (_, printed) = bench.exec(id, "variable", &["printenv", "SECRET"], b"").await?;
    ensure!(printed == "new\n", "expected the new value, got {printed:?}");
    if offers_files(bench) {
        let found = bench.read(id, "file", "/run/secrets/known").await?;
        ensure!(
            found.as_deref() == Some("new"),
            "expected the new value in the file, got {found:?}"
        );
    }
    Ok(())
}

async fn power(bench: &Bench<'_>) -> Outcome {
    let mut web = with_variable(bench, "web");
    if offers_files(bench) {
        web = file(web, "/run/secrets/known", known(), 0o444, None);
    }
    let spec = bench.spec()?.with("web", web)?;
    bring_up(bench, &spec, &One(TEXT.as_bytes())).await?;
    let id = &spec.environment;
    for power in [model::Power::Stopped, model::Power::Running] {
        ok(
            "changing the power",
            bench.runtime().power(id, spec.generation, power).await,
        )?;
    }
    bench.ready(id, "web").await?;
    let (_, printed) = bench.exec(id, "web", &["printenv", "SECRET"], b"").await?;
    ensure!(
        printed == format!("{TEXT}\n"),
        "expected the secret again, got {printed:?}"
    );
    if offers_files(bench) {
        let found = bench.read(id, "web", "/run/secrets/known").await?;
        ensure!(
            found.as_deref() == Some(TEXT),
            "expected the file again, it holds {found:?}"
        );
    }
    Ok(())
}
