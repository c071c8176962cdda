//! Ruby: `Gemfile`; Rails, and whatever Rack runs.

use super::detect::{Application, Build, Folder, minor, needs, words};

/// The release line that is written where the repository names none.
const VERSION: &str = "3.4";

pub(super) fn find(folder: &Folder<'_>) -> Option<Application> {
    let gemfile = folder.text("Gemfile")?;
    let gems = gemfile.lines().filter_map(|line| {
        let rest = line.trim().strip_prefix("gem ")?.trim();
        rest.trim_start_matches(['"', '\'']).split(['"', '\'']).next()
    });
    let gems: Vec<&str> = gems.collect();
    let (what, command, port) = if folder.has("config/application.rb") {
        let command = ["bin/rails", "server", "-b", "0.0.0.0", "-p", "3000"];
        ("a Rails application", words(&command), 3000)
    } else if folder.has("config.ru") {
        let command = ["bundle", "exec", "rackup", "-o", "0.0.0.0", "-p", "9292"];
        ("a Rack application", words(&command), 9292)
    } else {
        let main = folder.first(&["app.rb", "server.rb", "main.rb"])?;
        ("a Ruby program", words(&["bundle", "exec", "ruby", main]), 4567)
    };
    let named = gemfile.lines().find_map(|line| line.trim().strip_prefix("ruby "));
    let file = folder.text(".ruby-version");
    let version = file
        .as_deref()
        .or(named)
        .and_then(minor)
        .unwrap_or_else(|| VERSION.to_owned());
    let mut found = folder.application(what, format!("ruby:{version}"), port);
    found.command = command;
    found.environment = vec![("PORT", port.to_string()), ("BUNDLE_PATH", "vendor/bundle".to_owned())];
    found.needs = needs(gems);
    let mut inputs = words(&["Gemfile"]);
    let more = ["Gemfile.lock", ".ruby-version"];
    inputs.extend(
        more.iter()
            .filter(|path| folder.has(path))
            .map(|path| (*path).to_owned()),
    );
    inputs.extend(folders(folder, &gemfile));
    found.build = Some(Build {
        run: words(&["bundle", "install"]),
        inputs,
        outputs: words(&["vendor/bundle"]),
        environment: vec![("BUNDLE_PATH", "vendor/bundle".to_owned())],
        packages: Some("rubygems"),
    });
    Some(found)
}

/// The folders of the repository that hold gems themselves: `gem "x", path: "lib/x"`.
fn folders(folder: &Folder<'_>, gemfile: &str) -> Vec<String> {
    let named = gemfile.lines().filter_map(|line| {
        let line = line.trim();
        let rest = line.strip_prefix("gem ").or_else(|| line.strip_prefix("path "))?;
        let quoted = match line.starts_with("path ") {
            true => rest,
            false => rest.split_once("path:").or_else(|| rest.split_once(":path =>"))?.1,
        };
        let path = quoted
            .trim_start()
            .trim_start_matches(['"', '\''])
            .split(['"', '\''])
            .next()?;
        let path = path.trim_start_matches("./").trim_end_matches('/');
        folder.has_folder(path).then(|| path.to_owned())
    });
    named.collect()
}
