//! Pull requests on Gitea.

use super::{Gitea, repository, wire};
use crate::{
    Account, DisplayText, ForgeError, HeadOrigin, PullRequest, PullRequestFact, PullRequestNumber, PullRequestState,
    RepositoryId, Result,
};

/// How many entries are asked for at a time: what Gitea gives at most unless it is configured otherwise.
pub(super) const PAGE: usize = 50;
/// The most pages of open pull requests that are read.
const PAGES_MAX: usize = 20;
/// The most labels that are kept.
const LABELS_MAX: usize = 100;

pub(super) async fn list_open(gitea: &Gitea, id: &RepositoryId) -> Result<Vec<PullRequest>> {
    let path = repository::read(gitea, id).await?.path;
    let what = format!("open pull requests of {path}");
    let mut all = Vec::new();
    for page in 1..=PAGES_MAX {
        let mut url = gitea.repository_url(&path, &["pulls"]);
        url.query_pairs_mut()
            .append_pair("state", "open")
            .append_pair("sort", "oldest")
            .append_pair("limit", &PAGE.to_string())
            .append_pair("page", &page.to_string());
        // A server may be configured to give fewer at a time, so only an empty page is the last one.
        let found: Vec<serde_json::Value> = gitea.client.get(&what, &url).await?;
        if found.is_empty() {
            break;
        }
        for document in found {
            let number = document.get("number").and_then(serde_json::Value::as_u64);
            let read = serde_json::from_value::<wire::PullRequest>(document)
                .map_err(|error| ForgeError::invalid(&what, error.to_string()))
                .and_then(|found| convert(id, found));
            // One that can not be read must not hide the others.
            match read {
                Ok(pull) => all.push(pull),
                Err(error) => tracing::warn!(repository = %id, number, %error, "skipping a pull request"),
            }
        }
    }
    Ok(all)
}

pub(super) async fn read(gitea: &Gitea, id: &RepositoryId, number: PullRequestNumber) -> Result<PullRequestFact> {
    let path = repository::read(gitea, id).await?.path;
    let what = format!("pull request {number} of {path}");
    let url = gitea.repository_url(&path, &["pulls", &number.to_string()]);
    match gitea.client.get::<wire::PullRequest>(&what, &url).await {
        Ok(found) if found.number != number.0 => Err(ForgeError::invalid(
            what,
            "the forge answered with another pull request",
        )),
        Ok(found) => Ok(PullRequestFact::Present(Box::new(convert(id, found)?))),
        Err(ForgeError::NotFound { .. }) => {
            gitea.absent_if_visible(id, &path).await?;
            Ok(PullRequestFact::Absent)
        }
        Err(error) => Err(error),
    }
}

fn convert(id: &RepositoryId, found: wire::PullRequest) -> Result<PullRequest> {
    let what = format!("pull request {} of repository {id}", found.number);
    if repository_id(found.base.repo_id).as_ref() != Some(id) {
        return Err(ForgeError::invalid(what, "it belongs to another repository"));
    }
    let state = match (found.merged, found.state.as_str()) {
        (true, _) => PullRequestState::Merged,
        (false, "open") => PullRequestState::Open,
        (false, "closed") => PullRequestState::Closed,
        (false, other) => return Err(ForgeError::invalid(what, format!("its state `{other}` is unknown"))),
    };
    let ghost = Account {
        id: 0,
        login: DisplayText::new("ghost"),
    };
    let labels = found
        .labels
        .iter()
        .take(LABELS_MAX)
        .map(|label| DisplayText::new(&label.name))
        .collect();
    Ok(PullRequest {
        repository: id.clone(),
        number: PullRequestNumber(found.number),
        state,
        origin: origin(&found),
        head: repository::commit(&what, &found.head.sha)?,
        head_label: DisplayText::new(if found.head.label.is_empty() {
            &found.head.reference
        } else {
            &found.head.label
        }),
        base: found.base.reference.parse().ok(),
        fetch_ref: format!("refs/pull/{}/head", found.number),
        title: DisplayText::new(&found.title),
        author: found.user.as_ref().map_or(ghost, wire::User::account),
        labels,
        draft: found.draft,
        updated: wire::time(found.updated_at.as_deref().unwrap_or_default()),
        page: repository::page(&found.html_url),
    })
}

