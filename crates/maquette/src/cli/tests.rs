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
