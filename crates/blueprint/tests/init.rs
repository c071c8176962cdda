//! What `init` writes for repositories without a Compose file, one of each kind.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that can not go on fails"
)]

mod support;

use blueprint::{Blueprint, MemoryTree};
use model::{Capabilities, Feature, Root};
use support::{cell, context};

/// Runs images and engines, and builds in checkouts.
fn runtime() -> Capabilities {
    Capabilities {
        images: true,
        features: [Feature::NativeBuilds].into(),
        ..cell()
    }
}

fn written(files: &[(&str, &str)]) -> (MemoryTree, String) {
    let tree = MemoryTree::new(files.iter().copied());
    let mut with = tree.clone();
    let mut text = String::new();
    for file in blueprint::init(&tree) {
        with = with.with(file.path, file.text.as_bytes());
        text += &format!("--- {} {}\n{}", file.path, file.found.join(", "), file.text);
    }
    (with, text)
}

/// The text that `init` writes is read without a problem and gives a service that people can visit.
fn read(files: &[(&str, &str)]) -> (Blueprint, String) {
    let (tree, text) = written(files);
    let blueprint = Blueprint::read(&tree, Some(&tree), &context(), &runtime());
    let blueprint = blueprint.unwrap_or_else(|problems| panic!("{problems}\n{text}"));
    let warnings: Vec<String> = blueprint.warnings.iter().map(ToString::to_string).collect();
    assert!(warnings.is_empty(), "{warnings:#?}\n{text}");
    assert!(!blueprint.public.is_empty(), "nobody can visit anything\n{text}");
    // What is the same for all of them is left out.
    let same = [
        "# maquette.yaml:",
        "# `maquette check`",
        "  triggers:",
        "  baseline:",
        "  limits:",
    ];
    let shown = text
        .lines()
        .filter(|line| !same.iter().any(|start| line.starts_with(start)));
    let shown: Vec<&str> = shown.collect();
    (blueprint, shown.join("\n"))
}

fn command(blueprint: &Blueprint, service: &str) -> String {
    let workload = &blueprint.stack.services[&service.parse().unwrap()].workload;
    workload.command.clone().unwrap_or_default().join(" ")
}

#[test]
fn node_with_npm() {
    let package = r#"{
        "engines": { "node": ">=20.4" },
        "scripts": { "start": "node src/server.js", "test": "node --test" },
        "main": "src/server.js",
        "dependencies": { "express": "^5", "pg": "^8", "ioredis": "^5" }
    }"#;
    let files = [
        ("package.json", package),
        ("package-lock.json", "{}"),
        ("src/server.js", "app.listen(4000, () => {})"),
        ("db/migrations/001_init.sql", "create table t ();"),
    ];
    let (blueprint, text) = read(&files);
    insta::assert_snapshot!(text);
    assert!(blueprint.stack.data.contains_key(&"db".parse().unwrap()));
}

#[test]
fn node_that_builds_its_pages_sees_the_whole_commit() {
    let package = r#"{
        "scripts": { "build": "next build", "start": "next start" },
        "dependencies": { "next": "15" },
        "packageManager": "pnpm@9"
    }"#;
    let (blueprint, text) = read(&[
        ("package.json", package),
        ("pnpm-lock.yaml", ""),
        (".nvmrc", "v22.3.0\n"),
    ]);
    insta::assert_snapshot!(text);
    let job = &blueprint.stack.jobs[&"build-web".parse().unwrap()];
    assert_eq!(job.product.as_ref().unwrap().inputs, None);
}

#[test]
fn python_with_each_framework() {
    let fastapi = [
        (
            "requirements.txt",
            "fastapi==0.115\nuvicorn[standard]\npsycopg2-binary>=2.9\n# comment\n",
        ),
        (
            "app/main.py",
            "from fastapi import FastAPI\n\napi: FastAPI = FastAPI(title=\"x\")\n",
        ),
        (".python-version", "3.12.4\n"),
    ];
    let (_, text) = read(&fastapi);
    insta::assert_snapshot!(text);
    let flask = [
        ("requirements.txt", "Flask\nredis\n"),
        ("app.py", "import flask\napp = flask.Flask(__name__)\n"),
    ];
    let (blueprint, _) = read(&flask);
    assert_eq!(
        command(&blueprint, "web"),
        ".venv/bin/flask --app app:app run --host 0.0.0.0 --port 8000"
    );
    let project = "[project]\nname = \"x\"\nrequires-python = \">=3.11\"\ndependencies = [\"django>=5\"]\n";
    let (blueprint, text) = read(&[("pyproject.toml", project), ("uv.lock", ""), ("manage.py", "")]);
    assert_eq!(
        command(&blueprint, "web"),
        ".venv/bin/python manage.py runserver 0.0.0.0:8000"
    );
    assert!(text.contains("python:3.11-slim") && text.contains("uv sync"), "{text}");
}

