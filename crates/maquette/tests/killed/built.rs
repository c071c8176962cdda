//! `serve` and the cell host, killed while an image is pulled and unpacked, while one is built from a Dockerfile, and while a build
//! runs in the checkout.
//!
//! How long each of these works lasts is measured in an undisturbed life; it is struck when it begins, after each quarter of that
//! time, and when it has ended. Sixty strikes take minutes: unless `KILL_ALL` is set, every [`STRIDE`]-th is made, which reaches each
//! work with each process, each quarter, and both parts of a life.

use crate::{
    every_step::all,
    kill::{PATIENCE, Part, Process, environment_of, mend, open_store, steps_after},
    left::nothing_is_left,
    life::{Life, nudge, write},
    rig::Rig,
};
use forge::local::FileChange;
use model::{EnvironmentId, Generation};
use rustix::process::{Signal, geteuid, kill_process};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    time::{Duration, Instant},
};
use store::StepRow;
use test_support::{
    image::{Entry, Image, base, layer},
    registry::Registry,
};
use tokio::time::sleep;

/// It has no factor in common with the number of works, of processes, or of quarters.
const STRIDE: usize = 7;
/// Of the image, so that it takes a moment to come and to be unpacked.
const IMAGE_BYTES: usize = 8 << 20;
const QUARTERS: u32 = 4;

/// What is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Work {
    /// Layers are fetched from the registry and unpacked.
    Image,
    /// `buildah` builds, and what it made is unpacked. What the Dockerfile starts from is fetched first.
    Dockerfile,
    /// A command in the checkout, and a snapshot of what it made.
    InCheckout,
}

const WORKS: [Work; 3] = [Work::Image, Work::Dockerfile, Work::InCheckout];
const STRUCK: [Process; 2] = [Process::Serve, Process::CellHost];
const PARTS: [Part; 2] = [Part::Open, Part::Push];

impl Work {
    fn is(self, step: &str) -> bool {
        step.starts_with(match self {
            Self::Image => "image:",
            Self::Dockerfile => "build:",
            Self::InCheckout => "job:build-",
        })
    }

    fn of(self, steps: &[StepRow]) -> Option<&StepRow> {
        steps.iter().find(|row| self.is(&row.step))
    }
}

/// How long each work lasts in each part of a life.
type Lasts = BTreeMap<(Part, Work), Duration>;

/// One kill.
#[derive(Clone, Copy, Debug)]
struct Strike {
    part: Part,
    work: Work,
    /// Of the time that the work lasts; all of them when it has ended.
    quarters: u32,
    process: Process,
}

impl fmt::Display for Strike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            part,
            work,
            quarters,
            process,
        } = self;
        write!(f, "{process:?} at {quarters}/{QUARTERS} of {work:?} of {part:?}")
    }
}

