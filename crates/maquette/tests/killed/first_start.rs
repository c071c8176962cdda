//! Everything is killed while a fresh installation starts for the first time: the next start makes the rest.

use crate::{
    kill::PATIENCE,
    rig::{COMPOSE, Rig, SETTINGS, Visitor},
};
use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// What a first start makes, about in this order. At each of these it is killed as soon as it is there.
fn made(rig: &Rig) -> Vec<PathBuf> {
    let (state, cells, run) = (rig.state(), rig.root.join("cells"), &rig.run_dir);
    vec![
        state.join("store.db"),
        run.join("cell-keeper.pid"),
        run.join("cell-host.pid"),
        cells.join("pool.img"),
        cells.join("pool/environments"),
        cells.join("pool/state.json"),
        run.join("control.sock"),
        run.join("door/door.pid"),
        run.join("gateway/gateway.pid"),
        state.join("serve.lock"),
        state.join("secrets.key"),
        state.join("operator.token"),
        state.join("server.address"),
    ]
}

async fn appears(rig: &Rig, path: &Path) {
    let since = Instant::now();
    while !path.exists() {
        assert!(
            since.elapsed() < PATIENCE,
            "{} never appeared\n{}",
            path.display(),
            rig.log()
        );
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_anywhere_in_its_very_first_start_the_next_one_completes_it() {
    let files = || {
        [
            crate::life::write("compose.yaml", COMPOSE),
            crate::life::write("maquette.yaml", SETTINGS),
        ]
    };
    let count = made(&Rig::new(&[]).await).len();
    for n in 0..count {
        let mut rig = Rig::new(&files()).await;
        let path = made(&rig).swap_remove(n);
        rig.spawn();
        appears(&rig, &path).await;
        rig.kill_all();
        eprintln!("killed when there was {}", path.display());
        rig.start().await;
        let page = crate::life::write("page.txt", "opened\n");
        let (number, commit) = rig.change("first", &[page]).await;
        crate::life::nudge(&rig).await;
        rig.comment(number, &[commit.short(), "live"]).await;
        let visitor = Visitor::new(&rig, &format!("pr-{number}")).await;
        assert_eq!(visitor.get("/page.txt").await, (200, "opened\n".to_owned()));
        rig.close(number).await;
        crate::life::nudge(&rig).await;
        rig.comment(number, &["verified gone"]).await;
    }
}
