//! Repositories of strangers, one of each kind: `maquette init` as they are, and a pull request that is live, follows a push, and is
//! gone with a receipt. Nothing in them is edited, and nothing is fetched from outside of this machine.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "only tests are here"
)]

#[path = "../program/bench.rs"]
#[allow(dead_code, reason = "the other test program uses more of it")]
mod bench;
mod looks;
mod mirror;
mod repository;
#[path = "../refused/rig.rs"]
#[allow(dead_code, reason = "the other test program uses more of it")]
mod rig;

use mirror::Mirror;
use repository::{Repository, Stranger};
use rig::Rig;
use rustix::process::geteuid;
use std::{fs, time::Instant};
use test_support::registry::Registry;

const STRANGERS: [Stranger; 8] = [
    Stranger {
        name: "site",
        wrote: &["compose.yaml", "maquette.yaml"],
        says: &["We row on Tuesdays", "css/style.css"],
        change: ("index.html", "Tuesdays and Saturdays", "Wednesdays"),
        then: &["We row on Wednesdays"],
    },
    // Packages from a mirror, a database with migrations and a seed.
    Stranger {
        name: "python",
        wrote: &["compose.yaml", "maquette.yaml"],
        says: &["Reading list", "The Mythical Man-Month (1975)"],
        change: ("app.py", "<h1>Reading list</h1>", "<h1>Books that we read</h1>"),
        then: &["Books that we read", "A Pattern Language (1977)"],
    },
    // A Compose file and a Dockerfile of years ago: stages, arguments, `.env`, `env_file`, a health check, a named volume.
    Stranger {
        name: "node",
        wrote: &["maquette.yaml"],
        says: &["<h1>Counter</h1>", "Welcome back: visit ", "of the autumn edition"],
        change: (".env", "BUILD_LABEL=autumn", "BUILD_LABEL=winter"),
        then: &["of the winter edition"],
    },
    // Older still; part of the checkout is mounted, a volume begins as what the image has there, and belongs to its user.
    Stranger {
        name: "php",
        wrote: &["maquette.yaml"],
        says: &[
            "Water the plants",
            "Pictures that people upload land here.",
            "Writable: yes",
        ],
        change: ("public/index.php", "<h1>Notes</h1>", "<h1>Our notes</h1>"),
        then: &["Our notes", "Water the plants"],
    },
    // A Dockerfile only.
    Stranger {
        name: "go",
        wrote: &["compose.yaml", "maquette.yaml"],
        says: &["<h1>Guestbook 1.2</h1>"],
        change: ("Dockerfile", "VERSION=1.2", "VERSION=1.3"),
        then: &["<h1>Guestbook 1.3</h1>"],
    },
    Stranger {
        name: "java",
        wrote: &["compose.yaml", "maquette.yaml"],
        says: &["<li>coffee: 3.20</li>"],
        change: ("src/main/java/shop/Prices.java", "320", "340"),
        then: &["<li>coffee: 3.40</li>"],
    },
    Stranger {
        name: "ruby",
        wrote: &["compose.yaml", "maquette.yaml"],
        says: &["<h1>Good morning</h1>", "at your service"],
        change: ("lib/greeting/lib/greeting.rb", "Good morning", "Top of the morning"),
        then: &["<h1>Top of the morning</h1>"],
    },
    Stranger {
        name: "rust",
        wrote: &["compose.yaml", "maquette.yaml"],
        says: &["A die with 6 sides shows "],
        change: ("src/main.rs", "SIDES: u32 = 6", "SIDES: u32 = 20"),
        then: &["A die with 20 sides shows "],
    },
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_repository_goes_from_init_to_live_without_an_edit() {
    if !geteuid().is_root() {
        eprintln!("left out: cells need root");
        return;
    }
    let since = Instant::now();
    let registry = Registry::start().unwrap();
    looks::push(&registry).await;
    eprintln!("images are there after {:?}", since.elapsed());
    let mirror = Mirror::start();
    let mut rig = Rig::new(&[]).await;
    let mut repositories = Vec::new();
    for stranger in &STRANGERS {
        repositories.push(Repository::new(&rig, stranger).await);
    }
    configure(&rig, &registry, &mirror, &repositories);
    rig.start().await;

    let follow = repositories.iter().map(|repository| async {
        repository.goes_live(&rig).await;
        eprintln!("{} is live after {:?}", repository.stranger.name, since.elapsed());
        repository.follows(&rig).await;
        repository.ends(&rig).await;
        eprintln!("{} has gone after {:?}", repository.stranger.name, since.elapsed());
    });
    futures::future::join_all(follow).await;
    rig.stop().await;
}

fn configure(rig: &Rig, registry: &Registry, mirror: &Mirror, repositories: &[Repository]) {
    let config = rig.config();
    let mut text = fs::read_to_string(&config).unwrap();
    for repository in repositories {
        let (name, place) = (repository.stranger.name, repository.place.display());
        text += &format!("  - name: {name}\n    sources:\n      - forge: {{ kind: local, path: {place} }}\n");
    }
    let own = registry.name();
    let usual = images::DEFAULT_REGISTRY;
    text += &format!(
        "images:\n  registries:\n    {usual}: {{ mirrors: [\"{own}\"] }}\n    \"{own}\": {{ private: true, insecure: true }}\n\
         spares: {{ per_project: 0 }}\n"
    );
    let door = format!(
        "door: {{ user: bin, loopback: true, presets: {{ npm: [\"npm.packages.internal={at}:80\"], pypi: [\"pypi.packages.internal={at}:80\"] }} }}",
        at = mirror.address()
    );
    let text = text
        .replace("door: { user: bin }", &door)
        .replace("pool_gib: 1", "pool_gib: 12");
    fs::write(config, text).unwrap();
}
