//! The OpenAPI document.
//!
//! The functions here are descriptions: they carry the attributes that the document is made from and are never called. The
//! server's tests ask its router for every path in the document.

use crate::{
    ApproveRequest, CreateRequest, DeployRequest, EnvironmentList, EnvironmentView, EventList, ExecEnd, ExecRequest,
    GoldenList, ImageList, JobList, JobRunView, LedgerView, LinkRequest, LogLineView, LogQuery, MailList,
    MailMessageView, MailQuery, ProblemDetails, ProjectList, SecretList, SecretQuery, SecretView, SignInLink,
    SpareList, StepsView, UpdateRequest, WhyView,
};
use utoipa::{
    Modify, OpenApi,
    openapi::security::{Http, HttpAuthScheme, SecurityScheme},
};

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_with(Default::default);
        components.add_security_scheme("token", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Maquette",
        version = "1",
        description = "Environments for pull requests and branches. An environment is named by its id, its label (`pr-12`) or the \
                       number of its pull request (`12`), as long as only one answers to it. Errors are problem details (RFC 9457)."
    ),
    paths(
        project_list,
        project_nudge,
        project_events,
        secret_list,
        secret_put,
        secret_delete,
        spare_list,
        golden_list,
        image_list,
        environment_list,
        environment_create,
        environment_get,
        environment_delete,
        environment_why,
        environment_steps,
        environment_events,
        environment_update,
        environment_deploy,
        environment_approve,
        environment_recreate,
        environment_jobs,
        environment_job_run,
        environment_job_run_get,
        environment_mail,
        environment_mail_get,
        environment_logs,
        environment_exec,
        environment_link,
        environment_receipt
    ),
    components(schemas(ExecRequest, ExecEnd)),
    modifiers(&Bearer),
    security(("token" = []))
)]
struct Document;

/// The OpenAPI document of the REST API.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

macro_rules! operation {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[allow(dead_code, reason = "it is described here and implemented by the server")]
        fn $name() {}
    };
}

