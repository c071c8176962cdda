//! Redis: in memory only, unless the stack asks for more.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use super::{
    Address, EngineDirectory, EngineError, EngineFile, EngineKind, EngineRequest, EngineRun, Installed, Probe,
    Protocol, Sensitive, Stop, base_environment, ready::REDIS_USER,
};

const KIND: EngineKind = EngineKind::Redis;

/// Directives that would take the process out of Maquette's hands.
const RESERVED: [&str; 9] = [
    "bind",
    "daemonize",
    "dir",
    "logfile",
    "pidfile",
    "protected-mode",
    "supervised",
    "syslog-enabled",
    "unixsocket",
];

struct Directive {
    name: String,
    values: Vec<String>,
}

struct Parsed {
    file: Option<String>,
    directives: Vec<Directive>,
}

pub(super) fn run(request: &EngineRequest<'_>, installed: &Installed) -> Result<EngineRun, EngineError> {
    let place = request.place;
    let Parsed { file, directives } = parse(request.command)?;
    let given: BTreeSet<&str> = directives.iter().map(|directive| directive.name.as_str()).collect();
    let value_of = |name: &str| {
        directives
            .iter()
            .rev()
            .find(|directive| directive.name == name)
            .and_then(|found| found.values.first())
    };
    let port = match value_of("port").map(|value| value.parse::<u16>()) {
        Some(Ok(port)) if port > 0 => port,
        None => place.port.unwrap_or(KIND.port()),
        Some(_) => {
            return Err(EngineError::Command {
                kind: KIND,
                word: "--port".to_owned(),
                reason: "the port is no number",
            });
        }
    };

    let mut content = String::new();
    let mut set = |name: &str, values: &[&str]| directive_write(&mut content, name, values);
    set("port", &[&port.to_string()]);
    // Nothing is kept on disk by default; a command or a file that asks for it comes later and wins.
    set("save", &[""]);
    if let (Some(memory), false) = (request.memory_bytes, given.contains("maxmemory")) {
        set("maxmemory", &[&(memory / 4 * 3).to_string()]);
    }
    if let Some(file) = &file {
        set("include", &[file]);
    } else if !given.contains("aclfile") {
        // Redis takes users either from here or from a file of their own; a configuration of the stack may name one.
        set(
            "user",
            &[
                REDIS_USER,
                "on",
                "nopass",
                "resetkeys",
                "resetchannels",
                "-@all",
                "+ping",
            ],
        );
    }
    for directive in &directives {
        let values: Vec<&str> = directive.values.iter().map(String::as_str).collect();
        set(&directive.name, &values);
    }
    match &place.listen {
        Some(address) => set("bind", &[address]),
        None => set("bind", &["*", "-::*"]),
    }
    // The network is the environment's own; whoever reaches it is meant to.
    set("protected-mode", &["no"]);
    set("daemonize", &["no"]);
    set("logfile", &[""]);
    set("dir", &[&place.data.display().to_string()]);

    let settings = place.run.join("etc");
    let path = settings.join("redis.conf");
    let argv = vec![
        installed.directory.join("redis-server").display().to_string(),
        path.display().to_string(),
    ];
    Ok(EngineRun {
        kind: KIND,
        version: installed.version.clone(),
        argv,
        environment: base_environment(&place.data),
        directories: vec![EngineDirectory {
            path: settings,
            mode: 0o700,
        }],
        files: vec![EngineFile {
            path,
            content: Sensitive::new(content),
            mode: 0o400,
        }],
        initialise: None,
        port,
        ready: Probe {
            address: Address::Tcp(port),
            protocol: Protocol::Redis,
        },
        stop: Stop {
            signal: "SIGTERM",
            grace: Duration::from_secs(10),
        },
        account: None,
        notes: Vec::new(),
    })
}

/// `redis-server [file] [--name value…]…`, or the arguments alone.
fn parse(command: &[String]) -> Result<Parsed, EngineError> {
    let refuse = |word: &str, reason| {
        Err(EngineError::Command {
            kind: KIND,
            word: word.to_owned(),
            reason,
        })
    };
    let mut parsed = Parsed {
        file: None,
        directives: Vec::new(),
    };
    let mut words = command.iter().map(String::as_str).peekable();
    if let Some(program) = words.next_if(|word| !word.starts_with('-') && !is_file(word))
        && program.rsplit('/').next() != Some("redis-server")
    {
        return refuse(program, "only `redis-server` with its arguments can be run");
    }
    parsed.file = words.next_if(|word| is_file(word)).map(str::to_owned);
    for word in words {
        match (word.strip_prefix("--"), parsed.directives.last_mut()) {
            (Some(name), _) => {
                let name = name.to_ascii_lowercase();
                if RESERVED.contains(&name.as_str()) {
                    return refuse(&name, "Maquette sets this itself");
                }
                if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
                    return refuse(word, "this is no directive of Redis");
                }
                parsed.directives.push(Directive {
                    name,
                    values: Vec::new(),
                });
            }
            (None, Some(directive)) => directive.values.push(word.to_owned()),
            (None, None) => return refuse(word, "arguments are written `--name value`"),
        }
    }
    // `--save ""` has one empty value; `--save` alone has none and would be an error of Redis with a poorer message.
    match parsed.directives.iter().find(|directive| directive.values.is_empty()) {
        Some(directive) => refuse(&format!("--{}", directive.name), "its value is missing"),
        None => Ok(parsed),
    }
}

fn is_file(word: &str) -> bool {
    word.ends_with(".conf")
}

/// Redis reads quoted values with escapes, so that no value can end its line. `save "60 1"` has to be two words there.
fn directive_write(content: &mut String, name: &str, values: &[&str]) {
    content.push_str(name);
    let words = values.iter().flat_map(|value| match name {
        "save" | "client-output-buffer-limit" if !value.is_empty() => value.split_whitespace().collect::<Vec<_>>(),
        _ => vec![*value],
    });
    for word in words {
        content.push_str(" \"");
        for byte in word.bytes() {
            match byte {
                b'"' | b'\\' => {
                    content.push('\\');
                    content.push(char::from(byte));
                }
                b' '..=b'~' => content.push(char::from(byte)),
                _ => {
                    let _ = write!(content, "\\x{byte:02x}");
                }
            }
        }
        content.push('"');
    }
    content.push('\n');
}