fn repository_id(id: i64) -> Option<RepositoryId> {
    u64::try_from(id).ok().filter(|id| *id > 0).map(RepositoryId::from)
}

/// Equal repository ids are not enough: a pull request pushed to `refs/for/…` (AGit) names the base repository as its
/// head, has no branch, and needs no right to push.
fn origin(found: &wire::PullRequest) -> HeadOrigin {
    if found.head.repo_id != found.base.repo_id {
        return HeadOrigin::Fork {
            repository: repository_id(found.head.repo_id),
        };
    }
    match found.head.label.parse() {
        Ok(branch) if found.head.label == found.head.reference => HeadOrigin::BaseRepository(branch),
        _ => HeadOrigin::Detached,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn document(change: impl FnOnce(&mut Value)) -> Result<PullRequest> {
        let mut document = json!({
            "number": 7, "title": "x", "state": "open", "labels": null, "user": {"id": 3, "login": "ada"},
            "base": {"label": "main", "ref": "main", "sha": "b".repeat(40), "repo_id": 1},
            "head": {"label": "topic", "ref": "topic", "sha": "a".repeat(40), "repo_id": 1},
        });
        change(&mut document);
        convert(&RepositoryId::from(1), serde_json::from_value(document).unwrap())
    }

    #[test]
    fn only_a_branch_of_the_same_repository_is_of_the_base() {
        let pull = document(|_| ()).unwrap();
        assert_eq!(pull.origin, HeadOrigin::BaseRepository("topic".parse().unwrap()));
        let fork = document(|d| d["head"]["repo_id"] = json!(2)).unwrap();
        assert_eq!(
            fork.origin,
            HeadOrigin::Fork {
                repository: Some(RepositoryId::from(2))
            }
        );
        let gone = document(|d| d["head"]["repo_id"] = json!(-1)).unwrap();
        assert_eq!(gone.origin, HeadOrigin::Fork { repository: None });
    }

    #[test]
    fn a_head_without_a_branch_is_detached() {
        let pushed = document(|d| {
            d["head"]["label"] = json!("");
            d["head"]["ref"] = json!("refs/pull/7/head");
        });
        assert_eq!(pushed.unwrap().origin, HeadOrigin::Detached);
        let deleted = document(|d| d["head"]["ref"] = json!("refs/pull/7/head"));
        assert_eq!(deleted.unwrap().origin, HeadOrigin::Detached);
    }

    #[test]
    fn names_that_attack_are_shown_cleaned_and_never_become_branches() {
        let name = "a\u{202e}b";
        let pull = document(|d| {
            d["head"]["label"] = json!(name);
            d["head"]["ref"] = json!(name);
            d["base"]["ref"] = json!("-x");
            d["title"] = json!("\u{1b}]0;owned\u{7} ".to_owned() + &"x".repeat(10_000));
            d["labels"] = json!([{"name": "pre\u{200b}view\n"}]);
        })
        .unwrap();
        assert_eq!(pull.origin, HeadOrigin::Detached);
        assert_eq!(pull.base, None);
        assert_eq!(pull.head_label.as_str(), "ab");
        assert!(pull.title.as_str().starts_with("]0;owned x") && pull.title.as_str().len() <= 300);
        assert_eq!(pull.labels[0].as_str(), "preview");
    }

    #[test]
    fn a_pull_request_of_another_repository_is_refused() {
        assert!(document(|d| d["base"]["repo_id"] = json!(9)).is_err());
        assert!(document(|d| d["state"] = json!("locked")).is_err());
        assert!(document(|d| d["head"]["sha"] = json!("")).is_err());
    }

    #[test]
    fn merged_is_closed() {
        let pull = document(|d| {
            d["state"] = json!("closed");
            d["merged"] = json!(true);
        });
        assert_eq!(pull.unwrap().state, PullRequestState::Merged);
    }
}
