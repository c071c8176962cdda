//! The writer on real repositories, with others who push to them.

use super::*;
use forge::{
    Remote, RemoteKind,
    git::{Git, GitLimits},
};
use futures::future::join_all;
use std::path::PathBuf;
use tempfile::TempDir;
use test_support::gitea::WorkTree;
use url::Url;

/// A bare repository, and what somebody else sees of it.
struct World {
    dir: TempDir,
    other: WorkTree,
}

impl World {
    /// One with a commit of somebody else's.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let other = WorkTree::init().unwrap();
        let bare = dir.path().join("team.git");
        other
            .git(&[
                "init",
                "--quiet",
                "--bare",
                "--initial-branch=main",
                bare.to_str().unwrap(),
            ])
            .unwrap();
        other.git(&["remote", "add", "origin", bare.to_str().unwrap()]).unwrap();
        other.commit("README.md", "theirs", "begin").unwrap();
        other.git(&["push", "--quiet", "origin", "main"]).unwrap();
        Self { dir, other }
    }

    fn bare(&self) -> PathBuf {
        self.dir.path().join("team.git")
    }

    /// A writer with a copy of this name.
    async fn writer(&self, copy: &str) -> Writer {
        let copy = self.dir.path().join(copy);
        let git = Git::new(copy.join("home"), GitLimits::default()).unwrap();
        let remote = Remote {
            url: Url::from_file_path(self.bare()).unwrap(),
            kind: RemoteKind::File,
            authorization: None,
        };
        let branch = Branch::open(git, copy.join("repository.git"), remote, "main".parse().unwrap())
            .await
            .unwrap();
        let place = Place {
            folder: "previews".to_owned(),
            name: "Maquette".to_owned(),
            email: "maquette@example.com".to_owned(),
            interval: Duration::from_millis(50),
            called: "team".to_owned(),
        };
        Writer::start(branch, place)
    }

    /// Fetches, and prints what git prints of the branch.
    fn git(&self, args: &[&str]) -> String {
        self.other.git(&["fetch", "--quiet", "origin"]).unwrap();
        self.other.git(args).unwrap()
    }

    fn file(&self, path: &str) -> String {
        self.git(&["show", &format!("origin/main:{path}")])
    }

    fn files(&self) -> Vec<String> {
        self.git(&["ls-tree", "-r", "--name-only", "origin/main"])
            .lines()
            .map(str::to_owned)
            .collect()
    }
}

fn order(environment: &str, generation: u64, text: &str) -> Order {
    let text = text.to_owned();
    Order {
        environment: environment.parse().unwrap(),
        about: Some("shop pull request 7".to_owned()),
        generation: Generation(generation),
        what: format!("web of generation {generation}"),
        edit: Some(Box::new(move |files| {
            files.insert("stack/deployment-web.yaml".to_owned(), text.clone().into_bytes());
        })),
    }
}

fn removal(environment: &str, generation: u64) -> Order {
    Order {
        about: None,
        what: "removed".to_owned(),
        edit: None,
        ..order(environment, generation, "")
    }
}

#[tokio::test]
async fn a_folder_is_written_so_that_a_person_can_follow_it_and_removed_alone() {
    let world = World::new();
    let writer = world.writer("copy").await;
    assert_eq!(writer.list().await.unwrap(), Vec::<String>::new());
    let first = writer.write(order("e000000007", 1, "one")).await.unwrap().unwrap();
    writer.write(order("e000000008", 1, "eight")).await.unwrap();
    let again = writer.write(order("e000000007", 1, "one")).await.unwrap().unwrap();
    assert_eq!(first, again, "what is there already is not committed again");
    assert_eq!(world.file("previews/e000000007/stack/deployment-web.yaml"), "one");
    assert_eq!(writer.list().await.unwrap(), ["e000000007", "e000000008"]);
    let log = world.git(&["log", "--reverse", "--format=%an <%ae>: %s", "origin/main"]);
    let log: Vec<&str> = log.lines().skip(1).collect();
    assert_eq!(
        log,
        [
            "Maquette <maquette@example.com>: shop pull request 7: web of generation 1",
            "Maquette <maquette@example.com>: shop pull request 7: web of generation 1",
        ]
    );
    writer.write(removal("e000000007", 2)).await.unwrap();
    writer.write(removal("e000000007", 2)).await.unwrap();
    writer.write(removal("e999999999", 2)).await.unwrap();
    let left = world.files();
    assert!(left.contains(&"README.md".to_owned()), "{left:?}");
    assert!(left.iter().all(|path| !path.contains("e000000007")), "{left:?}");
    assert_eq!(world.file("previews/e000000008/stack/deployment-web.yaml"), "eight");
}

