//! Java: Maven or Gradle, with a program that one archive holds.

use super::detect::{Application, Build, Folder, needs, port_in, shell, words};

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
    let settings = folder
        .text("src/main/resources/application.properties")
        .unwrap_or_default();
    let port = settings.lines().find_map(|line| {
        line.trim()
            .strip_prefix("server.port")?
            .trim_start_matches(['=', ' '])
            .parse()
            .ok()
    });
    let port = port.or_else(|| port_in(&settings)).unwrap_or(PORT);
    let mut found = folder.application("a Java program", image, port);
    // Beside the archive that runs there may be one of the sources, and one without what it needs.
    found.command = shell(&format!(
        "exec java -jar \"$(ls {archives}/*.jar | grep -v -e plain -e sources -e javadoc -e original | head -n 1)\""
    ));
    found.environment = vec![("SERVER_PORT", port.to_string())];
    let names = text.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '.')));
    found.needs = needs(names);
    found.build = Some(Build {
        run: tool,
        inputs: Vec::new(),
        outputs: words(&[archives]),
        environment: Vec::new(),
        packages: Some("maven"),
    });
    Some(found)
}
