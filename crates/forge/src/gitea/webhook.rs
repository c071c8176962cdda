//! Webhooks of Gitea: registering one, and reading what it delivers.

use super::{Gitea, pull_request::PAGE, repository, wire};
use crate::{
    Delivery, DeliveryError, DeliveryId, Headers, MAX_DELIVERY_BYTES, PullRequestAction, PullRequestNumber, Received,
    RepositoryId, Result, Secret, Subject, WebhookId,
    delivery::{header, verify_signature},
};
use reqwest::Method;
use serde_json::json;
use url::Url;

/// The most pages of webhooks that are searched for ours.
const PAGES_MAX: usize = 4;
/// `pull_request` stands for everything that concerns one: pushes, labels and comments, too.
const EVENTS: [&str; 5] = ["create", "delete", "push", "pull_request", "repository"];

pub(super) async fn ensure(
    gitea: &Gitea,
    id: &RepositoryId,
    url: &Url,
    secret: &Secret,
    known: Option<WebhookId>,
) -> Result<WebhookId> {
    let path = gitea.path(id).await?;
    let what = format!("webhooks of {path}");
    let mut ours = Vec::new();
    for page in 1..=PAGES_MAX {
        let mut list = gitea.repository_url(&path, &["hooks"]);
        list.query_pairs_mut()
            .append_pair("limit", &PAGE.to_string())
            .append_pair("page", &page.to_string());
        let found: Vec<wire::Hook> = gitea.client.get(&what, &list).await?;
        if found.is_empty() {
            break;
        }
        ours.extend(found.into_iter().filter(|hook| hook.config.url == url.as_str()));
    }
    let kept = ours
        .iter()
        .find(|hook| hook.active && known == Some(WebhookId(hook.id)))
        .map(|hook| hook.id);
    for surplus in ours.iter().filter(|hook| Some(hook.id) != kept) {
        let hook = gitea.repository_url(&path, &["hooks", &surplus.id.to_string()]);
        gitea.client.delete(&what, hook).await?;
    }
    if let Some(kept) = kept {
        return Ok(WebhookId(kept));
    }
    let body = json!({
        "type": "gitea",
        "active": true,
        "events": EVENTS,
        "config": { "url": url.as_str(), "content_type": "json", "secret": secret.expose() },
    });
    let made: wire::Hook = gitea
        .client
        .write(&what, Method::POST, gitea.repository_url(&path, &["hooks"]), &body)
        .await?;
    Ok(WebhookId(made.id))
}

pub(super) async fn remove(gitea: &Gitea, id: &RepositoryId, hook: WebhookId) -> Result<()> {
    let path = repository::read(gitea, id).await?.path;
    let url = gitea.repository_url(&path, &["hooks", &hook.to_string()]);
    gitea.client.delete(&format!("webhook {hook} of {path}"), url).await
}

pub(super) fn read(headers: &Headers, body: &[u8], secret: &Secret) -> Result<Received, DeliveryError> {
    if body.len() > MAX_DELIVERY_BYTES {
        return Err(DeliveryError::TooLarge);
    }
    verify_signature(body, secret, header(headers, "x-gitea-signature")?)?;
    let id = DeliveryId::parse(header(headers, "x-gitea-delivery")?).ok_or(DeliveryError::Header {
        header: "x-gitea-delivery",
    })?;
    let event = crate::display(header(headers, "x-gitea-event")?, 40);
    // A comment on a pull request is `issue_comment` for this header and says by a field what it is on.
    if !matches!(
        event.as_str(),
        "create" | "delete" | "push" | "pull_request" | "issue_comment" | "pull_request_comment" | "repository"
    ) {
        return Ok(Received::Ignored {
            id,
            event: event.into(),
        });
    }
    let malformed = |reason: String| DeliveryError::Malformed {
        event: event.as_str().to_owned(),
        reason: crate::display(&reason, 200).into(),
    };
    let document: wire::Delivery = serde_json::from_slice(body).map_err(|error| malformed(error.to_string()))?;
    let subject = match event.as_str() {
        "pull_request" => {
            let number = document
                .number
                .ok_or_else(|| malformed("it has no number".to_owned()))?;
            Some(Subject::PullRequest {
                number: PullRequestNumber(number),
                action: action(&document.action),
            })
        }
        "repository" => Some(Subject::Repository),
        "push" => document
            .reference
            .strip_prefix("refs/heads/")
            .and_then(|name| branch(name, &document.after)),
        "create" | "delete" if document.ref_type == "branch" => branch(
            document
                .reference
                .strip_prefix("refs/heads/")
                .unwrap_or(&document.reference),
            "",
        ),
        _ if document.is_pull => document.issue.as_ref().map(|issue| Subject::Comment {
            number: PullRequestNumber(issue.number),
        }),
        _ => None,
    };
    Ok(match subject {
        None => Received::Ignored {
            id,
            event: event.into(),
        },
        Some(subject) => Received::Delivery(Delivery {
            id,
            repository: RepositoryId::from(document.repository.id),
            sender: document.sender.as_ref().map(wire::User::account),
            subject,
        }),
    })
}

/// A branch with a name that we do not accept never gets an environment, so news of it is ignored.
fn branch(name: &str, after: &str) -> Option<Subject> {
    let deleted = after.bytes().all(|b| b == b'0');
    Some(Subject::Branch {
        branch: name.parse().ok()?,
        commit: if deleted { None } else { after.parse().ok() },
    })
}

fn action(text: &str) -> PullRequestAction {
    match text {
        "opened" => PullRequestAction::Opened,
        "synchronized" => PullRequestAction::Pushed,
        "closed" => PullRequestAction::Closed,
        "reopened" => PullRequestAction::Reopened,
        _ => PullRequestAction::Changed,
    }
}

#[cfg(test)]
mod tests;
