//! The system users without privileges that the control plane and the gateway run as, and the directories that are theirs.

use crate::exit::Failure;
use server::config::ServerConfig;
use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown, lchown},
    path::Path,
};

/// The users that are looked for unless the configuration names others.
const DEFAULT: &str = "maquette";
const GATEWAY: &str = "maquette-gateway";
const DOOR: &str = "maquette-door";

/// A user of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::new(1, format!("{} can not be made: {error}", path.display()))
}

/// Makes a directory that nobody else may look into.
pub(crate) fn make_directory(path: &Path) -> Result<(), Failure> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| failed(path, &error))
}

/// Makes a directory of one's own that nobody else may look into, or makes an existing one so.
pub(crate) fn make_private(path: &Path) -> Result<(), Failure> {
    make_directory(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(|error| failed(path, &error))
}

/// The state directory belongs to the user without privileges; root takes nothing over that belongs to somebody else.
pub(crate) fn own_state_directory(config: &ServerConfig, user: &User) -> Result<(), Failure> {
    let path = &config.state_dir;
    make_directory(path)?;
    let found = fs::symlink_metadata(path).map_err(|error| failed(path, &error))?;
    if !found.is_dir() {
        return Err(Failure::new(1, format!("{} is not a directory", path.display())));
    }
    match found.uid() {
        0 => chown(path, Some(user.uid), Some(user.gid)).map_err(|error| failed(path, &error)),
        uid if uid == user.uid => Ok(()),
        uid => Err(Failure::new(
            1,
            format!("{} belongs to the user {uid}, not to {}", path.display(), user.name),
        )
        .hint(format!("chown -R {} {}", user.name, path.display()))),
    }
}

/// The user that is to be used.
pub(crate) fn choose(configured: Option<&str>) -> Result<User, Failure> {
    let users = fs::read_to_string("/etc/passwd")
        .map_err(|error| Failure::new(1, format!("the users of this machine can not be read: {error}")))?;
    choose_from(&users, configured)
}

fn choose_from(users: &str, configured: Option<&str>) -> Result<User, Failure> {
    // Not `nobody`: whatever else runs as that user could use the control socket, the store and the token.
    let name = configured.unwrap_or(DEFAULT);
    let user = find(users, name).ok_or_else(|| {
        Failure::new(1, format!("there is no user `{name}`")).hint(format!("useradd --system --no-create-home {name}"))
    })?;
    if user.uid == 0 {
        return Err(
            Failure::new(1, "the server does not run as root").hint("name another `user` in maquette-server.yaml")
        );
    }
    Ok(user)
}

/// The user that the gateway is to run as.
pub(crate) fn choose_gateway(config: &ServerConfig, server: &User) -> Result<User, Failure> {
    let name = config.gateway.user.as_deref().unwrap_or(GATEWAY);
    let user = choose(Some(name))?;
    if user.uid == server.uid || user.gid == server.gid {
        return Err(Failure::new(
            1,
            format!(
                "the gateway would run as {}, like the server, or in its group",
                user.name
            ),
        )
        .hint("leave `gateway.user` out of maquette-server.yaml, or name a user there that nothing else runs as"));
    }
    Ok(user)
}

/// The user that the door is to run as.
pub(crate) fn choose_door(config: &ServerConfig, others: [&User; 2]) -> Result<User, Failure> {
    let user = choose(Some(config.door.user.as_deref().unwrap_or(DOOR)))?;
    if let Some(other) = others
        .into_iter()
        .find(|other| user.uid == other.uid || user.gid == other.gid)
    {
        return Err(Failure::new(
            1,
            format!(
                "the door would run as {}, like {}, or in its group",
                user.name, other.name
            ),
        )
        .hint("leave `door.user` out of maquette-server.yaml, or name a user there that nothing else runs as"));
    }
    Ok(user)
}

/// Makes the directory of the door, which the server may look into.
pub(crate) fn make_door_place(config: &ServerConfig, server: &User, door: &User) -> Result<(), Failure> {
    make_place(&config.door_run_dir(), door.uid, server.gid, 0o2770)
}

/// Makes the directories in which the server and the gateway meet: the first is the server's and lets the gateway in, the other one
/// is the gateway's and lets the server look. Nobody else gets in.
pub(crate) fn make_meeting_places(config: &ServerConfig, server: &User, gateway: &User) -> Result<(), Failure> {
    let edge = config.edge_socket();
    let places = [
        (edge.parent().unwrap_or(&edge), server.uid, gateway.gid, 0o2710),
        (&config.gateway_run_dir(), gateway.uid, server.gid, 0o2770),
    ];
    for (path, owner, group, mode) in places {
        make_place(path, owner, group, mode)?;
    }
    Ok(())
}

fn make_place(path: &Path, owner: u32, group: u32, mode: u32) -> Result<(), Failure> {
    let make = || {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        lchown(path, Some(owner), Some(group))?;
        // After the change of the owner, which takes the bits for the group away.
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    };
    make().map_err(|error| failed(path, &error))
}

/// The user of that name, if there is one.
pub(crate) fn known(name: &str) -> Result<Option<User>, Failure> {
    let users = fs::read_to_string("/etc/passwd")
        .map_err(|error| Failure::new(1, format!("the users of this machine can not be read: {error}")))?;
    Ok(find(&users, name))
}

fn find(users: &str, name: &str) -> Option<User> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (found, _, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        (found == name).then_some(())?;
        Some(User {
            name: name.to_owned(),
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str = "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534::/:/usr/sbin/nologin\nbroken\napp:x:900:901::/:/bin/sh\n";

    #[test]
    fn the_configured_user_then_ours() {
        assert_eq!(
            choose_from(USERS, Some("app")).unwrap(),
            User {
                name: "app".to_owned(),
                uid: 900,
                gid: 901
            }
        );
        assert!(choose_from(USERS, None).unwrap_err().to_string().contains("useradd"));
        let with_ours = format!("{USERS}maquette:x:950:950::/:/usr/sbin/nologin\n");
        assert_eq!(choose_from(&with_ours, None).unwrap().uid, 950);
    }

    #[test]
    fn root_and_unknown_users_are_refused() {
        assert!(choose_from(USERS, Some("root")).is_err());
        let missing = choose_from(USERS, Some("who")).unwrap_err().to_string();
        assert!(missing.contains("useradd"), "{missing}");
    }
}
