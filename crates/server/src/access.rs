//! Who may do what: one function, deny by default, called from one layer.

use crate::{
    app::{App, now},
    problem::Problem,
    secret,
};
use api::ProblemCode;
use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use gateway::Secret;
use http::{HeaderMap, Method, header};
use std::sync::Arc;

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Everything.
    Operator,
    /// Looking, nothing that changes anything or shows a secret.
    Viewer,
}

impl Role {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Viewer => "viewer",
        }
    }

    fn of(word: &str) -> Option<Self> {
        [Self::Operator, Self::Viewer]
            .into_iter()
            .find(|role| role.word() == word)
    }
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Nobody that we know.
    Anonymous,
    /// The owner of a valid token.
    Token {
        /// Its name, for the log and for what is made with it.
        name: Arc<str>,
        /// What it is for.
        role: Role,
    },
}

impl Caller {
    /// For the log and for what is made.
    pub(crate) fn subject(&self) -> String {
        match self {
            Self::Anonymous => "anonymous".to_owned(),
            Self::Token { name, .. } => format!("token:{name}"),
        }
    }
}

/// What a caller wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Ask whether the server is there.
    Health,
    /// Deliver a webhook; its signature is checked by the forge's adapter.
    Webhook,
    /// Look at projects and environments.
    Look,
    /// Read what an application printed, which may hold anything.
    ReadLogs,
    /// Change what there should be.
    Change,
    /// Run a command in a container.
    Exec,
    /// Let somebody in.
    Invite,
}

/// Every path with its operation. What is not here is denied.
const OPERATIONS: &[(Method, &str, Operation)] = &[
    (Method::GET, "/health", Operation::Health),
    (Method::POST, "/webhooks/{project}/{source}", Operation::Webhook),
    (Method::GET, "/api/v1/projects", Operation::Look),
    (Method::POST, "/api/v1/projects/{project}/nudge", Operation::Change),
    (Method::GET, "/api/v1/projects/{project}/events", Operation::Look),
    (Method::GET, "/api/v1/projects/{project}/secrets", Operation::Look),
    (
        Method::PUT,
        "/api/v1/projects/{project}/secrets/{name}",
        Operation::Change,
    ),
    (
        Method::DELETE,
        "/api/v1/projects/{project}/secrets/{name}",
        Operation::Change,
    ),
    (Method::GET, "/api/v1/spares", Operation::Look),
    (Method::GET, "/api/v1/goldens", Operation::Look),
    (Method::GET, "/api/v1/images", Operation::Look),
    (Method::GET, "/api/v1/environments", Operation::Look),
    (Method::POST, "/api/v1/environments", Operation::Change),
    (Method::GET, "/api/v1/environments/{environment}", Operation::Look),
    (Method::DELETE, "/api/v1/environments/{environment}", Operation::Change),
    (Method::GET, "/api/v1/environments/{environment}/why", Operation::Look),
    (Method::GET, "/api/v1/environments/{environment}/steps", Operation::Look),
    (
        Method::GET,
        "/api/v1/environments/{environment}/events",
        Operation::Look,
    ),
    (
        Method::GET,
        "/api/v1/environments/{environment}/receipt",
        Operation::Look,
    ),
    (
        Method::POST,
        "/api/v1/environments/{environment}/update",
        Operation::Change,
    ),
    (
        Method::POST,
        "/api/v1/environments/{environment}/deploy",
        Operation::Change,
    ),
    (
        Method::POST,
        "/api/v1/environments/{environment}/approve",
        Operation::Change,
    ),
    (
        Method::POST,
        "/api/v1/environments/{environment}/recreate",
        Operation::Change,
    ),
    (
        Method::GET,
        "/api/v1/environments/{environment}/logs",
        Operation::ReadLogs,
    ),
    (Method::POST, "/api/v1/environments/{environment}/exec", Operation::Exec),
    (
        Method::GET,
        "/api/v1/environments/{environment}/mail",
        Operation::ReadLogs,
    ),
    (
        Method::GET,
        "/api/v1/environments/{environment}/mail/{id}",
        Operation::ReadLogs,
    ),
    (Method::GET, "/api/v1/environments/{environment}/jobs", Operation::Look),
    (
        Method::POST,
        "/api/v1/environments/{environment}/jobs/{job}/runs",
        Operation::Change,
    ),
    (
        Method::GET,
        "/api/v1/environments/{environment}/jobs/{job}/runs/{number}",
        Operation::Look,
    ),
    (
        Method::POST,
        "/api/v1/environments/{environment}/links",
        Operation::Invite,
    ),
];

