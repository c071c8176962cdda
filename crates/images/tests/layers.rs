//! What layers do to a root file system, and what they can not do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use images::{
    BlobDigest,
    layer::{Applied, Bounds, LayerError, apply, read_text},
};
use std::{
    fs,
    io::{Cursor, Write},
    os::{
        fd::AsFd,
        unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    },
    path::Path,
};
use tar::{Builder, EntryType, Header};

/// An archive in the making.
struct Archive(Builder<Vec<u8>>);

impl Archive {
    fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    fn header(kind: EntryType, size: usize) -> Header {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(size as u64);
        header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header
    }

    /// Any name, checked by nobody.
    fn raw(mut self, mut header: Header, name: &[u8], content: &[u8]) -> Self {
        let field = &mut header.as_old_mut().name;
        field[..name.len()].copy_from_slice(name);
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    fn file(self, name: &str, content: &str) -> Self {
        let header = Self::header(EntryType::Regular, content.len());
        self.raw(header, name.as_bytes(), content.as_bytes())
    }

    fn dir(self, name: &str) -> Self {
        self.raw(Self::header(EntryType::Directory, 0), name.as_bytes(), b"")
    }

    fn link(self, kind: EntryType, name: &str, target: &str) -> Self {
        let mut header = Self::header(kind, 0);
        let field = &mut header.as_old_mut().linkname;
        field[..target.len()].copy_from_slice(target.as_bytes());
        self.raw(header, name.as_bytes(), b"")
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.link(EntryType::Symlink, name, target)
    }

    fn hard(self, name: &str, target: &str) -> Self {
        self.link(EntryType::Link, name, target)
    }

    /// Says a name, or the target of a link, that has no room in the head of the entry that follows, as GNU tar does.
    fn long(self, kind: EntryType, text: &str) -> Self {
        self.raw(Self::header(kind, text.len()), b"././@LongLink", text.as_bytes())
    }

    fn done(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

struct Root(tempfile::TempDir);

impl Root {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("root")).unwrap();
        fs::write(dir.path().join("outside"), "outside").unwrap();
        Self(dir)
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.0.path().join("root").join(path)
    }

    fn try_apply(&self, bytes: &[u8], bounds: &mut Bounds) -> Result<Applied, LayerError> {
        let root = fs::File::open(self.path("")).unwrap();
        apply(
            Cursor::new(bytes.to_vec()),
            &BlobDigest::of(bytes),
            root.as_fd(),
            bounds,
        )
    }

    fn apply(&self, archive: Archive) -> Applied {
        self.try_apply(&archive.done(), &mut Bounds::default()).unwrap()
    }

    fn refuse(&self, archive: Archive) -> String {
        self.try_apply(&archive.done(), &mut Bounds::default())
            .unwrap_err()
            .to_string()
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    fn exists(&self, path: &str) -> bool {
        self.path(path).symlink_metadata().is_ok()
    }

    fn untouched(&self) {
        assert_eq!(fs::read_to_string(self.0.path().join("outside")).unwrap(), "outside");
        let beside: Vec<_> = fs::read_dir(self.0.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(beside.len(), 2, "{beside:?}");
    }
}

#[test]
fn files_keep_owner_mode_and_time() {
    let root = Root::new();
    let mut header = Archive::header(EntryType::Regular, 2);
    header.set_mode(0o4755);
    header.set_uid(999);
    header.set_gid(1000);
    let mut dir = Archive::header(EntryType::Directory, 0);
    dir.set_mode(0o1777);
    let applied = root.apply(
        Archive::new()
            .raw(dir, b"tmp/", b"")
            .raw(header, b"tmp/su", b"hi")
            .symlink("tmp/link", "/etc/passwd")
            .raw(Archive::header(EntryType::Fifo, 0), b"tmp/pipe", b""),
    );
    assert_eq!((applied.entries, applied.removed, applied.skipped), (4, 0, 0));
    let file = root.path("tmp/su").metadata().unwrap();
    assert_eq!(
        (file.uid(), file.gid(), file.mode() & 0o7777, file.mtime()),
        (999, 1000, 0o4755, 1_000_000_000)
    );
    let dir = root.path("tmp").metadata().unwrap();
    assert_eq!(
        (dir.mode() & 0o7777, dir.mtime()),
        (0o1777, 1_000_000_000),
        "though a file was written into it"
    );
    assert_eq!(fs::read_link(root.path("tmp/link")).unwrap(), Path::new("/etc/passwd"));
    assert!(root.path("tmp/pipe").metadata().unwrap().file_type().is_fifo());
}

#[test]
fn a_layer_replaces_what_lies_below() {
    let root = Root::new();
    root.apply(
        Archive::new()
            .file("file", "old")
            .file("becomes-dir", "x")
            .dir("becomes-file/")
            .file("becomes-file/inside", "x")
            .dir("stays/")
            .file("stays/kept", "kept")
            .symlink("becomes-plain", "../outside"),
    );
    root.apply(
        Archive::new()
            .file("file", "new")
            .dir("becomes-dir/")
            .file("becomes-file", "y")
            .dir("stays/")
            .file("becomes-plain", "plain"),
    );
    assert_eq!(root.text("file"), "new");
    assert!(root.path("becomes-dir").is_dir());
    assert_eq!(root.text("becomes-file"), "y");
    assert_eq!(root.text("stays/kept"), "kept");
    assert_eq!(root.text("becomes-plain"), "plain");
    root.untouched();
}

#[test]
fn whiteouts_remove_what_lies_below_and_nothing_of_their_own_layer() {
    let root = Root::new();
    root.apply(
        Archive::new()
            .file("gone", "x")
            .dir("tree/")
            .dir("tree/deep/")
            .file("tree/deep/file", "x")
            .dir("opaque/")
            .file("opaque/old", "x")
            .dir("opaque/sub/")
            .file("opaque/sub/old", "x"),
    );
    let applied = root.apply(
        Archive::new()
            .file(".wh.gone", "")
            .file(".wh.tree", "")
            .file(".wh.never-was", "")
            .file(".wh..wh.plnk", "")
            .file("opaque/new", "new")
            .file("opaque/sub/new", "new")
            // The marker may follow what it must not remove.
            .file("opaque/.wh..wh..opq", ""),
    );
    assert_eq!((applied.entries, applied.removed), (2, 4));
    for gone in [
        "gone",
        "tree",
        "opaque/old",
        "opaque/sub/old",
        ".wh.gone",
        "opaque/.wh..wh..opq",
    ] {
        assert!(!root.exists(gone), "{gone}");
    }
    assert_eq!(root.text("opaque/new"), "new");
    assert_eq!(root.text("opaque/sub/new"), "new");
}

#[test]
fn directories_that_are_left_out_are_made_and_links_in_paths_stay_inside() {
    let root = Root::new();
    root.apply(
        Archive::new()
            .dir("usr/")
            .dir("usr/lib/")
            .symlink("lib", "usr/lib")
            .symlink("abs", "/usr/lib"),
    );
    root.apply(
        Archive::new()
            .file("lib/a", "a")
            .file("abs/b", "b")
            .file("new/deep/c", "c")
            .file("/leading/d", "d")
            .file("./dot/e", "e"),
    );
    assert_eq!(root.text("usr/lib/a"), "a");
    assert_eq!(
        root.text("usr/lib/b"),
        "b",
        "an absolute link starts at the image's root"
    );
    assert_eq!(root.text("new/deep/c"), "c");
    assert_eq!(root.path("new").metadata().unwrap().mode() & 0o777, 0o755);
    assert_eq!(root.text("leading/d"), "d");
    assert_eq!(root.text("dot/e"), "e");
    assert!(root.path("lib").symlink_metadata().unwrap().is_symlink());
}

#[test]
fn hard_links_are_further_names() {
    let root = Root::new();
    root.apply(Archive::new().file("a", "one").symlink("s", "a"));
    root.apply(
        Archive::new()
            .hard("b", "a")
            .hard("t", "s")
            .file("taken", "x")
            .hard("taken", "a"),
    );
    assert_eq!(
        root.path("a").metadata().unwrap().ino(),
        root.path("b").metadata().unwrap().ino()
    );
    assert_eq!(root.path("a").metadata().unwrap().nlink(), 3);
    assert!(root.path("t").symlink_metadata().unwrap().is_symlink());
    assert!(
        root.refuse(Archive::new().hard("c", "nothing"))
            .contains("can not be written")
    );
}

#[test]
fn nothing_leaves_the_root() {
    for (name, archive) in [
        ("climbing", Archive::new().file("../outside", "evil")),
        ("climbing inside", Archive::new().file("a/../../outside", "evil")),
        ("hard link to outside", Archive::new().hard("x", "../outside")),
        ("whiteout of a climb", Archive::new().file("a/.wh...", "")),
    ] {
        let root = Root::new();
        let error = root.refuse(archive);
        assert!(error.contains("can not be in an image"), "{name}: {error}");
        root.untouched();
    }
    let up = "../".repeat(20);
    for target in ["..", "../outside", &format!("{up}tmp"), "/.."] {
        let root = Root::new();
        let archive = Archive::new()
            .symlink("way", target)
            .file("way/outside", "evil")
            .file("way", "plain");
        let _ = root.try_apply(&archive.done(), &mut Bounds::default());
        root.untouched();
    }
    // A link to outside, then a hard link, a whiteout and a directory through it.
    let root = Root::new();
    let outside = root.0.path().to_str().unwrap().to_owned();
    root.apply(Archive::new().symlink("way", &outside));
    let _ = root.try_apply(
        &Archive::new().hard("stolen", "way/outside").done(),
        &mut Bounds::default(),
    );
    assert!(!root.exists("stolen"));
    let _ = root.try_apply(
        &Archive::new().file("way/.wh.outside", "").done(),
        &mut Bounds::default(),
    );
    let _ = root.try_apply(&Archive::new().dir("way/").done(), &mut Bounds::default());
    assert!(
        root.path("way").symlink_metadata().unwrap().is_dir(),
        "the link was replaced, not followed"
    );
    root.untouched();
}

#[test]
fn devices_are_left_out_and_other_kinds_refused() {
    let root = Root::new();
    let mut device = Archive::header(EntryType::Char, 0);
    device.set_device_major(1).unwrap();
    device.set_device_minor(1).unwrap();
    let applied = root.apply(Archive::new().raw(device, b"mem", b""));
    assert_eq!((applied.entries, applied.skipped), (0, 1));
    assert!(!root.exists("mem"));
    let volume = root.refuse(Archive::new().raw(Archive::header(EntryType::new(b'V'), 0), b"v", b""));
    assert_eq!(volume, "`v` is an entry of type 'V', which is not supported");
    let sparse = root.refuse(Archive::new().raw(Archive::header(EntryType::GNUSparse, 0), b"s", b""));
    assert!(sparse.contains("can not be read"), "{sparse}");
}

#[test]
fn owners_beyond_a_containers_range_are_refused() {
    let root = Root::new();
    let mut header = Archive::header(EntryType::Regular, 0);
    header.set_uid(100_000);
    let error = root.refuse(Archive::new().raw(header, b"f", b""));
    assert_eq!(
        error,
        "`f` belongs to user 100000, group 0; containers know ids up to 65535"
    );
}

fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (key, value) in records {
        let rest = format!(" {key}={value}\n");
        let mut length = rest.len() + 1;
        while length != rest.len() + length.to_string().len() {
            length += 1;
        }
        bytes.extend_from_slice(format!("{length}{rest}").as_bytes());
    }
    bytes
}

#[test]
fn long_names_are_read_in_both_dialects() {
    let root = Root::new();
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(200));
    let records = pax(&[
        ("path", &long),
        ("uid", "65535"),
        ("mtime", "1700000000.5"),
        ("SCHILY.xattr.user.x", "y"),
    ]);
    let gnu = format!("{}\0", "g".repeat(150));
    root.apply(
        Archive::new()
            .raw(Archive::header(EntryType::XGlobalHeader, 0), b"pax_global_header", b"")
            .raw(
                Archive::header(EntryType::XHeader, records.len()),
                b"PaxHeaders",
                &records,
            )
            .file("short", "pax")
            .raw(
                Archive::header(EntryType::GNULongName, gnu.len()),
                b"././@LongLink",
                gnu.as_bytes(),
            )
            .file("short", "gnu")
            .file("plain", "neither"),
    );
    let file = root.path(&long).metadata().unwrap();
    assert_eq!((file.uid(), file.mtime()), (65535, 1_700_000_000));
    assert_eq!(root.text(&"g".repeat(150)), "gnu");
    assert_eq!(root.text("plain"), "neither");
    assert!(!root.exists("short"));
}

#[test]
fn archives_that_two_readers_read_differently_are_refused() {
    let root = Root::new();
    let size = pax(&[("size", "512")]);
    let error = root.refuse(
        Archive::new()
            .raw(Archive::header(EntryType::XHeader, size.len()), b"PaxHeaders", &size)
            .file("f", ""),
    );
    assert!(error.contains("told twice and differently"), "{error}");
    let path = pax(&[("path", "everywhere")]);
    let error = root.refuse(
        Archive::new()
            .raw(Archive::header(EntryType::XGlobalHeader, path.len()), b"g", &path)
            .file("f", ""),
    );
    assert!(error.contains("a global header that names files"), "{error}");
    let long = "x".repeat((1 << 20) + 1);
    let error = root.refuse(Archive::new().raw(
        Archive::header(EntryType::GNULongName, long.len()),
        b"././@LongLink",
        long.as_bytes(),
    ));
    assert!(error.contains("take more than 1048576 bytes"), "{error}");
}

#[test]
fn compression_is_recognised_and_the_whole_stream_is_verified() {
    let plain = Archive::new().file("f", "content").done();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(&plain[..], 1).unwrap();
    for bytes in [&plain, &gzip, &zstd] {
        let root = Root::new();
        let fd = fs::File::open(root.path("")).unwrap();
        apply(&bytes[..], &BlobDigest::of(&plain), fd.as_fd(), &mut Bounds::default()).unwrap();
        assert_eq!(root.text("f"), "content");
        let lie = apply(&bytes[..], &BlobDigest::of(b"else"), fd.as_fd(), &mut Bounds::default()).unwrap_err();
        assert!(matches!(lie, LayerError::Mismatch { .. }), "{lie}");
    }
    // What follows the archive's end is part of the digest.
    let mut longer = plain.clone();
    longer.extend_from_slice(&[7; 100_000]);
    let root = Root::new();
    root.try_apply(&longer, &mut Bounds::default()).unwrap();
    // Cut in the middle of the compressed stream.
    let fd = fs::File::open(root.path("")).unwrap();
    let cut = apply(
        &gzip[..gzip.len() / 2],
        &BlobDigest::of(&plain),
        fd.as_fd(),
        &mut Bounds::default(),
    )
    .unwrap_err();
    assert!(matches!(cut, LayerError::Damaged(_)), "{cut}");
    let xz = apply(
        &b"\xfd7zXZ\0"[..],
        &BlobDigest::of(&plain),
        fd.as_fd(),
        &mut Bounds::default(),
    )
    .unwrap_err();
    assert!(xz.to_string().contains("bzip2 and xz are not used by images"), "{xz}");
}

#[test]
fn a_bomb_ends_at_the_bound() {
    let size = 64 << 20;
    let mut builder = Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    let mut header = Archive::header(EntryType::Regular, size);
    header.as_old_mut().name[..4].copy_from_slice(b"bomb");
    header.set_cksum();
    builder
        .append(&header, std::io::Read::take(std::io::repeat(0), size as u64))
        .unwrap();
    let bomb = builder.into_inner().unwrap().finish().unwrap();
    assert!(bomb.len() < 1 << 20, "it is a bomb");
    let root = Root::new();
    let mut bounds = Bounds {
        entries: 10,
        bytes: 1 << 20,
    };
    let error = root.try_apply(&bomb, &mut bounds).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the image is larger than is allowed: more than 1048576 bytes"
    );
    assert!(root.path("bomb").metadata().unwrap().len() <= 1 << 20);

