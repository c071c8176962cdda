//! What is left when unpacking is cut short.

use crate::{
    rig::{Packed, in_pool},
    support::{PATIENCE, Rig},
};
use runtime::Runtime as _;
use std::time::{Duration, Instant};
use test_support::image::{Entry, layer};

#[tokio::test]
async fn a_host_that_is_killed_while_it_unpacks_leaves_nothing_that_counts() {
    let mut rig = Rig::start();
    let runtime = rig.runtime().await;
    let environment = rig.environment();
    let many: Vec<Entry> = (0..30_000)
        .map(|n| Entry::file(&format!("d{}/f{n}", n % 97), "x"))
        .collect();
    let packed = Packed::of(&[layer(&many).unwrap()]);
    let begun = Instant::now();
    {
        let put = packed.put(&runtime, &environment);
        tokio::pin!(put);
        // Until the directory that it is unpacked into is there.
        loop {
            tokio::select! {
                done = &mut put => panic!("unpacked before it could be cut: {done:?}"),
                () = tokio::time::sleep(Duration::from_millis(2)) => {}
            }
            if in_pool(&rig).iter().any(|name| name.starts_with(".tmp-")) {
                break;
            }
            assert!(begun.elapsed() < PATIENCE);
        }
        rig.kill_host();
    }
    assert!(!in_pool(&rig).contains(&packed.image.hex().to_owned()));
    rig.start_host();
    let runtime = rig.runtime().await;
    assert!(runtime.image_list().await.unwrap().is_empty());
    assert!(in_pool(&rig).is_empty(), "{:?}", in_pool(&rig));
    packed.put(&runtime, &environment).await.unwrap();
    assert_eq!(runtime.image_list().await.unwrap(), [packed.image.clone()].into());
    // Brought again, it is there already.
    packed.put(&runtime, &environment).await.unwrap();
}
