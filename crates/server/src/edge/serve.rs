//! The control plane's end.

use super::{
    dial,
    table::{self, Table},
    wire::{Began, Exchange, Hash, RoutesAnswer, RoutesQuery, Use, WakeWish, Whose},
};
use crate::{
    access::Role,
    app::{App, now},
    listen::{Listening, serve},
    problem::{Answer, Problem},
};
use api::ProblemCode;
use axum::{Json, Router, extract::DefaultBodyLimit, extract::State, routing::post};
use gateway::{Projects, TokenHash, Visitor};
use http::StatusCode;
use model::{EnvironmentId, Power};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use store::{EnvironmentPatch, SecretHash, SessionRow};
use tokio::{
    net::UnixListener,
    sync::{Semaphore, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// How long the gateway is kept waiting for a change of the routes.
const WAIT: Duration = Duration::from_secs(25);
/// How long a session lasts.
const SESSION: Duration = Duration::from_secs(12 * 3600);
/// The largest body, in bytes: a report on all environments.
const BODY_MAX: usize = 1 << 20;

/// What the gateway's process may ask, served on a Unix socket.
#[derive(Debug)]
pub struct EdgeServer {
    listener: UnixListener,
    /// The gateway's group.
    group: u32,
    control_plane: Option<TokenHash>,
}

#[derive(Clone)]
pub(super) struct Edge {
    pub(super) app: App,
    pub(super) table: watch::Receiver<Table>,
    /// Apart for each start of the control plane, so that an old number is never taken for a new one.
    boot: Arc<str>,
    uses: Arc<Mutex<BTreeMap<EnvironmentId, Use>>>,
    /// How the gateway knows us.
    control_plane: Option<Hash>,
    /// Connections to clusters that may be open at a time.
    pub(super) dials: Arc<Semaphore>,
}

impl EdgeServer {
    /// Listens on this path; a socket that a dead process left there is replaced.
    ///
    /// # Errors
    /// When the socket can not be made.
    pub fn bind(path: &Path) -> io::Result<Self> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // Root has made the directory for both users. Where nobody has, it is ours alone.
        if let Some(directory) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        let listener = UnixListener::bind(path)?;
        // The group is that of the directory.
        fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
        let group = fs::metadata(path)?.gid();
        Ok(Self {
            listener,
            group,
            control_plane: None,
        })
    }

    /// By this word the gateway knows whoever asks it whether services answer.
    #[must_use]
    pub fn known_by(self, word: &TokenHash) -> Self {
        Self {
            control_plane: Some(*word),
            ..self
        }
    }

    /// Serves until it is told to end.
    pub async fn serve(self, app: App, end: CancellationToken) {
        let (sender, receiver) = watch::channel(Table::default());
        let keeper = tokio::spawn(table::keep(app.clone(), sender, end.clone()));
        let edge = Edge {
            app,
            table: receiver,
            boot: now().0.to_string().into(),
            uses: Arc::default(),
            control_plane: self.control_plane.as_ref().map(Hash::from),
            dials: Arc::new(Semaphore::new(dial::AT_ONCE)),
        };
        let router = Router::new()
            .route("/routes", post(routes))
            .route("/exchange", post(exchange))
            .route("/session", post(session))
            .route("/automation", post(automation))
            .route("/revoke", post(revoke))
            .route("/wake", post(wake))
            .route("/uses", post(uses))
            .route("/dial", post(dial::dial))
            .layer(DefaultBodyLimit::max(BODY_MAX))
            .with_state(edge);
        serve(Listening::Unix(self.listener, self.group), router, end).await;
        if keeper.await.is_err() {
            tracing::error!("the keeper of the routes ended unexpectedly");
        }
    }
}

async fn routes(State(mut edge): State<Edge>, Json(query): Json<RoutesQuery>) -> Json<RoutesAnswer> {
    let (boot, known) = (edge.boot, query.version);
    let version = |table: &Table| format!("{boot}-{}", table.version);
    let differs = |table: &Table| table.version > 0 && known.as_deref() != Some(&version(table));
    let found = match timeout(WAIT, edge.table.wait_for(differs)).await {
        Ok(Ok(table)) => Some(table.clone()),
        _ => None,
    };
    Json(match found {
        Some(table) => RoutesAnswer {
            version: version(&table),
            routes: Some(table.routes.to_vec()),
            awaited: table.awaited.to_vec(),
            control_plane: edge.control_plane,
        },
        None => RoutesAnswer {
            version: known.unwrap_or_default(),
            routes: None,
            awaited: Vec::new(),
            control_plane: None,
        },
    })
}

/// A link of one environment opens that environment's hosts and no others.
async fn exchange(State(edge): State<Edge>, Json(asked): Json<Exchange>) -> Answer<Json<Option<Began>>> {
    let (app, at) = (&edge.app, now());
    let Some(link) = app.store.link_use(&SecretHash(asked.link.0), at).await? else {
        return Ok(Json(None));
    };
    let may_see = match &link.scope {
        None => Projects::All,
        Some(scope) => {
            let Some(row) = app.store.environment_get(scope).await? else {
                return Ok(Json(None));
            };
            if !table::hosts(app, &row).await?.contains(&asked.host) {
                return Ok(Json(None));
            }
            Projects::Only(BTreeSet::from([row.project]))
        }
    };
    let session = SessionRow {
        hash: SecretHash(asked.session.0),
        subject: link.subject.clone(),
        scope: link.scope,
        host: asked.host,
        created: at,
        expires: at.plus(SESSION),
    };
    app.store.session_create(&session).await?;
    let visitor = Visitor {
        subject: link.subject.into(),
        may_see,
    };
    let lifetime_ms = u64::try_from(SESSION.as_millis()).unwrap_or(u64::MAX);
    Ok(Json(Some(Began { visitor, lifetime_ms })))
}

async fn session(State(edge): State<Edge>, Json(asked): Json<Whose>) -> Answer<Json<Option<Visitor>>> {
    let app = &edge.app;
    let found = app.store.session_find(&SecretHash(asked.hash.0), now()).await?;
    let Some(row) = found.filter(|row| asked.host.as_deref() == Some(&row.host)) else {
        return Ok(Json(None));
    };
    let may_see = match &row.scope {
        None => Projects::All,
        Some(scope) => match app.store.environment_get(scope).await? {
            // The label of an environment that has ended may lead to another one by now.
            Some(environment) if environment.ended.is_none() => Projects::Only(BTreeSet::from([environment.project])),
            _ => return Ok(Json(None)),
        },
    };
    Ok(Json(Some(Visitor {
        subject: row.subject.into(),
        may_see,
    })))
}

async fn automation(State(edge): State<Edge>, Json(asked): Json<Whose>) -> Answer<Json<Option<Visitor>>> {
    let row = edge.app.store.token_find(&SecretHash(asked.hash.0)).await?;
    let valid = row.filter(|row| row.expires.is_none_or(|expires| now() < expires));
    let known = valid.filter(|row| {
        [Role::Operator, Role::Viewer]
            .iter()
            .any(|role| role.word() == row.role)
    });
    let visitor = |row: store::TokenRow| Visitor {
        subject: format!("token:{}", row.name).into(),
        may_see: Projects::All,
    };
    Ok(Json(known.map(visitor)))
}

async fn revoke(State(edge): State<Edge>, Json(asked): Json<Whose>) -> Answer<StatusCode> {
    edge.app.store.session_revoke(&SecretHash(asked.hash.0)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn wake(State(edge): State<Edge>, Json(wish): Json<WakeWish>) -> Answer<StatusCode> {
    let app = &edge.app;
    let Some(row) = app.store.environment_get(&wish.environment).await? else {
        return Err(Problem::new(
            ProblemCode::NotFound,
            format!("there is no environment {}", wish.environment),
        ));
    };
    if row.wanted && row.power != Power::Running {
        let patch = EnvironmentPatch {
            power: Some(Power::Running),
            ..EnvironmentPatch::default()
        };
        app.store.environment_update(&row.id, &patch).await?;
        app.store
            .event_add(Some(&row.id), &row.project, now(), "wake", "somebody visits")
            .await?;
    }
    app.reconciler.nudge_environment(&row.id);
    Ok(StatusCode::ACCEPTED)
}

async fn uses(State(edge): State<Edge>, Json(report): Json<Vec<Use>>) -> StatusCode {
    let report = report
        .into_iter()
        .map(|seen| (seen.environment.clone(), seen))
        .collect();
    *edge.uses.lock().unwrap_or_else(PoisonError::into_inner) = report;
    StatusCode::NO_CONTENT
}
