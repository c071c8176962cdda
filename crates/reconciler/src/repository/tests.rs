//! What is told of files that could not be read.

use super::*;
use crate::project::Base;
use forge::{
    git::GitLimits,
    local::{FileChange, LocalForge},
};
use model::BranchName;

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_git_can_not_read_now_is_no_fact_of_the_commit() {
    let directory = tempfile::tempdir().unwrap();
    let main: BranchName = "main".parse().unwrap();
    let path = "developer/shop".parse().unwrap();
    let forge = LocalForge::open(directory.path().join("forge"), &path, &main)
        .await
        .unwrap();
    let files = [FileChange::write("maquette.yaml", "policy: {}\n")];
    let commit = forge.commit(&main, None, &files, "Begin").await.unwrap();
    let source = Source {
        name: "shop".parse().unwrap(),
        repository: forge.repository_id().clone(),
        forge: Arc::new(forge),
        base_branch: main.clone(),
        policy_branch: main,
    };
    let project = Project {
        name: "shop".parse().unwrap(),
        base: Base {
            scheme: "http".into(),
            domain: "preview.test".into(),
            port: None,
            shared: false,
        },
        joins: false,
        cluster: None,
        sources: vec![source],
    };
    let (name, source) = (project.name.clone(), &project.sources[0]);
    let git = Git::new(directory.path().join("git"), GitLimits::default()).unwrap();
    let mirrors = directory.path().join("mirrors");
    let repositories = Repositories::open(&git, mirrors.clone(), std::iter::once(&project))
        .await
        .unwrap();
    repositories.ensure(&name, source, &commit, None).await.unwrap();
    let tree = Arc::new(repositories.tree(&name, &source.name, &commit).await.unwrap());
    let read = || {
        let tree = Arc::clone(&tree);
        tokio::task::spawn_blocking(move || {
            let read = tree.read("maquette.yaml").map(Cow::into_owned);
            (read, tree.trouble().end(&"shop".parse().unwrap()))
        })
    };
    let objects = mirrors.join(place(&name, &source.name)).join("objects");
    let aside = directory.path().join("aside");
    std::fs::rename(&objects, &aside).unwrap();
    let (file, ended) = read().await.unwrap();
    assert_eq!(file, None);
    assert!(!ended.unwrap_err().is_users(), "it is taken for the commit's own fault");
    std::fs::rename(&aside, &objects).unwrap();
    let (file, ended) = read().await.unwrap();
    assert_eq!(file.as_deref(), Some(b"policy: {}\n".as_slice()));
    ended.unwrap();
}
