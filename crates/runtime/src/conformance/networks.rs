//! Networks of an environment: who shares one finds the other, who shares none does not.

use super::{
    Case,
    bench::{Bench, Draft, Outcome, ensure, name},
};
use crate::ExecExit;
use model::{Feature, Network, NetworkMode, Service};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "services that share a network find each other, and others do not",
        run: |bench| Box::pin(apart(bench)),
    },
    Case {
        name: "a service without a network reaches nobody",
        run: |bench| Box::pin(alone(bench)),
    },
];

/// A server of the name `text`, in these networks, each with a further name in it.
fn server(bench: &Bench<'_>, text: &str, networks: &[(&str, &str)]) -> Outcome<Service> {
    let mut service = bench.server(text);
    for (network, alias) in networks {
        let aliases = (!alias.is_empty()).then(|| (*alias).to_owned());
        service.networks.insert(name(network)?, aliases.into_iter().collect());
    }
    Ok(service)
}

/// What `from` gets from the server of that name.
async fn fetched(bench: &Bench<'_>, spec: &model::EnvironmentSpec, from: &str, of: &str) -> Outcome<Option<String>> {
    let command = bench.fixture.fetch(of, bench.fixture.port());
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    let (exit, printed) = bench.exec(&spec.environment, from, &words, b"").await?;
    Ok((exit == ExecExit::Status(0)).then(|| printed.trim().to_owned()))
}

async fn apart(bench: &Bench<'_>) -> Outcome {
    if !bench.runtime().capabilities().features.contains(&Feature::Networks) {
        return Ok(());
    }
    let mut web = server(bench, "web", &[("front", "www")])?;
    web.aliases = vec!["the-shop".to_owned()];
    let spec = bench
        .spec()?
        .with("web", web)?
        .with("api", server(bench, "api", &[("front", ""), ("back", "backend")])?)?
        .with("db", server(bench, "db", &[("back", "database")])?)?
        .with_network("front", Network::default())?
        .with_network("back", Network { internal: true })?;
    bench.bring_up(&spec).await?;
    for (from, of, there) in [
        ("web", "api", Some("api")),
        ("api", "web", Some("web")),
        ("api", "www", Some("web")),
        ("api", "the-shop", Some("web")),
        ("api", "db", Some("db")),
        ("db", "database", Some("db")),
        ("db", "backend", Some("api")),
        ("web", "db", None),
        ("web", "database", None),
        ("web", "backend", None),
        ("db", "web", None),
        ("db", "the-shop", None),
    ] {
        let seen = fetched(bench, &spec, from, of).await?;
        ensure!(
            seen.as_deref() == there,
            "expected {from} to find {there:?} as `{of}`, got {seen:?}"
        );
    }
    // Whoever visits is in no network.
    for service in ["web", "api", "db"] {
        bench.greets(&spec.environment, service, service).await?;
    }
    Ok(())
}

async fn alone(bench: &Bench<'_>) -> Outcome {
    if !bench.runtime().capabilities().features.contains(&Feature::Networks) {
        return Ok(());
    }
    let mut lonely = bench.server("lonely");
    lonely.ports.clear();
    lonely.public_port = None;
    lonely.net = NetworkMode::None;
    let spec = bench.spec()?.with("web", bench.server("web"))?.with("lonely", lonely)?;
    bench.bring_up(&spec).await?;
    let seen = fetched(bench, &spec, "lonely", "web").await?;
    ensure!(seen.is_none(), "expected nobody to be found, got {seen:?}");
    let seen = fetched(bench, &spec, "web", "web").await?;
    ensure!(
        seen.as_deref() == Some("web"),
        "expected web to find itself, got {seen:?}"
    );
    Ok(())
}
