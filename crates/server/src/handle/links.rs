//! Sign-in links: made here, used at the gateway.

use super::extract::JsonBody;
use crate::{
    access::Caller,
    app::{App, now},
    intent,
    problem::{Answer, Problem},
    resolve, secret,
};
use api::{LinkRequest, ProblemCode, SignInLink};
use axum::{
    Extension, Json,
    extract::{Path, State},
};
use http::StatusCode;
use std::time::Duration;
use store::LinkRow;

/// How long a link works unless its maker says otherwise, and at most.
const LIFETIME: Duration = Duration::from_secs(3600);
const LIFETIME_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// How often it works at most.
const USES_MAX: u32 = 1000;
/// The longest label, in bytes.
const LABEL_MAX: usize = 100;

pub(crate) async fn create(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    JsonBody(request): JsonBody<LinkRequest>,
) -> Answer<(StatusCode, Json<SignInLink>)> {
    let row = resolve::environment(&app, &name).await?;
    intent::must_be_for_people(&row)?;
    if !row.wanted {
        return Err(Problem::new(ProblemCode::Conflict, format!("{} has ended", row.label)));
    }
    let Some(project) = app.project(&row.project) else {
        return Err(Problem::new(
            ProblemCode::NotFound,
            format!("project {} is not configured any more", row.project),
        ));
    };
    let seconds = request.seconds.map_or(LIFETIME, Duration::from_secs);
    let uses = request.uses.unwrap_or(1);
    if seconds.is_zero() || seconds > LIFETIME_MAX || uses == 0 || uses > USES_MAX {
        return Err(
            Problem::new(ProblemCode::Invalid, "a link works at least for a second and once").hint(format!(
                "at most for {} days and {USES_MAX} times",
                LIFETIME_MAX.as_secs() / 86_400
            )),
        );
    }
    let subject = match &request.label {
        None => caller.subject(),
        Some(label) => format!("guest:{}", label_of(label)?),
    };
    let token = secret::generate().map_err(|error| Problem::internal("no randomness for a link", &error))?;
    let link = LinkRow {
        hash: secret::hash(&token),
        subject,
        scope: Some(row.id.clone()),
        expires: now().plus(seconds),
        uses_left: uses,
    };
    app.store.link_create(&link).await?;
    let url = gateway::sign_in_address(&project.base.url(&row.label), &token);
    Ok((
        StatusCode::CREATED,
        Json(SignInLink {
            url,
            expires: link.expires,
            uses,
        }),
    ))
}

fn label_of(label: &str) -> Answer<&str> {
    if label.is_empty() || label.len() > LABEL_MAX || label.chars().any(char::is_control) {
        return Err(Problem::new(
            ProblemCode::Invalid,
            format!("a label has 1 to {LABEL_MAX} bytes that can be printed"),
        ));
    }
    Ok(label)
}