#[tokio::test]
async fn a_repository_without_a_commit_gets_its_first() {
    let world = World::new();
    std::fs::remove_dir_all(world.bare()).unwrap();
    world
        .other
        .git(&[
            "init",
            "--quiet",
            "--bare",
            "--initial-branch=main",
            world.bare().to_str().unwrap(),
        ])
        .unwrap();
    let writer = world.writer("copy").await;
    assert_eq!(writer.list().await.unwrap(), Vec::<String>::new());
    assert_eq!(writer.write(removal("e000000007", 1)).await.unwrap(), None);
    writer.write(order("e000000007", 1, "one")).await.unwrap().unwrap();
    assert_eq!(world.file("previews/e000000007/stack/deployment-web.yaml"), "one");
}

#[tokio::test]
async fn an_older_generation_is_refused_whoever_has_written_the_newer_one() {
    let world = World::new();
    let (one, two) = (world.writer("one").await, world.writer("two").await);
    one.write(order("e000000007", 1, "one")).await.unwrap();
    two.write(order("e000000007", 3, "three")).await.unwrap();
    for late in [order("e000000007", 2, "two"), removal("e000000007", 2)] {
        let refused = one.write(late).await;
        assert!(
            matches!(
                &refused,
                Err(RuntimeError::Superseded {
                    newest: Generation(3),
                    given: Generation(2),
                    ..
                })
            ),
            "{refused:?}"
        );
    }
    assert_eq!(world.file("previews/e000000007/stack/deployment-web.yaml"), "three");
    one.write(order("e000000007", 3, "three again")).await.unwrap();
    assert_eq!(
        world.file("previews/e000000007/stack/deployment-web.yaml"),
        "three again"
    );
}

#[tokio::test]
async fn of_what_waits_for_one_environment_only_the_newest_generation_is_written() {
    let world = World::new();
    let writer = world.writer("copy").await;
    // Whoever is first is under way before the others have asked.
    writer.write(order("e000000001", 1, "first")).await.unwrap();
    let answers =
        join_all((1..=20).map(|number| writer.write(order("e000000007", number, &format!("{number}"))))).await;
    assert!(answers[19].is_ok(), "{:?}", answers[19]);
    let dropped = answers
        .iter()
        .filter(|answer| matches!(answer, Err(RuntimeError::Superseded { .. })));
    assert_eq!(
        dropped.count(),
        19,
        "they were all asked before the first could be written"
    );
    assert_eq!(world.file("previews/e000000007/stack/deployment-web.yaml"), "20");
    assert_eq!(world.git(&["rev-list", "--count", "origin/main"]), "3");
}

#[tokio::test]
async fn what_others_change_in_a_folder_of_ours_is_undone_with_the_next_delivery() {
    let world = World::new();
    let writer = world.writer("copy").await;
    writer.write(order("e000000007", 1, "ours")).await.unwrap();
    world
        .other
        .git(&["pull", "--quiet", "--rebase", "origin", "main"])
        .unwrap();
    world
        .other
        .commit("previews/e000000007/stack/deployment-web.yaml", "theirs", "by hand")
        .unwrap();
    world
        .other
        .commit("previews/e000000007/stack/service-extra.yaml", "theirs", "by hand, too")
        .unwrap();
    world.other.git(&["push", "--quiet", "origin", "HEAD:main"]).unwrap();
    let mut more = order("e000000007", 1, "ours");
    more.edit = Some(Box::new(|files| {
        files.insert("stack/deployment-api.yaml".to_owned(), b"api".to_vec());
    }));
    writer.write(more).await.unwrap();
    let files = world.files();
    assert!(
        files.contains(&"previews/e000000007/stack/deployment-api.yaml".to_owned()),
        "{files:?}"
    );
    assert!(
        !files.contains(&"previews/e000000007/stack/service-extra.yaml".to_owned()),
        "{files:?}"
    );
    assert_eq!(world.file("previews/e000000007/stack/deployment-web.yaml"), "ours");
}

