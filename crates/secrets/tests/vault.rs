//! What an operator relies on: values come back, nothing readable is on disk, and what is wrong is said at the start.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use model::{ProjectName, Timestamp};
use secrets::{Error, SecretName, SecretValue, Vault};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

struct Place {
    _dir: tempfile::TempDir,
    vault: PathBuf,
    key: PathBuf,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            vault: dir.path().join("secrets"),
            key: dir.path().join("key"),
            _dir: dir,
        }
    }

    fn open(&self) -> Result<Vault, Error> {
        Vault::open(&self.vault, &self.key)
    }
}

fn project(name: &str) -> ProjectName {
    name.parse().unwrap()
}

fn name(name: &str) -> SecretName {
    name.parse().unwrap()
}

fn value(bytes: &[u8]) -> SecretValue {
    SecretValue::new(bytes.to_vec()).unwrap()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

#[test]
fn values_of_every_shape_come_back_after_a_restart() {
    let place = Place::new();
    let large = vec![0xab; SecretValue::MAX];
    let shapes: [(&str, &[u8]); 5] = [
        ("EMPTY", b""),
        ("LINES", b"-----BEGIN-----\nabc\n\n-----END-----\n"),
        ("BINARY", &[0, 10, 255, 0]),
        ("LARGE", &large),
        ("tls.pem", "schlüssel".as_bytes()),
    ];
    let vault = place.open().unwrap();
    for (called, bytes) in shapes {
        vault
            .set(&project("shop"), &name(called), &value(bytes), Timestamp(7), None)
            .unwrap();
    }
    drop(vault);
    let vault = place.open().unwrap();
    for (called, bytes) in shapes {
        assert_eq!(vault.value(&project("shop"), &name(called)).unwrap().expose(), bytes);
    }
    let listed = vault.list(&project("shop"));
    assert_eq!(listed.len(), shapes.len());
    assert!(listed.iter().all(|entry| entry.set == Timestamp(7)));
}

#[test]
fn nothing_on_disk_shows_a_value_and_nobody_else_may_look() {
    let place = Place::new();
    let vault = place.open().unwrap();
    vault
        .set(
            &project("shop"),
            &name("KEY"),
            &value(b"a canary in the coal mine"),
            Timestamp(1),
            None,
        )
        .unwrap();
    let all = files(place.vault.parent().unwrap());
    assert_eq!(all.len(), 2, "{all:?}");
    for path in all {
        let bytes = fs::read(&path).unwrap();
        assert!(!bytes.windows(6).any(|window| window == b"canary"), "{path:?}");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600,
            "{path:?}"
        );
    }
    for dir in [place.vault.clone(), place.vault.join("shop")] {
        assert_eq!(
            fs::metadata(&dir).unwrap().permissions().mode() & 0o777,
            0o700,
            "{dir:?}"
        );
    }
    assert!(!format!("{vault:?}").contains("AGE-SECRET-KEY"));
}

#[test]
fn a_version_changes_with_every_value_and_projects_do_not_share() {
    let place = Place::new();
    let vault = place.open().unwrap();
    let set = |of: &str, bytes: &[u8]| {
        vault
            .set(&project(of), &name("KEY"), &value(bytes), Timestamp(1), None)
            .unwrap()
    };
    let first = set("shop", b"one");
    let second = set("shop", b"one");
    assert_ne!(
        first.version, second.version,
        "the same value set again is a rotation too"
    );
    assert!(vault.value(&project("blog"), &name("KEY")).is_err());
    set("blog", b"two");
    assert_eq!(vault.value(&project("shop"), &name("KEY")).unwrap().expose(), b"one");
    vault.remove(&project("shop"), &name("KEY")).unwrap();
    assert!(vault.list(&project("shop")).is_empty());
    assert_eq!(vault.value(&project("blog"), &name("KEY")).unwrap().expose(), b"two");
    let gone = vault.remove(&project("shop"), &name("KEY")).unwrap_err();
    assert_eq!(gone.to_string(), "project `shop` has no secret `KEY`");
}

#[test]
fn a_file_in_the_wrong_place_is_noticed() {
    let place = Place::new();
    let vault = place.open().unwrap();
    for called in ["HARMLESS", "PAYMENT"] {
        vault
            .set(
                &project("shop"),
                &name(called),
                &value(called.as_bytes()),
                Timestamp(1),
                None,
            )
            .unwrap();
    }
    let at = |called: &str| place.vault.join("shop").join(format!("{called}.age"));
    fs::copy(at("PAYMENT"), at("HARMLESS")).unwrap();
    let error = vault.value(&project("shop"), &name("HARMLESS")).unwrap_err();
    assert!(matches!(error, Error::Misplaced { .. }), "{error}");
    assert!(matches!(place.open().unwrap_err(), Error::Misplaced { .. }));
}

#[test]
fn a_lost_key_is_not_replaced_while_secrets_depend_on_it() {
    let place = Place::new();
    place
        .open()
        .unwrap()
        .set(&project("shop"), &name("KEY"), &value(b"x"), Timestamp(1), None)
        .unwrap();
    fs::remove_file(&place.key).unwrap();
    assert!(matches!(place.open().unwrap_err(), Error::KeyLost { .. }));
    assert!(!place.key.exists());

    fs::write(&place.key, "not a key").unwrap();
    fs::set_permissions(&place.key, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(matches!(place.open().unwrap_err(), Error::NoKey { .. }));

    let other = Place::new();
    other.open().unwrap();
    fs::copy(&other.key, &place.key).unwrap();
    assert!(matches!(place.open().unwrap_err(), Error::Sealed { .. }));
}

#[test]
fn a_key_or_vault_that_others_may_read_is_refused() {
    let place = Place::new();
    place.open().unwrap();
    fs::set_permissions(&place.key, fs::Permissions::from_mode(0o644)).unwrap();
    let error = place.open().unwrap_err().to_string();
    assert!(
        error.contains("its mode is 644, and 600 is wanted (`chmod 600 "),
        "{error}"
    );
    fs::set_permissions(&place.key, fs::Permissions::from_mode(0o400)).unwrap();
    place.open().unwrap();
    fs::set_permissions(&place.vault, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(matches!(place.open().unwrap_err(), Error::Open { .. }));
}

#[test]
fn a_cut_write_leaves_the_old_value() {
    let place = Place::new();
    let vault = place.open().unwrap();
    vault
        .set(&project("shop"), &name("KEY"), &value(b"old"), Timestamp(1), None)
        .unwrap();
    let draft = place.vault.join("shop").join("KEY.draft");
    fs::write(&draft, b"half a file").unwrap();
    drop(vault);
    let vault = place.open().unwrap();
    assert_eq!(vault.value(&project("shop"), &name("KEY")).unwrap().expose(), b"old");
    assert!(!draft.exists());
}

#[test]
fn a_project_holds_a_bounded_number() {
    let place = Place::new();
    let vault = place.open().unwrap();
    for number in 0..1000 {
        vault
            .set(
                &project("shop"),
                &name(&format!("S{number}")),
                &value(b"x"),
                Timestamp(1),
                None,
            )
            .unwrap();
    }
    let error = vault
        .set(&project("shop"), &name("ONE_MORE"), &value(b"x"), Timestamp(1), None)
        .unwrap_err();
    assert!(matches!(error, Error::TooMany { .. }), "{error}");
    vault
        .set(&project("shop"), &name("S7"), &value(b"y"), Timestamp(2), None)
        .unwrap();
}
