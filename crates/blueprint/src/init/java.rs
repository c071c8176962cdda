//! Java: Maven or Gradle, with a program that one archive holds: Spring Boot, Quarkus, Micronaut, or none of them.

use super::detect::{Application, Build, Dialect, Folder, needs, port_in, shell, words};

/// The release of Java that is written where the repository names none.
const VERSION: u32 = 21;
const PORT: u16 = 8080;

pub(super) fn find(folder: &Folder<'_>) -> Option<Application> {
    let maven = folder.text("pom.xml");
    let gradle = || folder.text("build.gradle").or_else(|| folder.text("build.gradle.kts"));
    let (text, is_maven) = match maven {
        Some(text) => (text, true),
        None => (gradle()?, false),
    };
    let version = [
        "<java.version>",
        "<maven.compiler.release>",
        "languageVersion = JavaLanguageVersion.of(",
    ]
    .iter()
    .find_map(|mark| super::detect::major(text.split_once(mark)?.1.get(..4)?))
    .unwrap_or(VERSION);
    let (image, tool, archives) = if is_maven {
        let tool = words(&["mvn", "-B", "-DskipTests", "package"]);
        (format!("maven:3-eclipse-temurin-{version}"), tool, "target")
    } else {
        let tool = words(&["gradle", "--no-daemon", "assemble"]);
        (format!("gradle:8-jdk{version}"), tool, "build/libs")
    };
    let dialect = dialect(&text);
    let port = port(folder).unwrap_or(PORT);
    let mut found = folder.application(kind(dialect), image, port);
    found.dialect = dialect;
    found.command = match dialect {
        Dialect::Quarkus => {
            let place = if is_maven { "target" } else { "build" };
            words(&["java", "-jar", &format!("{place}/quarkus-app/quarkus-run.jar")])
        }
        // Beside the archive that runs there may be one of the sources, and one without what it needs.
        _ => shell(&format!(
            "exec java -jar \"$(ls {archives}/*.jar | grep -v -e plain -e sources -e javadoc -e original | head -n 1)\""
        )),
    };
    let variable = match dialect {
        Dialect::Quarkus => "QUARKUS_HTTP_PORT",
        Dialect::Micronaut => "MICRONAUT_SERVER_PORT",
        Dialect::Spring => "SERVER_PORT",
        _ => "PORT",
    };
    found.environment = vec![(variable, port.to_string())];
    let names = text.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '.')));
    found.needs = needs(names);
    found.build = Some(Build {
        run: tool,
        inputs: Vec::new(),
        outputs: words(&[if dialect == Dialect::Quarkus {
            archives.split('/').next().unwrap_or(archives)
        } else {
            archives
        }]),
        environment: Vec::new(),
        packages: Some("maven"),
    });
    Some(found)
}

fn kind(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Micronaut => "a Micronaut application",
        Dialect::Quarkus => "a Quarkus application",
        Dialect::Spring => "a Spring Boot application",
        _ => "a Java program",
    }
}

/// By what the build names: plugins and dependencies have their framework's name in front.
fn dialect(build: &str) -> Dialect {
    let marks = [
        ("spring-boot", Dialect::Spring),
        ("org.springframework.boot", Dialect::Spring),
        ("io.quarkus", Dialect::Quarkus),
        ("io.micronaut", Dialect::Micronaut),
    ];
    let found = marks.iter().find(|(mark, _)| build.contains(mark));
    found.map_or(Dialect::Jdbc, |(_, dialect)| *dialect)
}

/// The port that the program's settings name.
fn port(folder: &Folder<'_>) -> Option<u16> {
    let named = |name: &str| folder.text(&format!("src/main/resources/{name}"));
    if let Some(text) = named("application.properties") {
        let keys = ["server.port", "quarkus.http.port", "micronaut.server.port"];
        let value = |line: &str| {
            let (key, value) = line.split_once(['=', ':'])?;
            keys.contains(&key.trim()).then(|| number(value)).flatten()
        };
        return text.lines().find_map(value).or_else(|| port_in(&text));
    }
    let text = named("application.yml").or_else(|| named("application.yaml"))?;
    port_in_yaml(&text)
}

/// `port` below `server`, or below `http` of Quarkus.
fn port_in_yaml(text: &str) -> Option<u16> {
    let mut above = "";
    text.lines().find_map(|line| {
        let (key, value) = line.trim().split_once(':')?;
        if matches!(key, "server" | "http") {
            above = key;
        } else if !line.starts_with(' ') {
            above = "";
        }
        (key == "port" && !above.is_empty()).then(|| number(value)).flatten()
    })
}

/// `8085`, or what stands for it unless a variable says otherwise: `${PORT:8085}`.
fn number(value: &str) -> Option<u16> {
    let value = value.trim();
    let plain = match value.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) {
        Some(inside) => inside.split_once(':')?.1,
        None => value,
    };
    plain.trim_matches('"').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_those_of_the_server() {
        let spring = "spring:\n  data:\n    redis:\n      port: 6379\nserver:\n  # ours\n  port: ${PORT:8085}\n";
        assert_eq!(port_in_yaml(spring), Some(8085));
        assert_eq!(port_in_yaml("quarkus:\n  http:\n    port: 8181\n"), Some(8181));
        assert_eq!(port_in_yaml("mail:\n  port: 25\n"), None);
        assert_eq!((number(" 80"), number("${PORT}"), number("x")), (Some(80), None, None));
    }
}
