//! The example of the repository is read as its authors mean it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that can not go on fails"
)]

mod support;

use blueprint::MemoryTree;
use std::path::Path;
use support::read;

/// The files of the example, as a commit would hold them.
fn shop() -> MemoryTree {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/shop");
    let mut tree = MemoryTree::default();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                tree = tree.with(&name, &std::fs::read(&path).unwrap());
            }
        }
    }
    tree
}

#[test]
fn the_shop_is_read() {
    let mut blueprint = read(&shop()).map_err(|problems| panic!("{problems}")).unwrap();
    // What the files hold is the shop's business; which they are is looked at.
    for set in blueprint.stack.data.values_mut() {
        let nothing = model::Digest::of(b"");
        set.migrations.iter_mut().for_each(|file| file.digest = nothing.clone());
        set.seeds.iter_mut().for_each(|file| file.digest = nothing.clone());
    }
    let warnings: Vec<String> = blueprint.warnings.iter().map(ToString::to_string).collect();
    insta::assert_json_snapshot!(blueprint.stack);
    insta::assert_json_snapshot!("the_shop_is_public_at", blueprint.public);
    insta::assert_snapshot!("the_shop_is_warned_of", warnings.join("\n"));
}

#[test]
fn what_init_writes_for_the_shop_means_the_same() {
    let shop = shop();
    let written = blueprint::init(&shop).remove(0).text;
    insta::assert_snapshot!(written);
    let by_hand = read(&shop).unwrap();
    let mut by_init = read(&shop.with("maquette.yaml", written.as_bytes()))
        .map_err(|p| panic!("{p}"))
        .unwrap();
    // The range of versions is what nobody can guess.
    for (name, service) in &mut by_init.stack.services {
        service.workload.root = by_hand.stack.services[name].workload.root.clone();
    }
    assert_eq!(by_init.stack, by_hand.stack);
    // The shop has no baseline, because its demo shows pull requests alone.
    by_init.policy.baseline = by_hand.policy.baseline;
    assert_eq!(by_init.policy, by_hand.policy);
}

#[test]
fn init_has_an_answer_for_any_repository() {
    for tree in [
        MemoryTree::default(),
        MemoryTree::new([("compose.yaml", "services: [")]),
        MemoryTree::new([
            (
                "compose.yaml",
                "services: { \"a: b\\n\": {}, web: { build: ., ports: [80] }, db: { image: postgres } }",
            ),
            ("db/migrate/1.up.sql", ""),
            ("db/migrate/1.down.sql", ""),
        ]),
    ] {
        let text = blueprint::init(&tree).pop().unwrap().text;
        assert!(
            blueprint::Policy::read(&MemoryTree::new([("maquette.yaml", text.as_str())])).is_ok(),
            "{text}"
        );
    }
}
