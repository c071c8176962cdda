//! What `--help` tells.

use super::Cli;
use clap::{CommandFactory, Parser};

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn help_is_as_documented() {
    let mut command = Cli::command();
    command.build();
    let mut text = command.render_long_help().to_string();
    let names: Vec<String> = command
        .get_subcommands()
        .filter(|command| !command.is_hide_set() && command.get_name() != "help")
        .map(|command| command.get_name().to_owned())
        .collect();
    for name in names {
        let help = command.find_subcommand_mut(&name).map(|command| {
            // What every command has is told once, above.
            let own = command
                .clone()
                .mut_args(|arg| if arg.is_global_set() { arg.hide(true) } else { arg });
            own.clone().render_help().to_string()
        });
        text += &format!("\n===== maquette {name}\n{}", help.unwrap_or_default());
    }
    insta::assert_snapshot!("help", text);
}

#[test]
fn a_command_after_its_service_keeps_its_own_options() {
    let cli = Cli::try_parse_from(["maquette", "exec", "pr-1", "web", "ls", "-l", "--json"]).unwrap();
    let super::Command::Remote(super::Remote::Exec(args)) = cli.command else {
        panic!("no exec")
    };
    assert_eq!(args.command, ["ls", "-l", "--json"]);
    assert!(!cli.connection.json);
}

#[test]
fn a_commit_must_be_whole_and_a_branch_valid() {
    assert!(Cli::try_parse_from(["maquette", "deploy", "pr-1", "--commit", "abc"]).is_err());
    assert!(Cli::try_parse_from(["maquette", "create", "--branch", "a..b"]).is_err());
}

/// The units of `deploy/systemd` by their names.
fn units() -> Vec<(String, String)> {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/systemd");
    let entries = std::fs::read_dir(directory).unwrap().flatten();
    let mut units: Vec<_> = entries
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(entry.path()).unwrap())
        })
        .collect();
    units.sort();
    units
}

#[test]
fn units_start_what_there_is_and_only_one_of_them_is_root() {
    let units = units();
    let mut commands = Vec::new();
    for (name, text) in &units {
        let setting = |key: &str| text.lines().find_map(|line| line.strip_prefix(&format!("{key}=")));
        let words: Vec<&str> = setting("ExecStart").unwrap().split(' ').collect();
        let cli = Cli::try_parse_from(&words).unwrap_or_else(|error| panic!("{name}: {error}"));
        let root = setting("User").is_none();
        match cli.command {
            super::Command::CellHost(args) => {
                assert!(
                    root && !args.keep && !args.door,
                    "systemd starts it, and the door, again"
                );
                assert_eq!(setting("KillMode"), Some("process"), "containers outlive it");
                assert_eq!(setting("Delegate"), Some("yes"));
            }
            super::Command::Serve(args) => assert!(!root && args.alone, "the others are units of their own"),
            super::Command::Gateway(_) | super::Command::Door(_) => assert!(!root),
            other => panic!("{name}: {other:?}"),
        }
        if !root {
            assert_eq!(setting("NoNewPrivileges"), Some("yes"), "{name}");
            assert_eq!(setting("ProtectSystem"), Some("strict"), "{name}");
        }
        assert_eq!(
            setting("Restart"),
            Some("on-failure"),
            "{name}: `maquette stop` ends it"
        );
        commands.push(words[1].to_owned());
    }
    assert_eq!(commands, ["cell-host", "door", "gateway", "serve"]);
}
