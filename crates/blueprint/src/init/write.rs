//! The Compose file and the `stack:` of applications that were found.

use super::{
    Sql,
    detect::{Application, Build, Dialect, Need},
    line,
};
use crate::tree::Tree;
use std::collections::BTreeSet;

/// Where an application's folder is mounted.
const PLACE: &str = "/app";

impl Need {
    /// The service's name and its image.
    fn described(self) -> (&'static str, &'static str) {
        match self {
            Self::Postgres => ("db", "postgres:17"),
            Self::RabbitMq => ("queue", "rabbitmq:4"),
            Self::Redis => ("cache", "redis:8"),
        }
    }

    /// What tells an application where it is.
    fn variables(self, dialect: Dialect) -> &'static [(&'static str, &'static str)] {
        match (self, dialect) {
            (Self::Postgres, Dialect::Addresses) => &[("DATABASE_URL", "postgres://app:app@db:5432/app")],
            (Self::Postgres, Dialect::Jdbc) => &[
                ("JDBC_DATABASE_URL", "jdbc:postgresql://db:5432/app"),
                ("JDBC_DATABASE_USERNAME", "app"),
                ("JDBC_DATABASE_PASSWORD", "app"),
            ],
            (Self::Postgres, Dialect::Laravel) => &[
                ("DB_CONNECTION", "pgsql"),
                ("DB_HOST", "db"),
                ("DB_PORT", "5432"),
                ("DB_DATABASE", "app"),
                ("DB_USERNAME", "app"),
                ("DB_PASSWORD", "app"),
            ],
            (Self::Postgres, Dialect::Micronaut) => &[
                ("DATASOURCES_DEFAULT_URL", "jdbc:postgresql://db:5432/app"),
                ("DATASOURCES_DEFAULT_USERNAME", "app"),
                ("DATASOURCES_DEFAULT_PASSWORD", "app"),
            ],
            (Self::Postgres, Dialect::Quarkus) => &[
                ("QUARKUS_DATASOURCE_JDBC_URL", "jdbc:postgresql://db:5432/app"),
                ("QUARKUS_DATASOURCE_USERNAME", "app"),
                ("QUARKUS_DATASOURCE_PASSWORD", "app"),
            ],
            (Self::Postgres, Dialect::Spring) => &[
                ("SPRING_DATASOURCE_URL", "jdbc:postgresql://db:5432/app"),
                ("SPRING_DATASOURCE_USERNAME", "app"),
                ("SPRING_DATASOURCE_PASSWORD", "app"),
            ],
            (Self::RabbitMq, Dialect::Micronaut) => &[("RABBITMQ_URI", "amqp://app:app@queue:5672")],
            (Self::RabbitMq, Dialect::Quarkus) => &[
                ("RABBITMQ_HOST", "queue"),
                ("RABBITMQ_PORT", "5672"),
                ("RABBITMQ_USERNAME", "app"),
                ("RABBITMQ_PASSWORD", "app"),
            ],
            (Self::RabbitMq, Dialect::Spring) => &[
                ("SPRING_RABBITMQ_HOST", "queue"),
                ("SPRING_RABBITMQ_USERNAME", "app"),
                ("SPRING_RABBITMQ_PASSWORD", "app"),
            ],
            (Self::RabbitMq, _) => &[("AMQP_URL", "amqp://app:app@queue:5672")],
            (Self::Redis, Dialect::Laravel) => &[("REDIS_HOST", "cache"), ("REDIS_PORT", "6379")],
            (Self::Redis, Dialect::Micronaut) => &[("REDIS_URI", "redis://cache:6379")],
            (Self::Redis, Dialect::Quarkus) => &[("QUARKUS_REDIS_HOSTS", "redis://cache:6379")],
            (Self::Redis, Dialect::Spring) => {
                &[("SPRING_DATA_REDIS_HOST", "cache"), ("SPRING_DATA_REDIS_PORT", "6379")]
            }
            (Self::Redis, _) => &[("REDIS_URL", "redis://cache:6379")],
        }
    }

    fn environment(self) -> Option<&'static str> {
        match self {
            Self::Postgres => Some("{ POSTGRES_USER: app, POSTGRES_PASSWORD: app, POSTGRES_DB: app }"),
            Self::RabbitMq => Some("{ RABBITMQ_DEFAULT_USER: app, RABBITMQ_DEFAULT_PASS: app }"),
            Self::Redis => None,
        }
    }
}

/// A word as YAML and JSON have it.
fn quoted(word: &str) -> String {
    serde_json::Value::from(word).to_string()
}

fn list(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    format!("[{}]", words.join(", "))
}

/// A list of paths, shown without quotes where they need none.
fn paths(folder: &str, paths: &[String]) -> String {
    let full = |path: &String| {
        let path = if folder.is_empty() {
            path.clone()
        } else {
            format!("{folder}/{path}")
        };
        let plain = path
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'_' | b'-'));
        if plain { path } else { quoted(&path) }
    };
    let all: Vec<String> = paths.iter().map(full).collect();
    format!("[{}]", all.join(", "))
}

