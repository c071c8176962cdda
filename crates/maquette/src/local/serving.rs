//! What `doctor` says of what `serve` needs besides the cells: its users and its ports.

use crate::{
    exit::Failure,
    process::{gateway, running, user},
};
use runtime_cell::doctor::{Finding, Status};
use server::{StateDir, config::ServerConfig};
use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpListener},
};

/// Both. `as_root` is whether `serve` would be started by root, as who asks is.
pub(super) fn findings(config: &ServerConfig, as_root: bool) -> Vec<Finding> {
    let server = running::is_held(&StateDir::new(&config.state_dir).lock());
    let proxy = running::is_held(&gateway::pid_file(config));
    vec![
        users(config, as_root),
        port("port of the API", config.listen, server),
        port("port of the gateway", config.gateway.listen, proxy),
    ]
}

fn users(config: &ServerConfig, as_root: bool) -> Finding {
    match chosen(config) {
        Ok(names) => finding("system users", Status::Ok, names, None),
        Err(failure) => {
            let (why, hint) = failure.parts();
            // Whoever else starts it needs none: all of it then runs as that user.
            let status = if as_root { Status::Fail } else { Status::Warn };
            let meaning = format!("{why}; started by root, `maquette serve` has to become users without privileges");
            finding("system users", status, meaning, hint.map(str::to_owned))
        }
    }
}

fn chosen(config: &ServerConfig) -> Result<String, Failure> {
    let server = user::choose(config.user.as_deref())?;
    let gateway = user::choose_gateway(config, &server)?;
    let door = user::choose_door(config, [&server, &gateway])?;
    Ok(format!("{}, {}, {}", server.name, gateway.name, door.name))
}

/// `ours` is whether the process that is to listen there runs.
fn port(check: &str, address: SocketAddr, ours: bool) -> Finding {
    if ours {
        return finding(check, Status::Ok, format!("Maquette listens at {address}"), None);
    }
    let (status, meaning, mend) = match TcpListener::bind(address) {
        Ok(_) => (Status::Ok, format!("{address} is free"), None),
        Err(error) if error.kind() == ErrorKind::AddrInUse => (
            Status::Warn,
            format!("something else listens at {address}, where `maquette serve` is to listen"),
            Some(format!("ss -ltnp 'sport = :{}'", address.port())),
        ),
        Err(error) => (Status::Warn, format!("nobody can listen at {address}: {error}"), None),
    };
    finding(check, status, meaning, mend)
}

fn finding(check: &str, status: Status, meaning: String, mend: Option<String>) -> Finding {
    Finding {
        check: check.to_owned(),
        status,
        meaning,
        mend,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn config(text: &str) -> ServerConfig {
        ServerConfig::parse(text, Path::new("maquette-server.yaml")).unwrap()
    }

    #[test]
    fn a_user_that_is_missing_is_told_with_the_command_that_makes_it() {
        let config = config("user: nobody-of-that-name\n");
        let found = users(&config, true);
        assert_eq!(found.status, Status::Fail);
        assert_eq!(
            found.mend.as_deref(),
            Some("useradd --system --no-create-home nobody-of-that-name")
        );
        assert_eq!(users(&config, false).status, Status::Warn);
    }

    #[test]
    fn a_port_that_somebody_else_has_is_told_and_ones_own_is_not() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let found = port("port of the API", address, false);
        assert_eq!(found.status, Status::Warn);
        assert!(found.meaning.contains(&address.to_string()), "{}", found.meaning);
        assert_eq!(port("port of the API", address, true).status, Status::Ok);
    }
}
