//! The ioctls of btrfs and of the loop driver that the pool needs, as safe functions.
//!
//! The layouts are the kernel's (`linux/btrfs.h`, `linux/loop.h`). Every structure here is `repr(C)`, holds
//! plain integers only and has its size asserted, so that any bytes which the kernel writes are valid.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

const NONE: u64 = 0;
const WRITE: u64 = 1;
const READ: u64 = 2;

const fn btrfs(direction: u64, number: u64, size: usize) -> u64 {
    (direction << 30) | ((size as u64) << 16) | (0x94 << 8) | number
}

const SYNC: u64 = btrfs(NONE, 8, 0);
const RESIZE: u64 = btrfs(WRITE, 3, 4096);
const TREE_SEARCH: u64 = btrfs(READ | WRITE, 17, 4096);
const SNAP_CREATE_V2: u64 = btrfs(WRITE, 23, 4096);
const SUBVOL_CREATE_V2: u64 = btrfs(WRITE, 24, 4096);
const SUBVOL_GETFLAGS: u64 = btrfs(READ, 25, 8);
const SUBVOL_SETFLAGS: u64 = btrfs(WRITE, 26, 8);
const QUOTA_CTL: u64 = btrfs(READ | WRITE, 40, 16);
const QGROUP_ASSIGN: u64 = btrfs(WRITE, 41, 24);
const QGROUP_CREATE: u64 = btrfs(WRITE, 42, 16);
const QGROUP_LIMIT: u64 = btrfs(READ, 43, 48);
const GET_SUBVOL_INFO: u64 = btrfs(READ, 60, 504);
const SNAP_DESTROY_V2: u64 = btrfs(WRITE, 63, 4096);

const LOOP_GET_STATUS64: u64 = 0x4c05;
const LOOP_SET_CAPACITY: u64 = 0x4c07;
const LOOP_CONFIGURE: u64 = 0x4c0a;
const LOOP_CTL_GET_FREE: u64 = 0x4c82;

const FLAG_READ_ONLY: u64 = 1 << 1;
const FLAG_QGROUP_INHERIT: u64 = 1 << 2;
const FLAG_SPEC_BY_ID: u64 = 1 << 4;

/// The loop device goes away with its last user, also when that is killed.
const LO_AUTOCLEAR: u32 = 4;
const LO_DIRECT_IO: u32 = 16;

#[repr(C)]
struct VolArgs {
    fd: i64,
    name: [u8; 4088],
}

#[repr(C)]
struct VolArgsV2 {
    fd: i64,
    transid: u64,
    flags: u64,
    inherit_size: u64,
    inherit: u64,
    unused: [u64; 2],
    name: [u8; 4040],
}

/// A qgroup inheritance with at most one parent, which is all that the pool asks for.
#[repr(C)]
struct Inherit {
    flags: u64,
    groups: u64,
    ref_copies: u64,
    excl_copies: u64,
    limit: [u64; 5],
    group: [u64; 1],
}

#[repr(C)]
struct SearchKey {
    tree: u64,
    min_objectid: u64,
    max_objectid: u64,
    min_offset: u64,
    max_offset: u64,
    min_transid: u64,
    max_transid: u64,
    min_type: u32,
    max_type: u32,
    items: u32,
    unused: u32,
    unused_tail: [u64; 4],
}

#[repr(C)]
struct SearchArgs {
    key: SearchKey,
    buffer: [u8; 3992],
}

#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<VolArgs>() == 4096);
const _: () = assert!(size_of::<VolArgsV2>() == 4096);
const _: () = assert!(size_of::<Inherit>() == 80);
const _: () = assert!(size_of::<SearchArgs>() == 4096);
const _: () = assert!(size_of::<LoopInfo>() == 232);
const _: () = assert!(size_of::<LoopConfig>() == 304);

/// Calls an ioctl with a pointer argument. `T` must be the structure that `request` expects.
fn call<T>(fd: BorrowedFd<'_>, request: u64, argument: &mut T) -> io::Result<i32> {
    // SAFETY: `argument` is an exclusively borrowed, initialised structure of the size that the request
    // encodes (asserted above); all are plain integers, so whatever the kernel writes back is valid.
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), request as libc::Ioctl, std::ptr::from_mut(argument)) };
    if done < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(done)
    }
}

/// Calls an ioctl whose argument is a number, or none.
fn call_value(fd: BorrowedFd<'_>, request: u64, argument: libc::c_ulong) -> io::Result<i32> {
    // SAFETY: the requests used with this function take a number, no memory is passed.
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), request as libc::Ioctl, argument) };
    if done < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(done)
    }
}

fn named<const N: usize>(name: &str) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    match bytes.get_mut(..name.len()) {
        // The last byte stays zero: the kernel wants a terminated string.
        Some(front) if name.len() < N && !name.as_bytes().contains(&0) => front.copy_from_slice(name.as_bytes()),
        _ => return Err(io::Error::from(io::ErrorKind::InvalidInput)),
    }
    Ok(bytes)
}

