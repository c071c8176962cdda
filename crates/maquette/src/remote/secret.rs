//! `maquette secret`: values go to the server and never come back.

use super::{Session, now};
use crate::{
    cli::{SecretCommand, SecretListArgs, SecretRemoveArgs, SecretSetArgs},
    client::segment,
    exit::Failure,
    render, screen,
};
use api::{SecretList, SecretView};
use model::ProjectName;
use rustix::termios::{LocalModes, OptionalActions, Termios, isatty, tcgetattr, tcsetattr};
use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, IsTerminal as _, Read, Write as _},
    path::Path,
};
use zeroize::Zeroizing;

/// The most bytes of a value; the server has the same bound.
const VALUE_MAX: usize = 1 << 20;

pub(super) async fn run(session: &Session, command: SecretCommand) -> Result<(), Failure> {
    match command {
        SecretCommand::Set(args) => set(session, &args, false).await,
        SecretCommand::Rotate(args) => set(session, &args, true).await,
        SecretCommand::List(args) => list(session, &args).await,
        SecretCommand::Remove(args) => remove(session, &args).await,
    }
}

fn path(project: &ProjectName, name: &str) -> String {
    format!("/projects/{project}/secrets/{}", segment(name))
}

async fn set(session: &Session, args: &SecretSetArgs, existing: bool) -> Result<(), Failure> {
    if args.name.contains('=') {
        return Err(
            Failure::new(2, "a value is no argument: everybody on this machine would see it")
                .hint("give the name alone; the value is asked for, or read from standard input or --from-file"),
        );
    }
    let project = session.project(args.project.as_ref()).await?;
    let value = match &args.from_file {
        Some(file) => of_file(file)?,
        None => of_input(&args.name)?,
    };
    let path = format!(
        "{}?existing={existing}&insist={}",
        path(&project, &args.name),
        args.insist
    );
    let view: SecretView = screen::while_doing("setting", session.api.put(&path, value)).await?;
    session.answer(&view, render::secret_set)
}

async fn list(session: &Session, args: &SecretListArgs) -> Result<(), Failure> {
    let project = session.project(args.project.as_ref()).await?;
    let path = format!("/projects/{project}/secrets");
    let list: SecretList = screen::while_doing("asking", session.api.get(&path)).await?;
    session.answer(&list, |list| render::secrets(&list.secrets, now()))
}

async fn remove(session: &Session, args: &SecretRemoveArgs) -> Result<(), Failure> {
    let project = session.project(args.project.as_ref()).await?;
    if !args.yes {
        let path = format!("/projects/{project}/secrets");
        let list: SecretList = screen::while_doing("asking", session.api.get(&path)).await?;
        let found = list.secrets.iter().find(|secret| secret.name == args.name);
        if let Some(secret) = found.filter(|secret| !secret.used_by.is_empty()) {
            let users = render::secret_users(secret);
            return Err(Failure::new(6, format!("{} is given to {users}", secret.name))
                .hint("say --yes; they go on without it, or fail if they need it"));
        }
    }
    let view: SecretView = screen::while_doing("removing", session.api.delete(&path(&project, &args.name))).await?;
    session.answer(&view, |view| format!("{} is removed\n", view.name))
}

/// Every byte of a file.
fn of_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let unreadable = |error: io::Error| Failure::new(1, format!("{} can not be read: {error}", path.display()));
    let file = File::open(path).map_err(unreadable)?;
    if fs::metadata(path).is_ok_and(|found| found.is_dir()) {
        return Err(Failure::new(1, format!("{} is a directory", path.display())));
    }
    bounded(file).map_err(unreadable)?.ok_or_else(too_long)
}

/// What somebody types at a terminal, or what a program writes.
fn of_input(name: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let unreadable = |error: io::Error| Failure::new(1, format!("the value can not be read: {error}"));
    let value = if io::stdin().is_terminal() {
        asked(name).map_err(unreadable)?
    } else {
        bounded(io::stdin().lock()).map_err(unreadable)?.ok_or_else(too_long)?
    };
    Ok(without_newline(value))
}

fn too_long() -> Failure {
    Failure::new(
        1,
        format!("a secret holds at most {VALUE_MAX} bytes, and this one has more"),
    )
}

/// All that there is, if it is not too long.
fn bounded(from: impl Read) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let mut value = Zeroizing::new(Vec::with_capacity(VALUE_MAX + 1));
    from.take(VALUE_MAX as u64 + 1).read_to_end(&mut value)?;
    Ok((value.len() <= VALUE_MAX).then_some(value))
}

/// What `echo` adds.
fn without_newline(mut value: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    if value.last() == Some(&b'\n') {
        value.pop();
        if value.last() == Some(&b'\r') {
            value.pop();
        }
    }
    value
}

/// Asks at the terminal, which shows nothing of the answer.
fn asked(name: &str) -> io::Result<Zeroizing<Vec<u8>>> {
    let quiet = Quiet::new()?;
    write!(io::stderr(), "Value of {name} (not shown): ")?;
    io::stderr().flush()?;
    let mut line = Zeroizing::new(Vec::with_capacity(4096));
    BufReader::new(io::stdin().lock().take(VALUE_MAX as u64)).read_until(b'\n', &mut line)?;
    drop(quiet);
    writeln!(io::stderr())?;
    Ok(line)
}

/// A terminal that does not echo, until this is dropped.
struct Quiet(Termios);

impl Quiet {
    fn new() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut quiet = before.clone();
        quiet.local_modes -= LocalModes::ECHO;
        tcsetattr(io::stdin(), OptionalActions::Flush, &quiet)?;
        Ok(Self(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        if isatty(io::stdin()) {
            // Whoever has closed the terminal meanwhile needs no echo.
            let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_newline_at_the_end_is_not_part_of_what_is_typed() {
        let of = |bytes: &[u8]| without_newline(bytes.to_vec().into()).to_vec();
        assert_eq!(of(b"x\n"), b"x");
        assert_eq!(of(b"x\r\n"), b"x");
        assert_eq!(of(b"x\n\n"), b"x\n");
        assert_eq!(of(b"x"), b"x");
    }

    #[test]
    fn a_value_is_bounded_before_it_is_sent() {
        assert!(bounded(&vec![0; VALUE_MAX][..]).unwrap().is_some());
        assert!(bounded(&vec![0; VALUE_MAX + 1][..]).unwrap().is_none());
    }
}