    let many = (0..11).fold(Archive::new(), |archive, number| {
        archive.file(&format!("f{number}"), "")
    });
    let error = root.try_apply(&many.done(), &mut bounds).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the image is larger than is allowed: more than 10 entries"
    );
}

#[test]
fn bounds_are_for_the_image_and_not_for_each_layer() {
    let root = Root::new();
    let mut bounds = Bounds {
        entries: 3,
        bytes: 1 << 20,
    };
    root.try_apply(&Archive::new().file("a", "").file("b", "").done(), &mut bounds)
        .unwrap();
    assert_eq!(bounds.entries, 1);
    assert!(
        root.try_apply(&Archive::new().file("c", "").file("d", "").done(), &mut bounds)
            .is_err()
    );
}

#[test]
fn small_files_are_read_inside_the_root() {
    let root = Root::new();
    root.apply(
        Archive::new()
            .file("etc/passwd", "root:x:0:0::/root:/bin/sh\n")
            .symlink("etc/link", "/etc/passwd")
            .symlink("etc/out", "../../outside")
            .raw(Archive::header(EntryType::Fifo, 0), b"etc/pipe", b""),
    );
    let fd = fs::File::open(root.path("")).unwrap();
    let read = |path: &str, most: u64| read_text(fd.as_fd(), path, most);
    assert!(read("etc/passwd", 1000).starts_with("root:"));
    assert!(read("etc/link", 1000).starts_with("root:"));
    assert_eq!(read("etc/out", 1000), "");
    assert_eq!(read("etc/pipe", 1000), "");
    assert_eq!(read("etc/none", 1000), "");
    assert_eq!(read("etc/passwd", 3), "");
}