fn create(
    directory: BorrowedFd<'_>,
    name: &str,
    request: u64,
    source: i64,
    read_only: bool,
    parent: Option<u64>,
) -> io::Result<()> {
    let inherit = parent.map(|group| Inherit {
        flags: 0,
        groups: 1,
        ref_copies: 0,
        excl_copies: 0,
        limit: [0; 5],
        group: [group],
    });
    let mut flags = if read_only { FLAG_READ_ONLY } else { 0 };
    let (mut inherit_size, mut pointer) = (0, 0);
    if let Some(inherit) = &inherit {
        flags |= FLAG_QGROUP_INHERIT;
        inherit_size = size_of::<Inherit>() as u64;
        pointer = std::ptr::from_ref(inherit) as u64;
    }
    let mut arguments = VolArgsV2 {
        fd: source,
        transid: 0,
        flags,
        inherit_size,
        inherit: pointer,
        unused: [0; 2],
        name: named(name)?,
    };
    // `inherit` lives until the function ends: the kernel reads it through the pointer above.
    call(directory, request, &mut arguments).map(drop)
}

/// Makes an empty subvolume, as a member of the qgroup `parent` if one is given.
pub(super) fn subvolume_create(directory: BorrowedFd<'_>, name: &str, parent: Option<u64>) -> io::Result<()> {
    create(directory, name, SUBVOL_CREATE_V2, 0, false, parent)
}

/// Makes a snapshot of the subvolume `source`; what was written to it before is in the snapshot.
pub(super) fn snapshot_create(
    source: BorrowedFd<'_>,
    directory: BorrowedFd<'_>,
    name: &str,
    read_only: bool,
    parent: Option<u64>,
) -> io::Result<()> {
    create(
        directory,
        name,
        SNAP_CREATE_V2,
        i64::from(source.as_raw_fd()),
        read_only,
        parent,
    )
}

/// Deletes a subvolume by name. Its space comes back later, when the kernel's cleaner has run.
pub(super) fn subvolume_destroy(directory: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let mut arguments = VolArgsV2 {
        fd: 0,
        transid: 0,
        flags: 0,
        inherit_size: 0,
        inherit: 0,
        unused: [0; 2],
        name: named(name)?,
    };
    call(directory, SNAP_DESTROY_V2, &mut arguments).map(drop)
}

/// Deletes a subvolume by id, wherever below the mount it is.
pub(super) fn subvolume_destroy_id(filesystem: BorrowedFd<'_>, id: u64) -> io::Result<()> {
    let mut name = [0; 4040];
    name[..8].copy_from_slice(&id.to_ne_bytes());
    let mut arguments = VolArgsV2 {
        fd: 0,
        transid: 0,
        flags: FLAG_SPEC_BY_ID,
        inherit_size: 0,
        inherit: 0,
        unused: [0; 2],
        name,
    };
    call(filesystem, SNAP_DESTROY_V2, &mut arguments).map(drop)
}

/// The id of the subvolume that `fd` is in.
pub(super) fn subvolume_id(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let mut information = [0_u64; 63];
    call(fd, GET_SUBVOL_INFO, &mut information)?;
    Ok(information[0])
}

/// Whether the subvolume is read-only.
pub(super) fn read_only_get(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut flags = 0_u64;
    call(fd, SUBVOL_GETFLAGS, &mut flags)?;
    Ok(flags & FLAG_READ_ONLY != 0)
}

/// Makes a subvolume read-only or writable again.
pub(super) fn read_only_set(fd: BorrowedFd<'_>, read_only: bool) -> io::Result<()> {
    let mut flags = if read_only { FLAG_READ_ONLY } else { 0 };
    call(fd, SUBVOL_SETFLAGS, &mut flags).map(drop)
}

/// Commits and wakes the cleaner that frees deleted subvolumes.
pub(super) fn sync(fd: BorrowedFd<'_>) -> io::Result<()> {
    call_value(fd, SYNC, 0).map(drop)
}

/// Grows the file system to the size of its device.
pub(super) fn resize_max(fd: BorrowedFd<'_>) -> io::Result<()> {
    let mut arguments = VolArgs {
        fd: 0,
        name: named("max")?,
    };
    call(fd, RESIZE, &mut arguments).map(drop)
}

/// Switches quotas on: simple ones (kernel 6.7) or full qgroups.
pub(super) fn quota_enable(fd: BorrowedFd<'_>, simple: bool) -> io::Result<()> {
    let mut arguments = [if simple { 4_u64 } else { 1 }, 0];
    call(fd, QUOTA_CTL, &mut arguments).map(drop)
}

/// Makes or removes a qgroup.
pub(super) fn qgroup_create(fd: BorrowedFd<'_>, id: u64, create: bool) -> io::Result<()> {
    let mut arguments = [u64::from(create), id];
    call(fd, QGROUP_CREATE, &mut arguments).map(drop)
}

/// Makes `member` a member of `parent`, or ends that.
pub(super) fn qgroup_assign(fd: BorrowedFd<'_>, member: u64, parent: u64, assign: bool) -> io::Result<()> {
    let mut arguments = [u64::from(assign), member, parent];
    call(fd, QGROUP_ASSIGN, &mut arguments).map(drop)
}