fn strikes() -> Vec<Strike> {
    let mut strikes = Vec::new();
    for part in PARTS {
        for quarters in 0..=QUARTERS {
            for process in STRUCK {
                strikes.extend(WORKS.map(|work| Strike {
                    part,
                    work,
                    quarters,
                    process,
                }));
            }
        }
    }
    strikes.into_iter().step_by(if all() { 1 } else { STRIDE }).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_images_are_pulled_and_built_it_converges_and_nothing_is_left() {
    if !geteuid().is_root() {
        eprintln!("left out: cells need root");
        return;
    }
    let registry = Registry::start().unwrap();
    let mut rig = started(&registry).await;
    let since = Instant::now();
    let lasts = live_through(&mut rig, &registry, "undisturbed", &[], &Lasts::new()).await;
    eprintln!("{:?}, undisturbed: {lasts:?}", since.elapsed());
    for part in PARTS {
        assert!(WORKS.iter().all(|work| lasts.contains_key(&(part, *work))), "{lasts:?}");
    }
    let strikes = strikes();
    for process in STRUCK {
        let works: BTreeSet<Work> = strikes
            .iter()
            .filter(|s| s.process == process)
            .map(|s| s.work)
            .collect();
        assert_eq!(works, WORKS.into(), "{process:?}");
    }
    let of = |part: Part| strikes.iter().filter(move |strike| strike.part == part);
    let lives = of(Part::Open).count().max(of(Part::Push).count());
    for n in 0..lives {
        let life: Vec<Strike> = PARTS.iter().filter_map(|part| of(*part).nth(n)).copied().collect();
        for strike in &life {
            eprintln!("{:?}, killing {strike}", since.elapsed());
        }
        live_through(&mut rig, &registry, &format!("life-{n}"), &life, &lasts).await;
    }
    nothing_is_left(&mut rig).await;
    nothing_unfinished(&rig).await;
    eprintln!("{:?}, {} kills", since.elapsed(), strikes.len());
}

/// Maquette with one project, whose pull requests say which images they want.
async fn started(registry: &Registry) -> Rig {
    let mut rig = Rig::new(&files(&registry.name(), "main")).await;
    let path = rig.config();
    let text = fs::read_to_string(&path).unwrap();
    // Images stay for those that come after.
    let text = text.replace("pool_gib: 1", "pool_gib: 4");
    let more = format!(
        "images: {{ registries: {{ \"{}\": {{ private: true, insecure: true }} }} }}\nspares: {{ per_project: 0 }}\n",
        registry.name()
    );
    fs::write(&path, text + &more).unwrap();
    rig.start().await;
    rig
}

/// A service from an image with a build in the checkout, and one from a Dockerfile. Nothing of it was there for another tag.
fn files(registry: &str, tag: &str) -> Vec<FileChange> {
    let compose = format!(
        "services:\n  web:\n    image: {registry}/team/web:{tag}\n    command: [httpd, -f, -p, \"8080\", -h, /app/out]\n    \
         working_dir: /app\n    volumes: [\".:/app\"]\n    ports: [\"8080:8080\"]\n  app:\n    build: .\n"
    );
    let settings = "stack:\n  services:\n    web:\n      public: true\n      build:\n        \
                    run: [sh, -c, \"mkdir out && cat page.txt /image > out/index.html && sleep 0.3\"]\n        \
                    inputs: [page.txt]\n        outputs: [out]\npolicy: { baseline: none }\n";
    let dockerfile = format!(
        "FROM {registry}/team/base:{tag}\nCOPY page.txt /page.txt\nRUN cat /page.txt /base > /made\nCMD [\"sleep\", \"100000\"]\n"
    );
    vec![
        write("compose.yaml", compose),
        write("maquette.yaml", settings),
        write("Dockerfile", dockerfile),
        write("page.txt", format!("page of {tag}\n")),
    ]
}

/// Pushes the images of a tag: nobody has seen any of their own layers.
async fn push(registry: &Registry, tag: &str) {
    let config = json!({ "Env": ["PATH=/bin"], "Cmd": ["sh"] });
    let mut seed = tag
        .bytes()
        .fold(1u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        // Marsaglia's shift register; what comes of it can not be compressed.
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed.to_le_bytes()
    })
    .take(IMAGE_BYTES / 8)
    .flatten()
    .collect();
    let own = [
        Entry::file("image", format!("image of {tag}\n")),
        Entry::file("noise", noise),
    ];
    let web = Image::new(vec![base().unwrap(), layer(&own).unwrap()], &config);
    web.push(&registry.name(), "team/web", tag).await.unwrap();
    let own = [Entry::file("base", format!("base of {tag}\n"))];
    let below = Image::new(vec![base().unwrap(), layer(&own).unwrap()], &config);
    below.push(&registry.name(), "team/base", tag).await.unwrap();
}

/// A whole life, with at most one kill in each part of it. Returns how long the works lasted.
async fn live_through(rig: &mut Rig, registry: &Registry, branch: &str, strikes: &[Strike], usual: &Lasts) -> Lasts {
    let strike_in = |part| strikes.iter().find(move |strike| strike.part == part);
    let mut lasts = Lasts::new();
    let tags = [format!("{branch}-opened"), format!("{branch}-pushed")];
    for tag in &tags {
        push(registry, tag).await;
    }
    let (number, commit) = rig.change(branch, &files(&registry.name(), &tags[0])).await;
    nudge(rig).await;
    let life = Life {
        number,
        branch: branch.to_owned(),
        label: format!("pr-{number}"),
    };
    if let Some(strike) = strike_in(Part::Open) {
        struck(rig, &life, Generation(0), strike, usual).await;
    }
    let id = life.live(rig, &commit).await;
    measured(rig, Part::Open, &id, Generation(0), &mut lasts).await;
    made_of(rig, &life, &tags[0]).await;

    let before = newest(rig, &id).await;
    let commit = rig.push(branch, &files(&registry.name(), &tags[1])).await;
    nudge(rig).await;
    if let Some(strike) = strike_in(Part::Push) {
        struck(rig, &life, before, strike, usual).await;
    }
    assert_eq!(life.live(rig, &commit).await, id, "a push made another environment");
    measured(rig, Part::Push, &id, before, &mut lasts).await;
    made_of(rig, &life, &tags[1]).await;

    life.close(rig).await;
    life.ended(rig, &id).await;
    let ever = life.environments(rig).await.len();
    assert_eq!(ever, 1, "one pull request, one environment");
    lasts
}