#[test]
fn a_deep_tree_is_removed_or_refused_and_never_overflows() {
    let root = Root::new();
    // Deeper than anything that asks itself for each level: by links that shorten the way. They are few: the kernel follows 40 in
    // one path, and counts those again that it followed before it lost its way to somebody's change and began anew.
    let links = 14;
    let step = "d/".repeat(130);
    let down = step.trim_end_matches('/');
    let mut archive = Archive::new().long(EntryType::GNULongName, &step).dir("d");
    archive = archive.long(EntryType::GNULongLink, down).symlink("l0", "d");
    for number in 0..links {
        let inside = format!("l{number}/{step}");
        archive = archive.long(EntryType::GNULongName, &inside).dir("d");
        let target = format!("l{number}/{down}");
        archive = archive
            .long(EntryType::GNULongLink, &target)
            .symlink(&format!("l{}", number + 1), "d");
    }
    root.apply(archive);
    assert!(root.path(&format!("l{links}")).exists());
    let result = root.try_apply(&Archive::new().file(".wh.d", "").done(), &mut Bounds::default());
    match result {
        Ok(applied) => {
            assert_eq!(applied.removed, 1);
            assert!(!root.exists("d"));
        }
        Err(error) => assert!(error.to_string().contains("can not be written"), "{error}"),
    }
}

#[test]
fn permissions_do_not_depend_on_the_umask() {
    let root = Root::new();
    let mut header = Archive::header(EntryType::Regular, 0);
    header.set_mode(0o666);
    root.apply(Archive::new().raw(header, b"open", b""));
    assert_eq!(
        root.path("open").metadata().unwrap().permissions().mode() & 0o777,
        0o666
    );
}