/// Limits the referenced bytes of a qgroup; `u64::MAX` means no limit.
pub(super) fn qgroup_limit(fd: BorrowedFd<'_>, id: u64, bytes: u64) -> io::Result<()> {
    let mut arguments = [id, 1, bytes, 0, 0, 0];
    call(fd, QGROUP_LIMIT, &mut arguments).map(drop)
}

/// One item of a btrfs tree.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) objectid: u64,
    pub(super) kind: u32,
    pub(super) offset: u64,
    pub(super) data: Vec<u8>,
}

impl Item {
    /// The little-endian number at `at` in the item, zero if the item is shorter.
    pub(super) fn number(&self, at: usize) -> u64 {
        match self.data.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()) {
            Some(bytes) => u64::from_le_bytes(bytes),
            None => 0,
        }
    }
}

/// More items than any pool has: a loop that the kernel keeps feeding ends here.
const ITEMS_MAX: usize = 1 << 20;

/// All items of `tree` of one kind whose object id is in `objectids`.
pub(super) fn tree_search(
    fd: BorrowedFd<'_>,
    tree: u64,
    kind: u32,
    objectids: std::ops::RangeInclusive<u64>,
) -> io::Result<Vec<Item>> {
    let mut items = Vec::new();
    let (mut objectid, mut item_kind, mut offset) = (*objectids.start(), kind, 0_u64);
    while items.len() < ITEMS_MAX {
        let mut arguments = SearchArgs {
            key: SearchKey {
                tree,
                min_objectid: objectid,
                max_objectid: *objectids.end(),
                min_offset: offset,
                max_offset: u64::MAX,
                min_transid: 0,
                max_transid: u64::MAX,
                min_type: item_kind,
                max_type: kind,
                items: u32::MAX,
                unused: 0,
                unused_tail: [0; 4],
            },
            buffer: [0; 3992],
        };
        call(fd, TREE_SEARCH, &mut arguments)?;
        let found = parse(&arguments);
        let Some(last) = found.last() else { return Ok(items) };
        // The key range is one of whole keys (object id, type, offset): continue just after the last.
        (objectid, item_kind, offset) = match last.offset.checked_add(1) {
            Some(next) => (last.objectid, last.kind, next),
            None => (last.objectid, last.kind + 1, 0),
        };
        items.extend(found.into_iter().filter(|item| item.kind == kind));
    }
    Ok(items)
}

fn parse(arguments: &SearchArgs) -> Vec<Item> {
    let mut items = Vec::new();
    let mut rest = &arguments.buffer[..];
    for _ in 0..arguments.key.items {
        let Some((header, tail)) = rest.split_at_checked(32) else {
            break;
        };
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&header[at..at + 8]);
            u64::from_ne_bytes(bytes)
        };
        let kind_and_length = number(24);
        let [a, b, c, d, e, f, g, h] = kind_and_length.to_ne_bytes();
        let (kind, length) = (u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]));
        let Some((data, tail)) = tail.split_at_checked(length as usize) else {
            break;
        };
        items.push(Item {
            objectid: number(8),
            kind,
            offset: number(16),
            data: data.to_vec(),
        });
        rest = tail;
    }
    items
}

/// The number of a loop device that nobody uses at this moment.
pub(super) fn loop_free(control: BorrowedFd<'_>) -> io::Result<u32> {
    let number = call_value(control, LOOP_CTL_GET_FREE, 0)?;
    u32::try_from(number).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
}

/// Attaches `image` to the loop device until its last user is gone.
pub(super) fn loop_attach(device: BorrowedFd<'_>, image: BorrowedFd<'_>, name: &[u8], direct: bool) -> io::Result<()> {
    let mut file_name = [0; 64];
    let length = name.len().min(63);
    file_name[..length].copy_from_slice(&name[..length]);
    let mut info = loop_info_empty();
    info.flags = LO_AUTOCLEAR | if direct { LO_DIRECT_IO } else { 0 };
    info.file_name = file_name;
    let fd = u32::try_from(image.as_raw_fd()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut configuration = LoopConfig {
        fd,
        block_size: 4096,
        info,
        reserved: [0; 8],
    };
    call(device.as_fd(), LOOP_CONFIGURE, &mut configuration).map(drop)
}

/// Device and inode number of the file behind a loop device.
pub(super) fn loop_backing(device: BorrowedFd<'_>) -> io::Result<(u64, u64)> {
    let mut info = loop_info_empty();
    call(device, LOOP_GET_STATUS64, &mut info)?;
    Ok((info.device, info.inode))
}

/// Lets a loop device see that its file has grown.
pub(super) fn loop_capacity(device: BorrowedFd<'_>) -> io::Result<()> {
    call_value(device, LOOP_SET_CAPACITY, 0).map(drop)
}

fn loop_info_empty() -> LoopInfo {
    LoopInfo {
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        size_limit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: 0,
        file_name: [0; 64],
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    }
}
