//! Deliveries of forges: size, then signature, then what it is about. They only nudge; what is true is read from the forge.

use super::extract::body_problem;
use crate::{
    app::{App, now},
    problem::{Answer, Problem},
};
use api::ProblemCode;
use axum::{
    body::Bytes,
    extract::{FromRequest, Path, Request, State},
};
use forge::{DeliveryError, Received};
use http::StatusCode;
use model::{ProjectName, SourceName};

/// The largest delivery, in bytes.
pub(crate) const BODY_MAX: usize = 1 << 20;

/// A project or source that does not exist is answered like a wrong signature: deliveries do not tell what there is.
pub(crate) async fn receive(
    State(app): State<App>,
    Path((project, source)): Path<(String, String)>,
    request: Request,
) -> Answer<StatusCode> {
    let headers = request.headers().clone();
    let body = Bytes::from_request(request, &())
        .await
        .map_err(|error| body_problem(&error))?;
    let refused = || Problem::new(ProblemCode::Forbidden, "the delivery is not signed with our secret");
    let names = project
        .parse::<ProjectName>()
        .ok()
        .zip(source.parse::<SourceName>().ok());
    let (project, source) = names.ok_or_else(refused)?;
    let known = app.project(&project).and_then(|project| project.source(&source));
    let key = (project.clone(), source.clone());
    let (Some(at), Some(secret)) = (known, app.webhook_secrets.get(&key)) else {
        return Err(refused());
    };
    let received = at
        .forge
        .delivery(&headers, &body, secret)
        .map_err(|error| problem(&key, &error))?;
    let (id, kind, ours) = match &received {
        Received::Ignored { id, event } => (id, event.as_str(), false),
        Received::Delivery(delivery) => (&delivery.id, "delivery", delivery.repository == at.repository),
    };
    let fresh = app
        .store
        .delivery_record(&project, &source, id.as_str(), kind, now())
        .await?;
    if ours && fresh {
        tracing::debug!(%project, %source, delivery = %id, "a delivery nudges");
        app.reconciler.nudge_project(&project);
    }
    Ok(StatusCode::ACCEPTED)
}

fn problem((project, source): &(ProjectName, SourceName), error: &DeliveryError) -> Problem {
    tracing::info!(%project, %source, %error, "a delivery was refused");
    match error {
        DeliveryError::TooLarge => Problem::new(ProblemCode::TooLarge, error.to_string()),
        DeliveryError::Signature => Problem::new(ProblemCode::Forbidden, "the delivery is not signed with our secret")
            .hint("the secret of the webhook must be the content of `webhook_secret_file`"),
        _ => Problem::new(ProblemCode::Invalid, error.to_string()),
    }
}
