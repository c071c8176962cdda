//! The power is cut, and a pool that had not been written to disk comes back without the newest volume.

use crate::{
    life::{Life, running},
    rig::Rig,
};
use model::EnvironmentId;
use serde_json::Value;
use std::{fs, process::Command};

/// What the next boot finds: no process, another name for this boot, and no volume of the database.
fn lose_volume(rig: &mut Rig, id: &EnvironmentId) {
    rig.kill_all();
    let volumes = rig.root.join("cells/pool/environments").join(id.as_str());
    let lost: Vec<_> = fs::read_dir(&volumes)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let lost: Vec<_> = lost
        .into_iter()
        .filter(|path| path.to_string_lossy().ends_with("-data"))
        .collect();
    assert_eq!(lost.len(), 1, "{lost:?}");
    let output = Command::new("btrfs")
        .args(["subvolume", "delete"])
        .arg(&lost[0])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let file = rig
        .root
        .join("cells/environments")
        .join(id.as_str())
        .join("record.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    record["boot"] = "earlier".into();
    fs::write(&file, serde_json::to_vec(&record).unwrap()).unwrap();
    let state = r#"{"boot_id":"earlier","orderly":false,"suspect":false}"#;
    fs::write(rig.root.join("cells/pool/state.json"), state).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_whose_volume_a_power_cut_took_is_migrated_anew_and_that_is_told() {
    let mut rig = running().await;
    let (life, commit) = Life::open(&rig, "lost").await;
    let id = life.live(&rig, &commit).await;
    let commit = life.push(&rig).await;
    assert_eq!(life.live(&rig, &commit).await, id);
    life.sql(&rig, "INSERT INTO note VALUES ('by a reviewer')").await;
    lose_volume(&mut rig, &id);

    rig.start().await;
    rig.says(&["show", &life.label], &["made anew"]).await;
    let columns = "SELECT count(*) FROM information_schema.columns WHERE table_name = 'note' AND column_name = 'stars'";
    let migrated = [
        "exec",
        "-e",
        "PGPASSWORD=shop",
        &life.label,
        "db",
        "psql",
        "-h",
        "127.0.0.1",
        "-U",
        "shop",
        "-d",
        "shop",
    ];
    // The migration that the pull request brings, in a clone of the golden that does not have it.
    rig.says(&[&migrated[..], &["-tAc", columns]].concat(), &["1"]).await;
    let rows = life.sql(&rig, "SELECT text, stars FROM note ORDER BY text").await;
    assert_eq!(rows, "a seed|\n");
    assert_eq!(life.live(&rig, &commit).await, id);
    life.visited(&rig, "pushed").await;
    life.close(&rig).await;
    life.ended(&rig, &id).await;
}
