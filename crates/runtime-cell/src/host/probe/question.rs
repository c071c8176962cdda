//! Health checks that are a question by HTTP to the container itself, as `curl -f http://localhost:8080/health` is.
//!
//! The host asks it without starting a process, which costs as much as many services' own start. Only a yes counts: whoever gets
//! anything else has the command itself decide, which may see more than is seen from outside. A command that is not understood to the
//! last word is no question.

use rustix::net::Shutdown;
use std::{io, os::fd::OwnedFd, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// How long an answer is waited for, if the check itself has more patience.
const PATIENCE: Duration = Duration::from_secs(2);
/// `HTTP/1.1 200`.
const STATUS_LENGTH: usize = 12;
/// What a service may say after its status, and how long it may take for it.
const REST_MAX: u64 = 64 << 10;
const REST: Duration = Duration::from_secs(1);
const TARGET_MAX: usize = 1024;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    method: &'static str,
    /// As the command would name it.
    host: String,
    pub(super) port: u16,
    /// Path and query.
    target: String,
    takes: Takes,
}

/// The answers that the command takes for well without doing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    /// Any: `curl` without `--fail`.
    Any,
    /// Those that are no error: `curl --fail`.
    NoError,
    /// Success: whoever follows redirections would do more.
    Success,
}

impl Takes {
    fn take(self, status: u16) -> bool {
        match self {
            Self::Any => true,
            Self::NoError => (200..400).contains(&status),
            Self::Success => (200..300).contains(&status),
        }
    }
}

impl Question {
    /// What a command asks, if that is all that it does.
    pub(super) fn of(argv: &[String]) -> Option<Self> {
        let shell = matches!(argv, [shell, option, _] if option == "-c" && matches!(shell.as_str(), "sh" | "/bin/sh" | "bash" | "/bin/bash"));
        let words = match argv {
            [_, _, text] if shell => split(text)?,
            _ => argv.to_vec(),
        };
        let (program, arguments) = words.split_first()?;
        match program.rsplit('/').next()? {
            "curl" => curl(arguments),
            "wget" => wget(arguments),
            _ => None,
        }
    }

    /// Asks over a connection to the container; whether the command would take the answer for well.
    pub(super) async fn ask(&self, connection: OwnedFd, patience: Duration) -> bool {
        let asked = timeout(patience.min(PATIENCE), self.status(connection)).await;
        matches!(asked, Ok(Ok(Some(status))) if self.takes.take(status))
    }

    async fn status(&self, connection: OwnedFd) -> io::Result<Option<u16>> {
        let mut stream = TcpStream::from_std(std::net::TcpStream::from(connection))?;
        let Self {
            method, host, target, ..
        } = self;
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: maquette\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut line = [0; STATUS_LENGTH];
        stream.read_exact(&mut line).await?;
        // A service that is cut off in the middle of its answer would complain about it in its log.
        tokio::spawn(async move {
            let mut rest = stream.take(REST_MAX);
            let _ = timeout(REST, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
            let _ = rustix::net::shutdown(rest.get_ref(), Shutdown::Both);
        });
        let text = std::str::from_utf8(&line).unwrap_or_default();
        let status = text.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5));
        Ok(status.and_then(|status| status.parse().ok()))
    }
}

/// The words of a command line that a shell would take as they are, whose failure may be turned into another status.
fn split(text: &str) -> Option<Vec<String>> {
    let command = match text.split_once("||") {
        None => text,
        Some((command, "")) => command,
        Some((command, rest)) => match rest.split_whitespace().collect::<Vec<_>>().as_slice() {
            ["false"] | ["exit", "1"] => command,
            _ => return None,
        },
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    // Inside of quotes a few more mean themselves. A blank is not among them: words end there.
    let quoted = |c: char| plain(c) || "?&;~".contains(c);
    let word = |word: &str| {
        let inner = ['"', '\'']
            .into_iter()
            .find_map(|quote| word.strip_prefix(quote)?.strip_suffix(quote));
        match inner {
            Some(inner) => inner.chars().all(quoted).then(|| inner.to_owned()),
            None => word.chars().all(plain).then(|| word.to_owned()),
        }
    };
    command.split_whitespace().map(word).collect()
}

fn curl(arguments: &[String]) -> Option<Question> {
    let (mut url, mut method, mut fail, mut follow) = (None, "GET", false, false);
    let mut rest = arguments.iter().map(String::as_str);
    while let Some(argument) = rest.next() {
        match argument {
            "--silent" | "--show-error" => {}
            "--fail" => fail = true,
            "--location" => follow = true,
            "--head" => method = "HEAD",
            "-o" | "--output" => (rest.next()? == "/dev/null").then_some(())?,
            "-m" | "--max-time" | "--connect-timeout" => drop(rest.next()?.parse::<f64>().ok()?),
            flags if flags.starts_with('-') => {
                for flag in flags.strip_prefix('-')?.chars() {
                    match flag {
                        's' | 'S' => {}
                        'f' => fail = true,
                        'L' => follow = true,
                        'I' => method = "HEAD",
                        _ => return None,
                    }
                }
            }
            place => only(&mut url, place)?,
        }
    }
    let takes = match (follow, fail) {
        (true, _) => Takes::Success,
        (false, true) => Takes::NoError,
        (false, false) => Takes::Any,
    };
    question(url?, method, takes)
}

fn wget(arguments: &[String]) -> Option<Question> {
    let (mut url, mut method, mut quiet) = (None, "GET", false);
    let mut rest = arguments.iter().map(String::as_str);
    let nowhere = |place: &str| matches!(place, "-" | "/dev/null").then_some(());
    while let Some(argument) = rest.next() {
        match argument {
            "-q" | "--quiet" | "-nv" | "--no-verbose" => {}
            "--spider" => (method, quiet) = ("HEAD", true),
            "-O" | "-qO" => {
                nowhere(rest.next()?)?;
                quiet = true;
            }
            "-T" | "-t" => drop(rest.next()?.parse::<u32>().ok()?),
            long if long.starts_with("--") => {
                let (name, value) = long.split_once('=')?;
                match name {
                    "--tries" | "--timeout" => drop(value.parse::<u32>().ok()?),
                    "--output-document" => {
                        nowhere(value)?;
                        quiet = true;
                    }
                    _ => return None,
                }
            }
            short if short.starts_with('-') => {
                let place = short.strip_prefix("-O").or_else(|| short.strip_prefix("-qO"))?;
                nowhere(place)?;
                quiet = true;
            }
            place => only(&mut url, place)?,
        }
    }
    // Else it leaves a file.
    question(url.filter(|_| quiet)?, method, Takes::Success)
}

fn only<'a>(url: &mut Option<&'a str>, place: &'a str) -> Option<()> {
    url.replace(place).is_none().then_some(())
}

