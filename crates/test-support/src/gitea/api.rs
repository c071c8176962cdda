//! Gitea's API as the people in a test use it. Maquette's own client is in the crate `forge`; what acts on the world
//! in a test must not be the code under test.

use super::{Error, process::failed};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

/// The API as one user.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    url: String,
    user: String,
    token: String,
}

/// A new repository.
#[derive(Clone, Debug)]
pub struct NewRepository {
    /// The forge's id.
    pub id: u64,
    /// `owner/name`.
    pub path: String,
}

impl Client {
    pub(super) fn new(url: &str, user: &str, token: &str) -> Result<Self, Error> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(120))
            .build();
        let http = http.map_err(failed("HTTP client"))?;
        Ok(Self {
            http,
            url: url.to_owned(),
            user: user.to_owned(),
            token: token.to_owned(),
        })
    }

    /// The name of the user.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The token of the user.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Any call; `path` follows `/api/v1/`.
    ///
    /// # Errors
    /// If it is not answered with success; the message has the answer.
    pub async fn call(&self, method: Method, path: &str, body: Value) -> Result<Value, Error> {
        let what = format!("{method} {path}");
        let mut request = self.http.request(method, format!("{}api/v1/{path}", self.url));
        request = request.header("authorization", format!("token {}", self.token));
        if !body.is_null() {
            request = request.json(&body);
        }
        self.answer(&what, request).await
    }

    async fn answer(&self, what: &str, request: reqwest::RequestBuilder) -> Result<Value, Error> {
        let answer = request.send().await.map_err(failed(what))?;
        let status = answer.status();
        let text = answer.text().await.map_err(failed(what))?;
        if !status.is_success() {
            return Err(Error(format!("{what}: {status}: {text}")));
        }
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// Makes a user, as an administrator, and returns the API as that user, with a token for everything.
    ///
    /// # Errors
    /// If the user exists.
    pub async fn make_user(&self, name: &str) -> Result<Self, Error> {
        let password = "only-for-tests-1";
        let email = format!("{name}@tests.invalid");
        let body = json!({ "username": name, "email": email, "password": password, "must_change_password": false });
        self.call(Method::POST, "admin/users", body).await?;
        let what = format!("token of {name}");
        let request = self
            .http
            .post(format!("{}api/v1/users/{name}/tokens", self.url))
            .basic_auth(name, Some(password))
            .json(&json!({ "name": "tests", "scopes": ["all"] }));
        let token = self.answer(&what, request).await?;
        Self::new(&self.url, name, token["sha1"].as_str().unwrap_or_default())
    }

    /// Makes a repository with one commit on `main`.
    ///
    /// # Errors
    /// If it exists.
    pub async fn make_repository(&self, name: &str, private: bool) -> Result<NewRepository, Error> {
        let body = json!({ "name": name, "private": private, "auto_init": true, "default_branch": "main" });
        Ok(new_repository(&self.call(Method::POST, "user/repos", body).await?))
    }

    /// Forks a repository to this user.
    ///
    /// # Errors
    /// If it may not be read.
    pub async fn fork(&self, path: &str) -> Result<NewRepository, Error> {
        Ok(new_repository(
            &self
                .call(Method::POST, &format!("repos/{path}/forks"), json!({}))
                .await?,
        ))
    }

    /// Lets another user do something with a repository: `read`, `write` or `admin`.
    ///
    /// # Errors
    /// If this user may not.
    pub async fn allow(&self, path: &str, user: &str, permission: &str) -> Result<(), Error> {
        let body = json!({ "permission": permission });
        self.call(Method::PUT, &format!("repos/{path}/collaborators/{user}"), body)
            .await
            .map(|_| ())
    }

    /// Opens a pull request and returns its number. `head` is a branch, or `user:branch` for one of a fork.
    ///
    /// # Errors
    /// If there is no such branch, or nothing to merge.
    pub async fn open_pull_request(&self, path: &str, head: &str, base: &str, title: &str) -> Result<u64, Error> {
        let body = json!({ "head": head, "base": base, "title": title });
        let made = self.call(Method::POST, &format!("repos/{path}/pulls"), body).await?;
        made["number"]
            .as_u64()
            .ok_or_else(|| Error(format!("a pull request without a number: {made}")))
    }

    /// Changes a pull request: `{"state": "closed"}`, `{"base": …}`, `{"title": …}`.
    ///
    /// # Errors
    /// If this user may not.
    pub async fn change_pull_request(&self, path: &str, number: u64, change: Value) -> Result<(), Error> {
        self.call(Method::PATCH, &format!("repos/{path}/pulls/{number}"), change)
            .await
            .map(|_| ())
    }

    /// Writes a comment and returns its id.
    ///
    /// # Errors
    /// If this user may not.
    pub async fn comment(&self, path: &str, number: u64, body: &str) -> Result<u64, Error> {
        let body = json!({ "body": body });
        let made = self
            .call(Method::POST, &format!("repos/{path}/issues/{number}/comments"), body)
            .await?;
        made["id"]
            .as_u64()
            .ok_or_else(|| Error(format!("a comment without an id: {made}")))
    }

    /// The comments on a pull request as (user, text), the oldest first.
    ///
    /// # Errors
    /// If this user may not read them.
    pub async fn comments(&self, path: &str, number: u64) -> Result<Vec<(String, String)>, Error> {
        let found = self
            .call(
                Method::GET,
                &format!("repos/{path}/issues/{number}/comments"),
                Value::Null,
            )
            .await?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let each = found.as_array().into_iter().flatten();
        Ok(each
            .map(|comment| (text(&comment["user"]["login"]), text(&comment["body"])))
            .collect())
    }

    /// The statuses of a commit, the newest first, as (context, state, description).
    ///
    /// # Errors
    /// If this user may not read them.
    pub async fn statuses(&self, path: &str, commit: &str) -> Result<Vec<(String, String, String)>, Error> {
        let found = self
            .call(
                Method::GET,
                &format!("repos/{path}/commits/{commit}/statuses"),
                Value::Null,
            )
            .await?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let each = found.as_array().into_iter().flatten();
        Ok(each
            .map(|s| (text(&s["context"]), text(&s["status"]), text(&s["description"])))
            .collect())
    }

    /// The address for git, with the token in it: this is a test, and the token opens nothing else.
    #[must_use]
    pub fn git_url(&self, path: &str) -> String {
        format!(
            "{}{path}.git",
            self.url
                .replacen("://", &format!("://{}:{}@", self.user, self.token), 1)
        )
    }
}

fn new_repository(made: &Value) -> NewRepository {
    NewRepository {
        id: made["id"].as_u64().unwrap_or_default(),
        path: made["full_name"].as_str().unwrap_or_default().to_owned(),
    }
}
