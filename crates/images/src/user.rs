//! Who a container's process is: the `user` of an image or a service, read with the image's own lists of users and groups.

use serde::{Deserialize, Serialize};

/// A line of a list of users or groups beyond this is not read: no distribution writes one.
const MAX_LINE: usize = 16 * 1024;
/// The groups that a process may be in besides its own (`NGROUPS_MAX` is higher; no image comes near).
const MAX_GROUPS: usize = 128;

/// A user or group that the image does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the image has no {what} `{name}`")]
pub struct UnknownUser {
    /// `user` or `group`.
    pub what: &'static str,
    /// As written, shortened, control characters escaped.
    pub name: String,
}

/// The ids of a process, in the image's own numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageUser {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Further groups, ascending.
    pub groups: Vec<u32>,
    /// The home directory that the list of users names.
    pub home: Option<String>,
}

impl ImageUser {
    /// Reads `user`, `uid`, `user:group` or `uid:gid`; empty is root. `passwd` and `group` are the image's files of that name, empty
    /// if it has none.
    ///
    /// As Docker does it: a number needs no entry, the user's entry gives the group and the home, and further groups count only
    /// if no group is named.
    ///
    /// # Errors
    /// [`UnknownUser`] for a name without an entry.
    pub fn resolve(user: &str, passwd: &str, group: &str) -> Result<Self, UnknownUser> {
        let (user, named_group) = match user.split_once(':') {
            Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
            None => (user, None),
        };
        let user = if user.is_empty() { "0" } else { user };
        let wanted: Option<u32> = user.parse().ok();
        let entry = entries(passwd)
            .find(|fields| fields.first() == Some(&user) || (wanted.is_some() && number(fields, 2) == wanted));
        let entry = match entry {
            Some(entry) => Some(entry),
            None if wanted.is_some() => None,
            None => return Err(unknown("user", user)),
        };
        let uid = entry
            .as_ref()
            .and_then(|fields| number(fields, 2))
            .or(wanted)
            .ok_or_else(|| unknown("user", user))?;
        let own_group = entry.as_ref().and_then(|fields| number(fields, 3)).unwrap_or(0);
        let gid = match named_group {
            Some(name) => group_id(name, group)?,
            None => own_group,
        };
        let groups = match (named_group, entry.as_ref().and_then(|fields| fields.first())) {
            (None, Some(name)) => memberships(name, gid, group),
            _ => Vec::new(),
        };
        let home = entry
            .and_then(|fields| fields.get(5).copied())
            .filter(|home| home.starts_with('/'))
            .map(str::to_owned);
        Ok(Self { uid, gid, groups, home })
    }
}

fn entries(file: &str) -> impl Iterator<Item = Vec<&str>> {
    file.lines()
        .filter(|line| line.len() <= MAX_LINE && !line.starts_with('#'))
        .map(|line| line.trim_end().split(':').collect())
}

fn number(fields: &[&str], at: usize) -> Option<u32> {
    fields.get(at)?.parse().ok()
}

fn group_id(name: &str, group: &str) -> Result<u32, UnknownUser> {
    let listed = entries(group)
        .find(|fields| fields.first() == Some(&name))
        .and_then(|fields| number(&fields, 2));
    listed
        .or_else(|| name.parse().ok())
        .ok_or_else(|| unknown("group", name))
}

fn memberships(user: &str, gid: u32, group: &str) -> Vec<u32> {
    let mut groups: Vec<u32> = entries(group)
        .filter(|fields| {
            fields
                .get(3)
                .is_some_and(|members| members.split(',').any(|member| member == user))
        })
        .filter_map(|fields| number(&fields, 2))
        .filter(|id| *id != gid)
        .collect();
    groups.sort_unstable();
    groups.dedup();
    groups.truncate(MAX_GROUPS);
    groups
}

fn unknown(what: &'static str, name: &str) -> UnknownUser {
    UnknownUser {
        what,
        name: name.chars().take(60).flat_map(char::escape_debug).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnode:x:1000:1000::/home/node:/bin/sh\nbroken\nredis:x:999:1000::/data:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nwheel:x:10:root,node\nnode:x:1000:node\naudio:x:29:node\n";

    fn ids(user: &str) -> Option<(u32, u32, Vec<u32>, Option<String>)> {
        let found = ImageUser::resolve(user, PASSWD, GROUP).ok()?;
        Some((found.uid, found.gid, found.groups, found.home))
    }

    #[test]
    fn names_and_numbers_are_found() {
        let home = |path: &str| Some(path.to_owned());
        assert_eq!(ids(""), Some((0, 0, vec![10], home("/root"))));
        assert_eq!(ids("node"), Some((1000, 1000, vec![10, 29], home("/home/node"))));
        assert_eq!(ids("1000"), Some((1000, 1000, vec![10, 29], home("/home/node"))));
        assert_eq!(ids("node:wheel"), Some((1000, 10, vec![], home("/home/node"))));
        assert_eq!(ids("redis:0"), Some((999, 0, vec![], home("/data"))));
        assert_eq!(ids("4711"), Some((4711, 0, vec![], None)));
        assert_eq!(ids("4711:4712"), Some((4711, 4712, vec![], None)));
    }

    #[test]
    fn names_without_an_entry_are_refused() {
        assert_eq!(
            ImageUser::resolve("nobody", "", "").unwrap_err().to_string(),
            "the image has no user `nobody`"
        );
        assert_eq!(
            ImageUser::resolve("node:staff", PASSWD, GROUP).unwrap_err().to_string(),
            "the image has no group `staff`"
        );
        assert!(ids("-1").is_none());
        assert!(ids("99999999999").is_none());
    }
}