fn needs(applications: &[Application]) -> BTreeSet<Need> {
    applications
        .iter()
        .flat_map(|application| application.needs.iter().copied())
        .collect()
}

/// A Compose file that Docker Compose reads as well.
pub(super) fn compose(applications: &[Application]) -> String {
    let mut out = String::new();
    line(
        &mut out,
        "# Written by `maquette init` from what the repository holds. Docker Compose reads it as well.",
    );
    line(&mut out, "services:");
    for application in applications {
        service(&mut out, application);
    }
    for need in needs(applications) {
        let (name, image) = need.described();
        line(&mut out, &format!("  {name}:"));
        line(&mut out, &format!("    image: {image}"));
        if let Some(environment) = need.environment() {
            line(
                &mut out,
                "    # In each environment it is reached by the services beside it alone.",
            );
            line(&mut out, &format!("    environment: {environment}"));
        }
    }
    out
}

fn service(out: &mut String, application: &Application) {
    let folder = if application.folder.is_empty() {
        "."
    } else {
        &format!("./{}", application.folder)
    };
    line(out, &format!("  {}: # {}", application.name, application.what));
    if application.dockerfile {
        line(out, &format!("    build: {folder}"));
    } else {
        line(out, &format!("    image: {}", application.image));
    }
    match application.mounted_at {
        _ if application.dockerfile => {}
        Some(place) => line(
            out,
            &format!("    volumes: [{}]", quoted(&format!("{folder}:{place}:ro"))),
        ),
        None => {
            line(out, &format!("    working_dir: {PLACE}"));
            line(out, &format!("    volumes: [{}]", quoted(&format!("{folder}:{PLACE}"))));
        }
    }
    if !application.command.is_empty() {
        line(out, &format!("    command: {}", list(&application.command)));
    }
    line(out, &format!("    ports: [\"{}\"]", application.port));
    let mut variables: Vec<(&str, String)> = application.environment.clone();
    for need in &application.needs {
        let told = need.variables(application.dialect).iter();
        variables.extend(told.map(|(name, value)| (*name, (*value).to_owned())));
    }
    if !variables.is_empty() {
        line(out, "    environment:");
        for (name, value) in variables {
            line(out, &format!("      {name}: {}", quoted(&value)));
        }
    }
    if !application.needs.is_empty() {
        let names: Vec<&str> = application.needs.iter().map(|need| need.described().0).collect();
        line(out, &format!("    depends_on: [{}]", names.join(", ")));
    }
}

/// What a Compose file can't say of these applications.
pub(super) fn stack(out: &mut String, tree: &dyn Tree, applications: &[Application]) {
    line(out, "  services:");
    for (index, application) in applications.iter().enumerate() {
        // The first one is what people see; the address of a further one has its name in front.
        let public = if index == 0 || application.mounted_at.is_none() {
            "true"
        } else {
            "false"
        };
        line(out, &format!("    {}:", application.name));
        line(out, &format!("      public: {public}"));
        if let Some(build) = &application.build {
            self::build(out, &application.folder, build);
        }
    }
    if needs(applications).contains(&Need::Postgres) {
        line(out, "  data:");
        line(out, "    db:");
        line(out, "      # The majors that the application works with.");
        line(out, "      versions: \"13-18\"");
        Sql::find(tree).write(out);
    }
    let engines = needs(applications);
    for (need, range) in [(Need::RabbitMq, "3-4"), (Need::Redis, "6-8")] {
        if engines.contains(&need) {
            if !engines.contains(&Need::Postgres) && (need == Need::RabbitMq || !engines.contains(&Need::RabbitMq)) {
                line(out, "  data:");
            }
            line(out, &format!("    {}: {{ versions: \"{range}\" }}", need.described().0));
        }
    }
}

fn build(out: &mut String, folder: &str, build: &Build) {
    line(out, "      build:");
    line(out, &format!("        run: {}", list(&build.run)));
    if !build.inputs.is_empty() {
        line(
            out,
            "        # It sees these files alone, and runs again when one of them changes.",
        );
        line(out, &format!("        inputs: {}", paths(folder, &build.inputs)));
    }
    if !build.outputs.is_empty() {
        line(out, &format!("        outputs: {}", paths(folder, &build.outputs)));
    }
    if !build.environment.is_empty() {
        let variables: Vec<String> = build
            .environment
            .iter()
            .map(|(name, value)| format!("{name}: {}", quoted(value)))
            .collect();
        line(out, &format!("        environment: {{ {} }}", variables.join(", ")));
    }
}

/// The words for where builds fetch their packages.
pub(super) fn packages(applications: &[Application]) -> BTreeSet<&'static str> {
    let builds = applications.iter().filter_map(|application| application.build.as_ref());
    let own = builds.filter_map(|build| build.packages);
    own.chain(
        applications
            .iter()
            .flat_map(|application| application.packages.iter().copied()),
    )
    .collect()
}