/// Kills a process in the middle of a work, and starts it again.
async fn struck(rig: &mut Rig, life: &Life, before: Generation, strike: &Strike, usual: &Lasts) {
    let store = open_store(rig).await;
    let (since, mut begun) = (Instant::now(), None);
    let share = usual[&(strike.part, strike.work)] * strike.quarters / QUARTERS;
    loop {
        if let Some(id) = environment_of(&store, &life.origin()).await {
            let steps = steps_after(&store, &id, before).await;
            if let Some(row) = strike.work.of(&steps) {
                let begun = *begun.get_or_insert_with(Instant::now);
                let in_time = strike.quarters < QUARTERS && begun.elapsed() >= share;
                if in_time || row.ok == Some(true) {
                    break;
                }
            }
        }
        assert!(since.elapsed() < PATIENCE, "{strike} was not reached\n{}", rig.log());
        sleep(Duration::from_millis(1)).await;
    }
    let pid = strike.process.pid(rig).expect("a process that runs");
    kill_process(pid, Signal::KILL).unwrap();
    store.close().await;
    mend(rig, strike.process, pid).await;
}

async fn newest(rig: &Rig, id: &EnvironmentId) -> Generation {
    let store = open_store(rig).await;
    let newest = store.environment_get(id).await.unwrap().unwrap().newest.unwrap();
    store.close().await;
    newest
}

async fn measured(rig: &Rig, part: Part, id: &EnvironmentId, before: Generation, lasts: &mut Lasts) {
    let store = open_store(rig).await;
    let steps = steps_after(&store, id, before).await;
    store.close().await;
    for work in WORKS {
        let row = work.of(&steps).unwrap_or_else(|| panic!("no {work:?}: {steps:#?}"));
        if let Some(ended) = row.ended {
            lasts.insert((part, work), ended.since(row.began));
        }
    }
}

/// What runs is whole, and of this tag: the files of both images, and what either build made.
async fn made_of(rig: &Rig, life: &Life, tag: &str) {
    let page = rig
        .ok(&["exec", &life.label, "web", "--", "cat", "/app/out/index.html", "/image"])
        .await;
    assert_eq!(page, format!("page of {tag}\nimage of {tag}\nimage of {tag}\n"));
    let size = rig
        .ok(&["exec", &life.label, "web", "--", "stat", "-c", "%s", "/noise"])
        .await;
    assert_eq!(size.trim(), IMAGE_BYTES.to_string());
    let made = rig.ok(&["exec", &life.label, "app", "--", "cat", "/made"]).await;
    assert_eq!(made, format!("page of {tag}\nbase of {tag}\n"));
}

/// Waits until no image and no layer is half there, and every image is known by name.
async fn nothing_unfinished(rig: &Rig) {
    let names = |path| {
        let entries = fs::read_dir(rig.root.join(path)).unwrap().flatten();
        entries
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect::<BTreeSet<_>>()
    };
    let since = Instant::now();
    loop {
        let store = open_store(rig).await;
        let rows = store.image_list().await.unwrap();
        store.close().await;
        let known: BTreeSet<String> = rows.iter().map(|row| row.digest.hex().to_owned()).collect();
        let (there, drafts) = (names("cells/pool/images"), names("state/images/drafts"));
        let half: Vec<_> = there.difference(&known).chain(&drafts).collect();
        if half.is_empty() {
            return;
        }
        assert!(since.elapsed() < PATIENCE, "half there: {half:?}\n{}", rig.log());
        sleep(Duration::from_millis(100)).await;
    }
}
