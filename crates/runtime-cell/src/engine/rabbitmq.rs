//! RabbitMQ: started as a plain Erlang program, without its shell scripts and without the Erlang port mapper.
//!
//! Nearly all of its boot (four seconds) is loading code, on one CPU; nothing here changes that, a spare that has booted does.
//! With the node's name given on the command line and a fixed port for its tools, no port mapper is started.

use std::fmt::Write as _;
use std::time::Duration;

use super::{
    Address, EngineDirectory, EngineError, EngineFile, EngineKind, EngineRequest, EngineRun, Installed, Probe,
    Protocol, Sensitive, Stop, base_environment,
};

const KIND: EngineKind = EngineKind::Rabbitmq;
const NODE: &str = "rabbit@localhost";
const MANAGEMENT_PORT: u16 = 15_672;

pub(super) fn run(request: &EngineRequest<'_>, installed: &Installed) -> Result<EngineRun, EngineError> {
    let place = request.place;
    let program = request.command.first().map_or("rabbitmq-server", String::as_str);
    if request.command.len() > 1 || program.rsplit('/').next() != Some("rabbitmq-server") {
        let word = request.command.last().cloned().unwrap_or_default();
        return Err(EngineError::Command {
            kind: KIND,
            word,
            reason: "only `rabbitmq-server` can be run",
        });
    }
    let port = place.port.unwrap_or(KIND.port());
    let (home, settings) = (place.run.join("rabbitmq"), place.run.join("etc"));
    let file = |name: &str, content: String| EngineFile {
        path: settings.join(name),
        content: Sensitive::new(content),
        mode: 0o400,
    };
    let plugins = if request.management {
        "[rabbitmq_management].\n"
    } else {
        "[].\n"
    };
    let files = vec![
        file("rabbitmq.conf", String::new()),
        file("advanced.config", settings_content(request, port)?),
        // RabbitMQ's tools write this file, so it may be changed.
        EngineFile {
            mode: 0o600,
            ..file("enabled_plugins", plugins.to_owned())
        },
    ];

    let mut environment = base_environment(&home);
    let root = installed.directory.display();
    let distribution = place.distribution_port;
    let path = |path: std::path::PathBuf| path.display().to_string();
    for (name, value) in [
        ("RABBITMQ_HOME", root.to_string()),
        ("ERL_LIBS", format!("{root}/plugins")),
        ("ERL_MAX_ETS_TABLES", "50000".to_owned()),
        // A crash is told in the log; its dump would fill the volume.
        ("ERL_CRASH_DUMP_BYTES", "0".to_owned()),
        // Should anything start the port mapper after all, it binds here.
        ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
        ("ERL_EPMD_PORT", "4369".to_owned()),
        ("RABBITMQ_NODENAME", NODE.to_owned()),
        ("RABBITMQ_DIST_PORT", distribution.to_string()),
        // How `rabbitmq-diagnostics` and its like, common in health checks, find the node without the port mapper.
        (
            "RABBITMQ_CTL_ERL_ARGS",
            format!("-start_epmd false -erl_epmd_port {distribution} -dist_listen false"),
        ),
        ("RABBITMQ_CONF_ENV_FILE", "/dev/null".to_owned()),
        ("RABBITMQ_CONFIG_FILE", path(settings.join("rabbitmq.conf"))),
        ("RABBITMQ_ADVANCED_CONFIG_FILE", path(settings.join("advanced.config"))),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", path(settings.join("enabled_plugins"))),
        ("RABBITMQ_PLUGINS_DIR", format!("{root}/plugins")),
        ("RABBITMQ_PLUGINS_EXPAND_DIR", path(home.join("plugins"))),
        ("RABBITMQ_MNESIA_BASE", path(place.data.join("mnesia"))),
        ("RABBITMQ_MNESIA_DIR", path(place.data.join("mnesia/node"))),
        (
            "RABBITMQ_FEATURE_FLAGS_FILE",
            path(place.data.join("mnesia/feature_flags")),
        ),
        ("RABBITMQ_GENERATED_CONFIG_DIR", path(home.join("config"))),
        ("RABBITMQ_PID_FILE", path(home.join("pid"))),
        ("RABBITMQ_LOG_BASE", path(place.data.join("log"))),
        ("RABBITMQ_LOGS", "-".to_owned()),
    ] {
        environment.insert(name.to_owned(), value);
    }
    let directory = |path, mode| EngineDirectory { path, mode };
    Ok(EngineRun {
        kind: KIND,
        version: installed.version.clone(),
        argv: argv(installed, place.distribution_port),
        environment,
        directories: vec![
            directory(settings.clone(), 0o700),
            directory(home, 0o700),
            directory(place.data.join("mnesia"), 0o700),
            directory(place.data.join("log"), 0o700),
        ],
        files,
        initialise: None,
        port,
        ready: Probe {
            address: Address::Tcp(port),
            protocol: Protocol::Amqp,
        },
        stop: Stop {
            signal: "SIGTERM",
            grace: Duration::from_secs(20),
        },
        account: None,
        notes: Vec::new(),
    })
}