#[test]
fn ruby_on_rails() {
    let gemfile =
        "source \"https://rubygems.example\"\nruby \"3.3.1\"\ngem \"rails\", \"~> 8.0\"\ngem 'pg'\ngem 'sidekiq'\n";
    let files = [
        ("Gemfile", gemfile),
        ("Gemfile.lock", ""),
        ("config/application.rb", ""),
        ("bin/rails", ""),
    ];
    insta::assert_snapshot!(read(&files).1);
}

#[test]
fn go() {
    let module = "module example.com/shop\n\ngo 1.24.1\n\nrequire (\n\tgithub.com/jackc/pgx/v5 v5.7.1\n)\n";
    let main = "package main\n\nfunc main() { http.ListenAndServe(\":9000\", nil) }\n";
    insta::assert_snapshot!(read(&[("go.mod", module), ("cmd/shop/main.go", main)]).1);
}

#[test]
fn rust() {
    let manifest = "[package]\nname = \"shop\"\nedition = \"2024\"\nrust-version = \"1.89\"\n\n[dependencies]\n\
                    axum = \"0.8\"\nsqlx = { version = \"0.8\", features = [\"postgres\"] }\n";
    let main = "fn main() { bind(\"0.0.0.0:7000\") }";
    insta::assert_snapshot!(read(&[("Cargo.toml", manifest), ("src/main.rs", main)]).1);
}

#[test]
fn php_with_composer() {
    let package = r#"{ "require": { "php": ">=8.2", "slim/slim": "4.*", "predis/predis": "^2" } }"#;
    let files = [
        ("composer.json", package),
        ("composer.lock", "{}"),
        ("public/index.php", "<?php"),
    ];
    insta::assert_snapshot!(read(&files).1);
}

#[test]
fn java_with_maven_and_gradle() {
    let pom = "<project><parent><groupId>org.springframework.boot</groupId><artifactId>spring-boot-starter-parent</artifactId></parent>\
               <properties><java.version>17</java.version></properties><dependencies><dependency>\
               <groupId>org.postgresql</groupId><artifactId>postgresql</artifactId></dependency><dependency>\
               <artifactId>spring-boot-starter-data-redis</artifactId></dependency></dependencies></project>";
    let properties = "spring.application.name=shop\nserver.port=8085\n";
    let files = [
        ("pom.xml", pom),
        ("src/main/resources/application.properties", properties),
        // Flyway's: the program runs them itself.
        (
            "src/main/resources/db/migration/V1__prices.sql",
            "create table prices ();",
        ),
    ];
    insta::assert_snapshot!(read(&files).1);
    let (blueprint, text) = read(&[("build.gradle.kts", "plugins { id(\"org.springframework.boot\") }")]);
    assert!(text.contains("gradle:8-jdk21"), "{text}");
    assert!(command(&blueprint, "web").contains("build/libs"), "{text}");
}

/// The variables by which `web` is told where its engines are, as `init` writes them for these files.
fn told(files: &[(&str, &str)]) -> Vec<String> {
    let (blueprint, _) = read(files);
    let web = &blueprint.stack.services[&"web".parse().unwrap()].workload;
    let own = web
        .environment
        .iter()
        .filter(|(name, _)| !name.starts_with("MAQUETTE_"));
    own.map(|(name, value)| format!("{name}={}", value.plain().unwrap_or("a secret")))
        .collect()
}