operation!(
    /// Projects
    #[utoipa::path(get, path = "/api/v1/projects", tag = "projects", responses((status = 200, body = ProjectList)))]
    project_list
);
operation!(
    /// Look at the forge of a project now
    #[utoipa::path(post, path = "/api/v1/projects/{project}/nudge", tag = "projects", params(("project" = String, Path)),
        responses((status = 202), (status = 404, body = ProblemDetails)))]
    project_nudge
);
operation!(
    /// What happened to a project and all its environments
    #[utoipa::path(get, path = "/api/v1/projects/{project}/events", tag = "projects",
        params(("project" = String, Path), ("limit" = Option<u32>, Query, description = "At most so many; 100 unless given")),
        responses((status = 200, body = EventList), (status = 404, body = ProblemDetails)))]
    project_events
);
operation!(
    /// Secrets of a project: names, versions and who is given them; never a value
    #[utoipa::path(get, path = "/api/v1/projects/{project}/secrets", tag = "secrets", params(("project" = String, Path)),
        responses((status = 200, body = SecretList), (status = 404, body = ProblemDetails)))]
    secret_list
);
operation!(
    /// Set a secret, new or not. The body is the value: any bytes, at most 1 MiB
    ///
    /// Environments that are given it get the new value; what it restarts is exactly that.
    #[utoipa::path(put, path = "/api/v1/projects/{project}/secrets/{name}", tag = "secrets",
        params(("project" = String, Path), ("name" = String, Path), SecretQuery),
        request_body(content = Vec<u8>, content_type = "application/octet-stream"),
        responses((status = 200, body = SecretView), (status = 400, body = ProblemDetails), (status = 404, body = ProblemDetails),
            (status = 409, body = ProblemDetails, description = "The value looks like production's or staging's"),
            (status = 413, body = ProblemDetails)))]
    secret_put
);
operation!(
    /// Remove a secret; the answer says who was given it
    #[utoipa::path(delete, path = "/api/v1/projects/{project}/secrets/{name}", tag = "secrets",
        params(("project" = String, Path), ("name" = String, Path)),
        responses((status = 200, body = SecretView), (status = 404, body = ProblemDetails)))]
    secret_delete
);
operation!(
    /// Engines that were started ahead of the environment that will need them
    #[utoipa::path(get, path = "/api/v1/spares", tag = "environments", responses((status = 200, body = SpareList)))]
    spare_list
);
operation!(
    /// Databases that were made once, of which environments get clones
    #[utoipa::path(get, path = "/api/v1/goldens", tag = "environments", responses((status = 200, body = GoldenList)))]
    golden_list
);
operation!(
    /// Images that were brought to the runtime, and that services run from
    #[utoipa::path(get, path = "/api/v1/images", tag = "environments", responses((status = 200, body = ImageList)))]
    image_list
);
operation!(
    /// Environments
    #[utoipa::path(get, path = "/api/v1/environments", tag = "environments",
        params(("project" = Option<String>, Query, description = "Only those of this project"),
               ("ended" = Option<bool>, Query, description = "Those that have ended, too")),
        responses((status = 200, body = EnvironmentList)))]
    environment_list
);
operation!(
    /// Make an environment of a branch, or a copy of an environment
    #[utoipa::path(post, path = "/api/v1/environments", tag = "environments", request_body = CreateRequest,
        responses((status = 201, body = EnvironmentView), (status = 400, body = ProblemDetails), (status = 409, body = ProblemDetails)))]
    environment_create
);
operation!(
    /// One environment
    #[utoipa::path(get, path = "/api/v1/environments/{environment}", tag = "environments", params(("environment" = String, Path)),
        responses((status = 200, body = EnvironmentView), (status = 404, body = ProblemDetails), (status = 409, body = ProblemDetails)))]
    environment_get
);
operation!(
    /// End an environment; its receipt follows
    #[utoipa::path(delete, path = "/api/v1/environments/{environment}", tag = "environments", params(("environment" = String, Path)),
        responses((status = 202, body = EnvironmentView), (status = 404, body = ProblemDetails)))]
    environment_delete
);
operation!(
    /// Why an environment is as it is
    #[utoipa::path(get, path = "/api/v1/environments/{environment}/why", tag = "environments", params(("environment" = String, Path)),
        responses((status = 200, body = WhyView), (status = 404, body = ProblemDetails)))]
    environment_why
);
operation!(
    /// The generations of an environment and the times of their steps
    #[utoipa::path(get, path = "/api/v1/environments/{environment}/steps", tag = "environments", params(("environment" = String, Path)),
        responses((status = 200, body = StepsView), (status = 404, body = ProblemDetails)))]
    environment_steps
);
operation!(
    /// What happened to an environment
    #[utoipa::path(get, path = "/api/v1/environments/{environment}/events", tag = "environments",
        params(("environment" = String, Path), ("limit" = Option<u32>, Query, description = "At most so many; 100 unless given")),
        responses((status = 200, body = EventList), (status = 404, body = ProblemDetails)))]
    environment_events
);
operation!(
    /// Take one service from another branch, leave services out, say where they are found, or take them in
    #[utoipa::path(post, path = "/api/v1/environments/{environment}/update", tag = "environments", params(("environment" = String, Path)),
        request_body = UpdateRequest,
        responses((status = 202, body = EnvironmentView), (status = 404, body = ProblemDetails), (status = 409, body = ProblemDetails)))]
    environment_update
);
operation!(
    /// Run a commit
    #[utoipa::path(post, path = "/api/v1/environments/{environment}/deploy", tag = "environments", params(("environment" = String, Path)),
        request_body = DeployRequest,
        responses((status = 202, body = EnvironmentView), (status = 404, body = ProblemDetails), (status = 409, body = ProblemDetails)))]
    environment_deploy
);
operation!(
    /// Let the newest commit of a pull request run, whoever pushed it; the next push needs an approval of its own
    #[utoipa::path(post, path = "/api/v1/environments/{environment}/approve", tag = "environments", params(("environment" = String, Path)),
        request_body = ApproveRequest,
        responses((status = 202, body = EnvironmentView), (status = 404, body = ProblemDetails), (status = 409, body = ProblemDetails)))]
    environment_approve
);
operation!(
    /// Make everything of an environment anew, its data too
    #[utoipa::path(post, path = "/api/v1/environments/{environment}/recreate", tag = "environments", params(("environment" = String, Path)),
        responses((status = 202, body = EnvironmentView), (status = 404, body = ProblemDetails)))]
    environment_recreate
);
operation!(
    /// Jobs that people run, each with its newest runs
    #[utoipa::path(get, path = "/api/v1/environments/{environment}/jobs", tag = "environments", params(("environment" = String, Path)),
        responses((status = 200, body = JobList), (status = 404, body = ProblemDetails)))]
    environment_jobs
);
operation!(
    /// Run a job now, in what is live; its log is read like that of a service
    #[utoipa::path(post, path = "/api/v1/environments/{environment}/jobs/{job}/runs", tag = "environments",
        params(("environment" = String, Path), ("job" = String, Path)),
        responses((status = 202, body = JobRunView), (status = 404, body = ProblemDetails),
            (status = 409, body = ProblemDetails, description = "It runs already, or the environment is not live")))]
    environment_job_run
);
operation!(
    /// One run of a job
    #[utoipa::path(get, path = "/api/v1/environments/{environment}/jobs/{job}/runs/{number}", tag = "environments",
        params(("environment" = String, Path), ("job" = String, Path), ("number" = u64, Path)),
        responses((status = 200, body = JobRunView), (status = 404, body = ProblemDetails)))]
    environment_job_run_get
);
operation!(
    /// Mail that an environment has caught
    #[utoipa::path(get, path = "/api/v1/environments/{environment}/mail", tag = "environments",
        params(("environment" = String, Path), MailQuery),
        responses((status = 200, body = MailList), (status = 404, body = ProblemDetails), (status = 503, body = ProblemDetails)))]
    environment_mail
);
operation!(
    /// One message that an environment has caught
    #[utoipa::path(get, path = "/api/v1/environments/{environment}/mail/{id}", tag = "environments",
        params(("environment" = String, Path), ("id" = u64, Path), MailQuery),
        responses((status = 200, body = MailMessageView), (status = 404, body = ProblemDetails), (status = 503, body = ProblemDetails)))]
    environment_mail_get
);
operation!(
    /// Lines that services printed, one JSON document a line
    #[utoipa::path(get, path = "/api/v1/environments/{environment}/logs", tag = "environments",
        params(("environment" = String, Path), LogQuery),
        responses((status = 200, body = LogLineView, content_type = "application/x-ndjson"), (status = 404, body = ProblemDetails)))]
    environment_logs
);
operation!(
    /// Run a command in a service
    ///
    /// The request asks to upgrade the connection to `maquette-exec/1`. Frames follow: a byte that says what it is, the length of the
    /// payload in four bytes (big endian), the payload. 0: the command (`ExecRequest`), sent first by the client; 1: input; 2: end of
    /// input; 3: standard output; 4: standard error; 5: the end (`ExecEnd`).
    #[utoipa::path(post, path = "/api/v1/environments/{environment}/exec", tag = "environments", params(("environment" = String, Path)),
        responses((status = 101), (status = 400, body = ProblemDetails), (status = 404, body = ProblemDetails)))]
    environment_exec
);
operation!(
    /// A link that signs in to an environment
    #[utoipa::path(post, path = "/api/v1/environments/{environment}/links", tag = "environments", params(("environment" = String, Path)),
        request_body = LinkRequest,
        responses((status = 201, body = SignInLink), (status = 404, body = ProblemDetails)))]
    environment_link
);
operation!(
    /// The ledger of an environment, and its receipt once it has ended
    #[utoipa::path(get, path = "/api/v1/environments/{environment}/receipt", tag = "environments", params(("environment" = String, Path)),
        responses((status = 200, body = LedgerView), (status = 404, body = ProblemDetails)))]
    environment_receipt
);