fn argv(installed: &Installed, distribution_port: u16) -> Vec<String> {
    let code = format!(
        "{}/plugins/rabbit-{}/ebin",
        installed.directory.display(),
        installed.version
    );
    let port = distribution_port.to_string();
    let fixed = [
        "/usr/bin/erl",
        "-noinput",
        "-pa",
        &code,
        "-s",
        "rabbit",
        "boot",
        "-boot",
        "start_sasl",
        "+W",
        "w",
        // Two schedulers that sleep when idle: a preview's broker has little to do and shares the machine.
        "+S",
        "2:2",
        "+sbwt",
        "none",
        "+sbwtdcpu",
        "none",
        "+sbwtdio",
        "none",
        "+P",
        "131072",
        "+MBas",
        "ageffcbf",
        "+MHas",
        "ageffcbf",
        "+MBlmbcs",
        "512",
        "+MHlmbcs",
        "512",
        "+MMmcs",
        "30",
        "-sname",
        NODE,
        "-start_epmd",
        "false",
        "-erl_epmd_port",
        &port,
        "-kernel",
        "inet_dist_use_interface",
        "{127,0,0,1}",
        "-kernel",
        "inet_dist_listen_min",
        &port,
        "-kernel",
        "inet_dist_listen_max",
        &port,
        "-kernel",
        "prevent_overlapping_partitions",
        "false",
        "-syslog",
        "logger",
        "[]",
        "-syslog",
        "syslog_error_logger",
        "false",
    ];
    fixed.into_iter().map(str::to_owned).collect()
}

/// The settings as Erlang terms. Texts are written as lists of bytes, so that no value can be more than a value.
fn settings_content(request: &EngineRequest<'_>, port: u16) -> Result<String, EngineError> {
    let error = |variable, reason| EngineError::Variable {
        kind: KIND,
        variable,
        reason,
    };
    let given = |name: &str| {
        request
            .environment
            .get(name)
            .map(Sensitive::expose)
            .filter(|value| !value.is_empty())
    };
    for variable in ["RABBITMQ_DEFAULT_USER", "RABBITMQ_DEFAULT_VHOST"] {
        if given(variable).is_some_and(|value| value.len() > 255) {
            return Err(error(variable, "has more than 255 bytes"));
        }
    }
    for variable in ["RABBITMQ_DEFAULT_USER_FILE", "RABBITMQ_DEFAULT_PASS_FILE"] {
        if given(variable).is_some() {
            return Err(error(variable, "can't be honoured; give the value itself, as a secret"));
        }
    }
    let listen = request.place.listen.as_deref().unwrap_or("0.0.0.0");
    let mut text = String::from("[{rabbit, [\n");
    let _ = writeln!(text, "  {{tcp_listeners, [{{{}, {port}}}]}},", list(listen));
    let _ = writeln!(
        text,
        "  {{default_user, {}}},",
        binary(given("RABBITMQ_DEFAULT_USER").unwrap_or("guest"))
    );
    let _ = writeln!(
        text,
        "  {{default_pass, {}}},",
        binary(given("RABBITMQ_DEFAULT_PASS").unwrap_or("guest"))
    );
    let _ = writeln!(
        text,
        "  {{default_vhost, {}}},",
        binary(given("RABBITMQ_DEFAULT_VHOST").unwrap_or("/"))
    );
    if let Some(memory) = request.memory_bytes {
        let _ = writeln!(
            text,
            "  {{vm_memory_high_watermark, {{absolute, {}}}}},",
            memory / 10 * 6
        );
    }
    // As in the official image: services are on other addresses than the broker.
    text.push_str("  {loopback_users, []}\n]}");
    if request.management {
        let listener = format!("[{{ip, {}}}, {{port, {MANAGEMENT_PORT}}}]", list(listen));
        let _ = write!(text, ",\n {{rabbitmq_management, [{{tcp_config, {listener}}}]}}");
    }
    text.push_str("].\n");
    Ok(text)
}

fn bytes(text: &str) -> String {
    text.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(",")
}

fn binary(text: &str) -> String {
    format!("<<{}>>", bytes(text))
}

fn list(text: &str) -> String {
    format!("[{}]", bytes(text))
}