#[test]
fn a_program_in_java_is_told_of_its_database_as_its_framework_wants_it() {
    let gradle = |with: &str| format!("plugins {{ id('java') }}\ndependencies {{ {with} }}\n");
    let jdbc = "implementation 'org.postgresql:postgresql:42.7.4'";
    assert_eq!(
        told(&[("build.gradle", &gradle(jdbc))]),
        [
            "JDBC_DATABASE_PASSWORD=app",
            "JDBC_DATABASE_URL=jdbc:postgresql://db:5432/app",
            "JDBC_DATABASE_USERNAME=app",
            "PORT=8080"
        ]
    );
    let spring = gradle(&format!(
        "implementation 'org.springframework.boot:spring-boot-starter-web'; {jdbc}"
    ));
    let settings = "server:\n  port: ${PORT:9090}\n";
    let wanted = [
        "SERVER_PORT=9090",
        "SPRING_DATASOURCE_PASSWORD=app",
        "SPRING_DATASOURCE_URL=jdbc:postgresql://db:5432/app",
        "SPRING_DATASOURCE_USERNAME=app",
    ];
    let files = [
        ("build.gradle", spring.as_str()),
        ("src/main/resources/application.yml", settings),
    ];
    assert_eq!(told(&files), wanted);
    // A Dockerfile says how it is built and run, and nothing of its database.
    let image = [files[0], ("Dockerfile", "FROM eclipse-temurin:21\nEXPOSE 9090\n")];
    let (_, text) = written(&image);
    assert!(
        text.contains("build: .") && text.contains("SPRING_DATASOURCE_URL"),
        "{text}"
    );
    let quarkus = gradle("implementation 'io.quarkus:quarkus-jdbc-postgresql'");
    let (blueprint, text) = read(&[("build.gradle", &quarkus)]);
    assert_eq!(
        command(&blueprint, "web"),
        "java -jar build/quarkus-app/quarkus-run.jar"
    );
    assert!(
        text.contains("QUARKUS_DATASOURCE_JDBC_URL") && text.contains("QUARKUS_HTTP_PORT"),
        "{text}"
    );
    let micronaut = gradle(&format!(
        "implementation 'io.micronaut:micronaut-http-server-netty'; {jdbc}"
    ));
    assert!(told(&[("build.gradle", &micronaut)]).contains(&"DATASOURCES_DEFAULT_USERNAME=app".to_owned()));
}

#[test]
fn laravel_is_told_of_its_engines_in_its_own_words() {
    let package = r#"{ "require": { "php": "^8.2", "laravel/framework": "^12.0" } }"#;
    let example = "APP_KEY=\nDB_CONNECTION=pgsql\nDB_HOST=127.0.0.1\nCACHE_STORE=redis\n";
    let files = [
        ("composer.json", package),
        ("composer.lock", "{}"),
        ("artisan", "#!/usr/bin/env php"),
        (".env.example", example),
    ];
    insta::assert_snapshot!(read(&files).1);
}

#[test]
fn static_pages() {
    let (blueprint, text) = read(&[("public/index.html", "<html>"), ("README.md", "")]);
    insta::assert_snapshot!(text);
    assert!(blueprint.stack.jobs.is_empty());
    let root = &blueprint.stack.services[&"web".parse().unwrap()].workload.root;
    assert!(matches!(root, Root::Image { .. }), "{root:?}");
}

#[test]
fn one_application_in_each_folder() {
    let package = r#"{ "scripts": { "start": "node index.js" }, "dependencies": { "express": "5" } }"#;
    let files = [
        ("frontend/package.json", package),
        ("frontend/package-lock.json", "{}"),
        ("api/go.mod", "module x\n\ngo 1.25\n"),
        ("api/main.go", "package main"),
        ("docs/index.html", ""),
        (".github/workflows/ci.yaml", ""),
    ];
    insta::assert_snapshot!(read(&files).1);
}

#[test]
fn what_is_not_understood_is_left_to_its_author() {
    for files in [
        &[][..],
        &[("package.json", "{")],
        &[("package.json", "{ \"name\": \"a-library\" }")],
        &[("Cargo.toml", "[package]\nname = \"a-library\"\n"), ("src/lib.rs", "")],
        &[("requirements.txt", "flask\n"), ("a.py", "")],
        &[("src/a b/package.json", "{}"), ("x.toml", "[")],
    ] {
        let (tree, text) = written(files);
        assert!(text.starts_with("--- maquette.yaml"), "{text}");
        assert!(blueprint::Policy::read(&tree).is_ok(), "{text}");
    }
}