/// What a request wants to do.
fn operation(method: &Method, path: &str) -> Option<Operation> {
    OPERATIONS
        .iter()
        .find(|(m, p, _)| m == method && *p == path)
        .map(|(_, _, operation)| *operation)
}

/// Whether a caller may do something. The only place where this is decided.
pub(crate) fn authorise(caller: &Caller, operation: Option<Operation>) -> Result<(), ProblemCode> {
    use Operation::{Change, Exec, Health, Invite, Look, ReadLogs, Webhook};
    match (caller, operation) {
        (_, Some(Health | Webhook)) => Ok(()),
        (Caller::Anonymous, _) => Err(ProblemCode::Unauthenticated),
        (Caller::Token { role: Role::Viewer, .. }, Some(Look | ReadLogs)) => Ok(()),
        (
            Caller::Token {
                role: Role::Operator, ..
            },
            Some(Look | ReadLogs | Change | Exec | Invite),
        ) => Ok(()),
        (Caller::Token { .. }, _) => Err(ProblemCode::Forbidden),
    }
}

/// The layer around all routes.
pub(crate) async fn layer(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let path = request
        .extensions()
        .get::<MatchedPath>()
        .map(|path| path.as_str().to_owned());
    let operation = path.as_deref().and_then(|path| operation(request.method(), path));
    let caller = match caller(&app, request.headers()).await {
        Ok(caller) => caller,
        Err(problem) => return problem.into_response(),
    };
    match authorise(&caller, operation) {
        Ok(()) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(ProblemCode::Unauthenticated) => Problem::new(
            ProblemCode::Unauthenticated,
            "this needs a token that is valid here",
        )
        .hint("send `Authorization: Bearer …`; the operator's token is in `operator.token` of the state directory")
        .into_response(),
        Err(code) => Problem::new(code, "this token is not for that").into_response(),
    }
}

async fn caller(app: &App, headers: &HeaderMap) -> Result<Caller, Problem> {
    let mut lines = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return Ok(Caller::Anonymous);
    };
    let token = line.as_bytes().strip_prefix(b"Bearer ").and_then(Secret::parse);
    let Some(token) = token else {
        return Ok(Caller::Anonymous);
    };
    let row = app.store.token_find(&secret::hash(&token)).await?;
    let valid = row.filter(|row| row.expires.is_none_or(|expires| now() < expires));
    let known = valid.and_then(|row| Some((Role::of(&row.role)?, row.name)));
    Ok(known.map_or(Caller::Anonymous, |(role, name)| Caller::Token {
        name: name.into(),
        role,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(role: Role) -> Caller {
        Caller::Token { name: "t".into(), role }
    }

    #[test]
    fn every_pair_of_caller_and_operation_is_decided_as_documented() {
        use Operation::{Change, Exec, Health, Invite, Look, ReadLogs, Webhook};
        let open = [Health, Webhook];
        let viewing = [Look, ReadLogs];
        let operating = [Change, Exec, Invite];
        for operation in open {
            for caller in [Caller::Anonymous, token(Role::Viewer), token(Role::Operator)] {
                assert_eq!(authorise(&caller, Some(operation)), Ok(()));
            }
        }
        for operation in viewing.into_iter().chain(operating) {
            assert_eq!(
                authorise(&Caller::Anonymous, Some(operation)),
                Err(ProblemCode::Unauthenticated)
            );
            assert_eq!(authorise(&token(Role::Operator), Some(operation)), Ok(()));
            let viewer = if viewing.contains(&operation) {
                Ok(())
            } else {
                Err(ProblemCode::Forbidden)
            };
            assert_eq!(authorise(&token(Role::Viewer), Some(operation)), viewer);
        }
    }

    #[test]
    fn what_has_no_operation_is_denied_to_everybody() {
        assert_eq!(operation(&Method::PUT, "/api/v1/environments"), None);
        assert_eq!(authorise(&Caller::Anonymous, None), Err(ProblemCode::Unauthenticated));
        assert_eq!(authorise(&token(Role::Operator), None), Err(ProblemCode::Forbidden));
    }

    #[test]
    fn every_path_of_the_document_has_an_operation() {
        let document = serde_json::to_value(api::openapi()).unwrap();
        for (path, item) in document["paths"].as_object().unwrap() {
            for method in item.as_object().unwrap().keys() {
                let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
                assert!(operation(&method, path).is_some(), "{method} {path}");
            }
        }
    }
}