/// A question to the container itself.
fn question(url: &str, method: &'static str, takes: Takes) -> Option<Question> {
    // What stands in braces or brackets is more than one address to curl.
    let plain = |c: char| c.is_ascii_graphic() && !"#@\\{}[]<>\"^`|".contains(c);
    if url.len() > TARGET_MAX || !url.chars().all(plain) {
        return None;
    }
    let rest = url.strip_prefix("http://").unwrap_or(url);
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, target) = rest.split_at_checked(at)?;
    let (name, port) = match host.split_once(':') {
        Some((name, port)) => (name, port.parse().ok().filter(|port| *port > 0)?),
        None => (host, 80),
    };
    if !matches!(name, "localhost" | "127.0.0.1" | "0.0.0.0") {
        return None;
    }
    let slash = if target.starts_with('/') { "" } else { "/" };
    Some(Question {
        method,
        host: host.to_owned(),
        port,
        target: format!("{slash}{target}"),
        takes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Option<Question> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        Question::of(&words)
    }

    fn shell(text: &str) -> Option<Question> {
        Question::of(&["/bin/sh".to_owned(), "-c".to_owned(), text.to_owned()])
    }

    fn told(question: Option<Question>) -> String {
        question.map_or_else(String::new, |q| {
            format!("{} {} {} {} {:?}", q.method, q.host, q.port, q.target, q.takes)
        })
    }

    #[test]
    fn what_people_write_is_understood() {
        for (line, means) in [
            (
                "curl -f http://localhost:8080/health",
                "GET localhost:8080 8080 /health NoError",
            ),
            ("curl --fail --silent localhost", "GET localhost 80 / NoError"),
            (
                "/usr/bin/curl -fsS -o /dev/null http://127.0.0.1:3000",
                "GET 127.0.0.1:3000 3000 / NoError",
            ),
            (
                "curl -sSfL -m 5 http://localhost:9200/_cluster/health?local=true",
                "GET localhost:9200 9200 /_cluster/health?local=true Success",
            ),
            ("curl http://localhost:1/", "GET localhost:1 1 / Any"),
            (
                "wget --no-verbose --tries=1 --spider http://localhost:8080/up",
                "HEAD localhost:8080 8080 /up Success",
            ),
            ("wget -qO- http://localhost?x=1", "GET localhost 80 /?x=1 Success"),
            ("wget -q -O /dev/null http://0.0.0.0:80/", "GET 0.0.0.0:80 80 / Success"),
        ] {
            assert_eq!(told(of(line)), means, "{line}");
        }
        for text in [
            "curl -f http://localhost:8080/health || exit 1",
            "  curl -f 'http://localhost:8080/health'  ||false",
            "curl -f \"http://localhost:8080/health\"",
        ] {
            assert_eq!(told(shell(text)), "GET localhost:8080 8080 /health NoError", "{text}");
        }
        let quoted = shell("curl -f 'http://localhost/?a=1&b=2' || exit 1");
        assert_eq!(told(quoted), "GET localhost 80 /?a=1&b=2 NoError");
    }

    #[test]
    fn what_does_more_is_left_to_the_command() {
        for line in [
            "curl -f https://localhost/",
            "curl -f http://web:8080/",
            "curl -f http://localhost/ http://localhost/two",
            "curl -X POST http://localhost/",
            "curl -H Host:x http://localhost/",
            "curl -f -o out http://localhost/",
            "curl -k http://localhost/",
            "curl http://user@localhost/",
            "curl http://localhost:0/",
            "curl http://localhost:8[0-9]/",
            "curl",
            "wget http://localhost/ -O out",
            "wget http://localhost/",
            "wget --post-data=x http://localhost/",
            "python3 probe.py 80",
            "nc -z localhost 80",
        ] {
            assert_eq!(of(line), None, "{line}");
        }
        for text in [
            "curl -f http://localhost/ | grep ok",
            "curl -f http://localhost/ && test -f /ready",
            "curl -f http://localhost/$HEALTH",
            "curl -f http://localhost/?a=1&b=2",
            "curl -f http://localhost/ || exit 0",
            "curl -f http://localhost/ || curl -f http://localhost/two",
            "curl -f `cat url`",
            "curl -f http://localhost/ > /tmp/out",
            "curl -f 'http://localhost/a b'",
        ] {
            assert_eq!(shell(text), None, "{text}");
        }
    }
}
