//! Limits: btrfs qgroups, read and set.
//!
//! Two kinds exist. *Simple* quotas (kernel 6.7) charge an extent to the subvolume that first wrote it: a snapshot starts at
//! nothing, a group of volumes has a total, nested subvolumes count. *Full* qgroups charge what a subvolume refers to, so a
//! limit has to include what it was made from; adding a snapshot to a group makes all of the kernel's numbers
//! wrong until a rescan, so there is no total per environment with them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::BorrowedFd;

use serde::Serialize;

use super::ioctl;

const ROOT_TREE: u64 = 1;
const QUOTA_TREE: u64 = 8;
const STATUS_ITEM: u32 = 240;
const INFO_ITEM: u32 = 242;
const LIMIT_ITEM: u32 = 244;
const RELATION_ITEM: u32 = 246;
const ROOT_ITEM: u32 = 132;
const ROOT_REF: u32 = 156;
/// The first id that a subvolume can have.
const FIRST: u64 = 256;
const LAST: u64 = u64::MAX - 256;
const LEVEL_SHIFT: u32 = 48;

/// How the pool's file system counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum QuotaKind {
    /// An extent is charged to its first writer; environments have a total.
    Simple,
    /// What a volume refers to is charged to it; only volumes are bounded, not environments.
    Full,
}

/// One qgroup as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Qgroup {
    /// The level in the upper 16 bits, the number below.
    pub id: u64,
    /// Bytes charged to it.
    pub referenced: u64,
    /// The limit in bytes, if there is one.
    pub limit: Option<u64>,
    /// The groups that it is a member of.
    pub parents: Vec<u64>,
}

impl Qgroup {
    /// 0 for a subvolume, 1 for an environment.
    #[must_use]
    pub const fn level(&self) -> u64 {
        self.id >> LEVEL_SHIFT
    }
}

/// The id of the group that bounds an environment.
pub(super) const fn group_id(number: u64) -> u64 {
    (1 << LEVEL_SHIFT) | (number & ((1 << LEVEL_SHIFT) - 1))
}

/// The kind of quota that is on, if one is.
pub(super) fn kind(fd: BorrowedFd<'_>) -> io::Result<Option<QuotaKind>> {
    const ON: u64 = 1;
    const SIMPLE: u64 = 1 << 3;
    let items = match ioctl::tree_search(fd, QUOTA_TREE, STATUS_ITEM, 0..=0) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    // version, generation, flags
    let Some(flags) = items.first().map(|item| item.number(16)) else {
        return Ok(None);
    };
    Ok((flags & ON != 0).then_some(if flags & SIMPLE == 0 {
        QuotaKind::Full
    } else {
        QuotaKind::Simple
    }))
}

/// Switches quotas on. Simple ones only where asked for: they keep older kernels from mounting the file system.
pub(super) fn enable(fd: BorrowedFd<'_>, simple: bool) -> io::Result<QuotaKind> {
    if let Some(kind) = kind(fd)? {
        return Ok(kind);
    }
    if simple && ioctl::quota_enable(fd, true).is_ok() {
        return Ok(QuotaKind::Simple);
    }
    ioctl::quota_enable(fd, false)?;
    Ok(QuotaKind::Full)
}

/// All qgroups, by id.
pub(super) fn list(fd: BorrowedFd<'_>) -> io::Result<BTreeMap<u64, Qgroup>> {
    let mut groups = BTreeMap::new();
    for item in ioctl::tree_search(fd, QUOTA_TREE, INFO_ITEM, 0..=0)? {
        let group = Qgroup {
            id: item.offset,
            referenced: item.number(8),
            limit: None,
            parents: Vec::new(),
        };
        groups.insert(item.offset, group);
    }
    for item in ioctl::tree_search(fd, QUOTA_TREE, LIMIT_ITEM, 0..=0)? {
        // flags, then the bound of referenced bytes
        if let Some(group) = groups.get_mut(&item.offset)
            && item.number(0) & 1 != 0
            && item.number(8) != u64::MAX
        {
            group.limit = Some(item.number(8));
        }
    }
    // Each relation is stored in both directions; the parent has the larger id.
    for item in ioctl::tree_search(fd, QUOTA_TREE, RELATION_ITEM, 0..=u64::MAX)? {
        if item.offset > item.objectid
            && let Some(group) = groups.get_mut(&item.objectid)
        {
            group.parents.push(item.offset);
        }
    }
    Ok(groups)
}

/// The bytes charged to a qgroup, zero if it does not exist.
pub(super) fn referenced(fd: BorrowedFd<'_>, id: u64) -> io::Result<u64> {
    let items = ioctl::tree_search(fd, QUOTA_TREE, INFO_ITEM, 0..=0)?;
    Ok(items
        .iter()
        .find(|item| item.offset == id)
        .map_or(0, |item| item.number(8)))
}

/// Makes the group of an environment unless it exists and sets its limit.
pub(super) fn group_ensure(fd: BorrowedFd<'_>, id: u64, limit: Option<u64>) -> io::Result<()> {
    match ioctl::qgroup_create(fd, id, true) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    ioctl::qgroup_limit(fd, id, limit.unwrap_or(u64::MAX))
}

/// Removes the group of an environment. What still belongs to it (deleted, but kept alive by a snapshot) leaves it first.
pub(super) fn group_remove(fd: BorrowedFd<'_>, id: u64) -> io::Result<()> {
    let groups = list(fd)?;
    if !groups.contains_key(&id) {
        return Ok(());
    }
    for member in groups.values().filter(|group| group.parents.contains(&id)) {
        match ioctl::qgroup_assign(fd, member.id, id, false) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    match ioctl::qgroup_create(fd, id, false) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The ids of all subvolumes, those included that are deleted and not cleaned up yet.
pub(super) fn subvolume_ids(fd: BorrowedFd<'_>) -> io::Result<BTreeSet<u64>> {
    Ok(ioctl::tree_search(fd, ROOT_TREE, ROOT_ITEM, FIRST..=LAST)?
        .into_iter()
        .map(|item| item.objectid)
        .collect())
}

/// Whether the subvolume is gone for good.
pub(super) fn subvolume_is_gone(fd: BorrowedFd<'_>, id: u64) -> io::Result<bool> {
    Ok(ioctl::tree_search(fd, ROOT_TREE, ROOT_ITEM, id..=id)?.is_empty())
}

/// The subvolumes directly inside of one.
pub(super) fn subvolume_children(fd: BorrowedFd<'_>, id: u64) -> io::Result<Vec<u64>> {
    Ok(ioctl::tree_search(fd, ROOT_TREE, ROOT_REF, id..=id)?
        .into_iter()
        .map(|item| item.offset)
        .collect())
}

/// Removes the qgroups of subvolumes that no longer exist; those that still hold bytes stay. Returns how many went.
pub(super) fn sweep(fd: BorrowedFd<'_>) -> io::Result<usize> {
    // Groups first: a subvolume made in between is then in the second list only.
    let groups = list(fd)?;
    let alive = subvolume_ids(fd)?;
    let stale = groups
        .values()
        .filter(|group| group.level() == 0 && group.id >= FIRST && !alive.contains(&group.id));
    Ok(stale
        .filter(|group| ioctl::qgroup_create(fd, group.id, false).is_ok())
        .count())
}
