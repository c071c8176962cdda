//! Commands that ask the server.

mod exec;
mod jobs;
mod logs;
mod mail;
mod secret;
mod watch;

use crate::{
    cli::{
        ApproveArgs, ChangeArgs, CloneArgs, Connection, CreateArgs, DeleteArgs, DeployArgs, Env, EventsArgs, ListArgs,
        OpenArgs, Remote, UpdateArgs,
    },
    client::{Api, segment},
    exit::Failure,
    render, screen,
};
use api::{
    ApproveRequest, CreateRequest, DeployRequest, EnvironmentList, EnvironmentView, EventList, LedgerView, LinkRequest,
    ProjectList, SignInLink, UpdateRequest, WhyView,
};
use model::{ProjectName, Timestamp};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    process::{Command, ExitCode, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

/// What every command has at hand.
struct Session {
    api: Api,
    json: bool,
}

/// Runs one command.
pub(crate) async fn run(connection: &Connection, command: Remote) -> Result<ExitCode, Failure> {
    let session = Session {
        api: Api::new(connection)?,
        json: connection.json,
    };
    match command {
        Remote::List(args) => session.list(&args).await,
        Remote::Show(args) => session.show(&args).await,
        Remote::Why(args) => session.why(&args).await,
        Remote::Events(args) => session.events(&args).await,
        Remote::Logs(args) => logs::run(&session, args).await,
        Remote::Exec(args) => return exec::run(&session, args).await,
        Remote::Jobs(args) => jobs::list(&session, &args).await,
        Remote::Run(args) => return jobs::run(&session, args).await,
        Remote::Mail(args) => mail::run(&session, args).await,
        Remote::Open(args) => session.open(&args).await,
        Remote::Create(args) => session.create(args).await,
        Remote::Clone(args) => session.copy(args).await,
        Remote::Update(args) => session.update(args).await,
        Remote::Deploy(args) => session.deploy(args).await,
        Remote::Approve(args) => session.approve(args).await,
        Remote::Recreate(args) => session.recreate(&args).await,
        Remote::Delete(args) => session.delete(&args).await,
        Remote::Receipt(args) => session.receipt(&args).await,
        Remote::Secret(command) => secret::run(&session, command).await,
    }?;
    Ok(ExitCode::SUCCESS)
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn path(environment: &str) -> String {
    format!("/environments/{}", segment(environment))
}

/// Writes to standard output.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

impl Session {
    fn answer<T: Serialize>(&self, value: &T, text: impl FnOnce(&T) -> String) -> Result<(), Failure> {
        if !self.json {
            return print(&text(value));
        }
        let json = serde_json::to_string_pretty(value).map_err(|error| Failure::of(&error))?;
        print(&format!("{json}\n"))
    }

    async fn list(&self, args: &ListArgs) -> Result<(), Failure> {
        let project = args
            .project
            .as_ref()
            .map_or_else(String::new, |project| format!("&project={project}"));
        let path = format!("/environments?ended={}{project}", args.ended);
        let list: EnvironmentList = screen::while_doing("asking", self.api.get(&path)).await?;
        self.answer(&list, |list| render::list(&list.environments, now()))
    }

    async fn show(&self, args: &Env) -> Result<(), Failure> {
        let path = path(&args.environment);
        let view: EnvironmentView = screen::while_doing("asking", self.api.get(&path)).await?;
        self.answer(&view, |view| render::show(view, now()))
    }

    async fn why(&self, args: &Env) -> Result<(), Failure> {
        let path = format!("{}/why", path(&args.environment));
        let view: WhyView = screen::while_doing("asking", self.api.get(&path)).await?;
        self.answer(&view, |view| render::why(view, now()))
    }

    async fn events(&self, args: &EventsArgs) -> Result<(), Failure> {
        let of = match &args.environment {
            Some(environment) => path(environment),
            None => format!("/projects/{}", self.project(args.project.as_ref()).await?),
        };
        let path = format!("{of}/events?limit={}", args.limit);
        let list: EventList = screen::while_doing("asking", self.api.get(&path)).await?;
        self.answer(&list, |list| render::events(&list.events, now()))
    }

    /// The project that is named, or the only one.
    async fn project(&self, named: Option<&ProjectName>) -> Result<ProjectName, Failure> {
        if let Some(name) = named {
            return Ok(name.clone());
        }
        let list: ProjectList = screen::while_doing("asking", self.api.get("/projects")).await?;
        match list.projects.as_slice() {
            [only] => Ok(only.name.clone()),
            all => {
                let names: Vec<&str> = all.iter().map(|project| project.name.as_str()).collect();
                Err(Failure::new(2, "there is not exactly one project")
                    .hint(format!("say which with --project: {}", names.join(", "))))
            }
        }
    }

    async fn receipt(&self, args: &Env) -> Result<(), Failure> {
        let path = format!("{}/receipt", path(&args.environment));
        let view: LedgerView = screen::while_doing("asking", self.api.get(&path)).await?;
        self.answer(&view, |view| render::receipt(view, now()))
    }

    async fn open(&self, args: &OpenArgs) -> Result<(), Failure> {
        let request = LinkRequest {
            label: args.label.clone(),
            seconds: Some(args.minutes.saturating_mul(60)),
            uses: Some(args.uses),
        };
        let path = format!("{}/links", path(&args.environment));
        let link: SignInLink = screen::while_doing("asking", self.api.post(&path, &request)).await?;
        if args.browser {
            browse(&link.url)?;
        }
        self.answer(&link, |link| format!("{}\n", link.url))
    }

    async fn create(&self, args: CreateArgs) -> Result<(), Failure> {
        let request = CreateRequest {
            project: args.project,
            branch: Some(args.branch),
            clone_of: None,
        };
        let asked = self.api.post("/environments", &request);
        let made: EnvironmentView = screen::while_doing("asking", asked).await?;
        self.changed(made, args.watch).await
    }

    async fn copy(&self, args: CloneArgs) -> Result<(), Failure> {
        let request = CreateRequest {
            project: None,
            branch: None,
            clone_of: Some(args.environment),
        };
        let asked = self.api.post("/environments", &request);
        let made: EnvironmentView = screen::while_doing("asking", asked).await?;
        self.changed(made, args.watch).await
    }

    async fn update(&self, args: UpdateArgs) -> Result<(), Failure> {
        let mut endpoints = BTreeMap::new();
        for given in &args.endpoint {
            let pair = given
                .split_once('=')
                .and_then(|(name, to)| Some((name.parse().ok()?, to)));
            let Some((name, to)) = pair else {
                return Err(Failure::new(2, format!("`{given}` is not SERVICE=HOST:PORT")));
            };
            endpoints.insert(name, to.to_owned());
        }
        let request = UpdateRequest {
            service: args.service,
            branch: args.branch,
            without: args.without.into_iter().collect(),
            with: args.with.into_iter().collect(),
            endpoints,
        };
        let path = format!("{}/update", path(&args.environment));
        let view: EnvironmentView = screen::while_doing("fetching the branch", self.api.post(&path, &request)).await?;
        self.changed(view, args.watch).await
    }

    async fn deploy(&self, args: DeployArgs) -> Result<(), Failure> {
        let request = DeployRequest {
            commit: args.commit,
            source: args.source,
        };
        let path = format!("{}/deploy", path(&args.environment));
        let view: EnvironmentView = screen::while_doing("fetching the commit", self.api.post(&path, &request)).await?;
        self.changed(view, args.watch).await
    }

    async fn approve(&self, args: ApproveArgs) -> Result<(), Failure> {
        let request = ApproveRequest { commit: args.commit };
        let path = format!("{}/approve", path(&args.environment));
        let view: EnvironmentView = screen::while_doing("fetching the commit", self.api.post(&path, &request)).await?;
        self.changed(view, args.watch).await
    }

    async fn recreate(&self, args: &ChangeArgs) -> Result<(), Failure> {
        let path = format!("{}/recreate", path(&args.environment));
        let view: EnvironmentView = screen::while_doing("asking", self.api.post(&path, &serde_json::json!({}))).await?;
        self.changed(view, false).await
    }

    /// After a change: at once, or when it has come true.
    async fn changed(&self, view: EnvironmentView, wait: bool) -> Result<(), Failure> {
        let view = if wait {
            watch::until_live(self, view).await?
        } else {
            view
        };
        self.answer(&view, |view| {
            let address = view
                .address
                .as_deref()
                .map_or_else(String::new, |address| format!("  {address}"));
            format!("{}{address}\n", render::stands(view))
        })
    }

    async fn delete(&self, args: &DeleteArgs) -> Result<(), Failure> {
        let path = path(&args.environment);
        let view: EnvironmentView = screen::while_doing("asking", self.api.get(&path)).await?;
        if !args.yes {
            return Err(Failure::new(2, format!("{} ({}) was not deleted", view.label, view.id))
                .hint("say --yes; its data can not be brought back"));
        }
        // By id: the name could lead to another environment by now.
        let path = self::path(view.id.as_str());
        let view: EnvironmentView = screen::while_doing("asking", self.api.delete(&path)).await?;
        if !args.watch {
            return self.answer(&view, |view| format!("{}\n", render::stands(view)));
        }
        let receipt = watch::until_gone(self, view.id.as_str()).await?;
        self.answer(&receipt, |receipt| render::receipt(receipt, now()))
    }
}

fn browse(url: &str) -> Result<(), Failure> {
    let started = Command::new("xdg-open")
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    started.map(|_| ()).map_err(|error| {
        Failure::new(1, format!("no browser could be started: {error}"))
            .hint("leave out --browser and open the link yourself")
    })
}