#[tokio::test]
async fn a_branch_that_others_have_rewritten_is_taken_as_it_is() {
    let world = World::new();
    let writer = world.writer("copy").await;
    let first = writer.write(order("e000000007", 1, "ours")).await.unwrap().unwrap();
    let amend = || {
        world.other.git(&["fetch", "--quiet", "origin"]).unwrap();
        world.other.git(&["reset", "--quiet", "--hard", "origin/main"]).unwrap();
        world
            .other
            .git(&["commit", "--quiet", "--amend", "-m", "in other words"])
            .unwrap();
        world
            .other
            .git(&["push", "--quiet", "--force", "origin", "HEAD:main"])
            .unwrap();
    };
    amend();
    let again = writer.write(order("e000000007", 1, "ours")).await.unwrap().unwrap();
    assert_eq!(world.git(&["rev-parse", "origin/main"]), again.to_string());
    assert_ne!(first, again, "the first one is not in the branch any more");
    amend();
    writer.write(order("e000000007", 2, "more")).await.unwrap();
    assert_eq!(world.file("previews/e000000007/stack/deployment-web.yaml"), "more");
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_environments_and_somebody_else_write_at_once_and_nothing_is_lost() {
    const ENVIRONMENTS: usize = 50;
    const GENERATIONS: u64 = 3;
    const THEIRS: usize = 10;
    let world = World::new();
    let writer = world.writer("copy").await;
    let each = |number: usize| {
        let writer = &writer;
        async move {
            for generation in 1..=GENERATIONS {
                let text = format!("{number} {generation}");
                let written = writer.write(order(&format!("e{number:09}"), generation, &text)).await;
                written.unwrap().unwrap();
            }
        }
    };
    let bare = world.bare();
    let others = tokio::task::spawn_blocking(move || {
        let other = WorkTree::clone(bare.to_str().unwrap()).unwrap();
        for number in 0..THEIRS {
            other
                .commit(&format!("theirs/{number}"), "theirs", "of somebody else")
                .unwrap();
            // As people do it: until nobody else was faster.
            while other.git(&["push", "--quiet", "origin", "HEAD:main"]).is_err() {
                other.git(&["pull", "--quiet", "--rebase", "origin", "main"]).unwrap();
            }
        }
    });
    join_all((0..ENVIRONMENTS).map(each)).await;
    others.await.unwrap();
    let files = world.files();
    for number in 0..THEIRS {
        assert!(files.contains(&format!("theirs/{number}")), "{files:?}");
    }
    for number in 0..ENVIRONMENTS {
        let text = world.other.git(&[
            "show",
            &format!("origin/main:previews/e{number:09}/stack/deployment-web.yaml"),
        ]);
        assert_eq!(text.unwrap(), format!("{number} {GENERATIONS}"));
    }
    let ours = world.git(&["log", "--author=Maquette", "--format=%s", "origin/main"]);
    assert_eq!(
        ours.lines().count(),
        ENVIRONMENTS * usize::try_from(GENERATIONS).unwrap()
    );
}

#[tokio::test]
async fn a_repository_that_is_away_is_told_and_written_when_it_is_back() {
    let world = World::new();
    let writer = world.writer("copy").await;
    writer.write(order("e000000007", 1, "one")).await.unwrap();
    let away = world.dir.path().join("away.git");
    std::fs::rename(world.bare(), &away).unwrap();
    let back = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        std::fs::rename(&away, world.bare()).unwrap();
    };
    let (written, ()) = futures::join!(writer.write(order("e000000007", 2, "two")), back);
    written.unwrap();
    assert_eq!(world.file("previews/e000000007/stack/deployment-web.yaml"), "two");
    std::fs::rename(world.bare(), &away).unwrap();
    let told = writer.write(order("e000000007", 3, "three")).await.unwrap_err();
    assert!(matches!(told, RuntimeError::Unreachable { .. }), "{told:?}");
    assert!(told.to_string().contains("the GitOps repository team"), "{told}");
    assert!(matches!(writer.list().await, Err(RuntimeError::Unreachable { .. })));
}
