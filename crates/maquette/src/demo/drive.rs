//! The demo's developer: pushes, opens and closes a pull request, and looks at what comes of it, as an ordinary user.
//!
//! Everything that it finds out it finds out from outside: from the forge, through the gateway, and by Maquette's public API.

use super::{report::Report, setup::Layout, visit::Visitor};
use anyhow::{Context, Result, bail, ensure};
use api::{EnvironmentList, EnvironmentView, GoldenList, LedgerView, SignInLink};
use forge::{
    Forge, PullRequestFact, PullRequestNumber,
    local::{FileChange, LocalForge, NewPullRequest},
};
use model::{BranchName, CommitId, Phase};
use reqwest::{Client, Method};
use serde::de::DeserializeOwned;
use std::{
    path::Path,
    time::{Duration, Instant},
};
use tokio::time::sleep;

const MAIN: &str = "main";
const BRANCH: &str = "warmer-welcome";
/// How long one thing may take: engines boot slowly on small machines.
pub(super) const PATIENCE: Duration = Duration::from_secs(180);

/// What visitors read on the front page after each push, and the colour of the shop.
const LOOKS: [(&str, &str); 3] = [
    ("Come in, it is warm here", "#2f6f5e"),
    ("A small change, seen before it is merged", "#5b4a8a"),
    ("Everything you see here belongs to one pull request", "#a2632c"),
];

/// The developer and everything within reach.
pub(crate) struct Developer {
    pub(crate) forge: LocalForge,
    layout: Layout,
    client: Client,
    token: String,
    pushes: usize,
    pub(crate) report: Report,
}

fn branch(name: &str) -> Result<BranchName> {
    Ok(name.parse::<BranchName>()?)
}

impl Developer {
    /// Opens the forge, and makes the shop's repository there if it is new.
    pub(crate) async fn new(layout: Layout, shop: &Path) -> Result<Self> {
        let path = "developer/shop".parse()?;
        let forge = LocalForge::open(layout.forge(), &path, &branch(MAIN)?).await?;
        forge
            .import(shop, &branch(MAIN)?, "The shop")
            .await
            .context("the example shop could not be imported")?;
        let token = std::fs::read_to_string(layout.operator_token()).context("Maquette's token can not be read")?;
        let client = Client::builder().timeout(Duration::from_secs(30)).build()?;
        Ok(Self {
            forge,
            layout,
            client,
            token: token.trim().to_owned(),
            pushes: 0,
            report: Report::default(),
        })
    }

    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<serde_json::Value>,
    ) -> Result<Option<T>> {
        let url = format!("http://{}/api/v1{path}", self.layout.api);
        let mut request = self.client.request(method, &url).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.with_context(|| format!("{url} does not answer"))?;
        let status = response.status();
        if status.as_u16() == 404 {
            return Ok(None);
        }
        let text = response.text().await?;
        ensure!(status.is_success(), "{url} answered {status}: {text}");
        Ok(Some(serde_json::from_str(if text.is_empty() {
            "null"
        } else {
            &text
        })?))
    }

    /// What a webhook does: the forge says that there is news.
    async fn nudge(&self) -> Result<()> {
        self.call::<serde_json::Value>(Method::POST, "/projects/shop/nudge", None)
            .await
            .map(|_| ())
    }

    async fn environments(&self) -> Result<Vec<EnvironmentView>> {
        let list: Option<EnvironmentList> = self.call(Method::GET, "/environments", None).await?;
        Ok(list.map_or_else(Vec::new, |list| list.environments))
    }

    /// The environment that a pull request has now, in whatever phase.
    pub(crate) async fn environment(&self, number: PullRequestNumber) -> Result<Option<EnvironmentView>> {
        let mut all = self.environments().await?;
        all.retain(|row| {
            row.pull_request.as_ref().is_some_and(|pull| pull.number == number.0) && row.phase != Phase::Ended
        });
        ensure!(all.len() <= 1, "{} environments for one pull request", all.len());
        Ok(all.pop())
    }

    /// The number of the pull request that an earlier run left open.
    pub(crate) async fn open_already(&self) -> Result<Option<PullRequestNumber>> {
        let open = self.forge.pull_request_list_open(self.forge.repository_id()).await?;
        Ok(open.first().map(|pull| pull.number))
    }

    /// Commits a visible change to the branch of the pull request.
    pub(crate) async fn push(&mut self) -> Result<(CommitId, &'static str)> {
        let (headline, accent) = LOOKS[self.pushes % LOOKS.len()];
        self.pushes += 1;
        let looks = serde_json::json!({
            "accent": accent,
            "headline": headline,
            "banner": "This is what the pull request changes.",
        });
        let change = FileChange::write("web/theme.json", serde_json::to_vec_pretty(&looks)?);
        let commit = self
            .forge
            .commit(
                &branch(BRANCH)?,
                Some(&branch(MAIN)?),
                &[change],
                "Welcome people more warmly",
            )
            .await?;
        self.nudge().await?;
        Ok((commit, headline))
    }

    pub(crate) async fn open(&mut self) -> Result<(PullRequestNumber, CommitId, &'static str)> {
        let (commit, headline) = self.push().await?;
        let new = NewPullRequest::new(branch(BRANCH)?, branch(MAIN)?, "A warmer welcome");
        let number = self.forge.open_pull_request(new).await?.number;
        self.nudge().await?;
        Ok((number, commit, headline))
    }

    pub(crate) async fn close(&mut self, number: PullRequestNumber) -> Result<()> {
        self.forge.close(number).await?;
        self.nudge().await
    }

    pub(crate) async fn head(&self, number: PullRequestNumber) -> Result<CommitId> {
        match self.forge.pull_request(self.forge.repository_id(), number).await? {
            PullRequestFact::Present(pull) => Ok(pull.head),
            PullRequestFact::Absent => bail!("pull request {number} is gone"),
        }
    }

    /// Waits until the commit is live.
    pub(crate) async fn live(&self, number: PullRequestNumber, commit: &CommitId) -> Result<EnvironmentView> {
        let since = Instant::now();
        loop {
            if let Some(row) = self.environment(number).await? {
                let at = row
                    .commits
                    .values()
                    .any(|commits| commits.live.as_ref() == Some(commit));
                match row.phase {
                    Phase::Live if at => return Ok(row),
                    Phase::Failed | Phase::LiveOlder => {
                        let failure = row.failure.map_or_else(String::new, |failure| {
                            format!("{}\n{}", failure.message, failure.log.join("\n"))
                        });
                        bail!("the environment failed: {failure}");
                    }
                    _ => {}
                }
            }
            ensure!(since.elapsed() < PATIENCE, "not live after {} s", PATIENCE.as_secs());
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits for the receipt of an environment.
    pub(crate) async fn receipt(&self, id: &str) -> Result<LedgerView> {
        let since = Instant::now();
        loop {
            let found: Option<LedgerView> = self
                .call(Method::GET, &format!("/environments/{id}/receipt"), None)
                .await?;
            if let Some(receipt) = found.filter(|receipt| receipt.completed.is_some()) {
                return Ok(receipt);
            }
            ensure!(since.elapsed() < PATIENCE, "no receipt after {} s", PATIENCE.as_secs());
            sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn link(&self, id: &str) -> Result<String> {
        let path = format!("/environments/{id}/links");
        let link: Option<SignInLink> = self.call(Method::POST, &path, Some(serde_json::json!({}))).await?;
        Ok(link.context("the environment is gone")?.url)
    }

    /// Our one comment on the pull request, as the forge shows it.
    pub(crate) async fn comment(&self, number: PullRequestNumber, says: &str) -> Result<String> {
        let since = Instant::now();
        loop {
            let comments = self.forge.comments(number)?;
            ensure!(comments.len() <= 1, "{} comments on one pull request", comments.len());
            if let Some(comment) = comments
                .into_iter()
                .next()
                .filter(|comment| comment.body.contains(says))
            {
                let text: Vec<&str> = comment.body.lines().filter(|line| !line.starts_with("<!--")).collect();
                return Ok(text.join("\n"));
            }
            ensure!(since.elapsed() < PATIENCE, "the comment does not say {says:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// The whole life, each step verified from outside. What was verified is in the report.
    pub(crate) async fn once(&mut self) -> Result<()> {
        if let Some(number) = self.open_already().await? {
            // An interrupted run left it open; this one begins at the beginning.
            self.close(number).await?;
        }
        self.golden().await?;
        self.await_spare().await?;
        let since = Instant::now();
        let (number, commit, headline) = self.open().await?;
        self.report.done(
            "open",
            since,
            [format!("pull request {number} is open at {}", commit.short())],
        );
        let first = self.live(number, &commit).await?;
        let id = first.id.to_string();
        self.report.environment = Some(id.clone());
        self.comment(number, commit.short()).await?;
        self.comment(number, "live").await?;
        self.report.done(
            "live",
            since,
            ["one environment, live at the pushed commit", "one comment says so"],
        );
        let (mut visitor, order) = self.visit(&first, number, &commit, headline).await?;
        self.follow(number, &first, &mut visitor, &order).await?;
        self.end(number, &first, &mut visitor).await?;
        self.remove_spares().await
    }

    async fn golden(&mut self) -> Result<()> {
        let since = Instant::now();
        self.nudge().await?;
        loop {
            let list: Option<GoldenList> = self.call(Method::GET, "/goldens", None).await?;
            let goldens = list.map_or_else(Vec::new, |list| list.goldens);
            let making = goldens.iter().any(|golden| golden.state == "making");
            if !making && goldens.iter().any(|golden| golden.state == "ready") {
                break;
            }
            if let (false, Some(why)) = (making, goldens.iter().find_map(|golden| golden.failure.as_ref())) {
                bail!("the golden could not be made: {why}");
            }
            ensure!(since.elapsed() < PATIENCE, "no golden after {} s", PATIENCE.as_secs());
            sleep(Duration::from_millis(20)).await;
        }
        self.report.done(
            "golden",
            since,
            ["the database that environments are cloned from is ready"],
        );
        Ok(())
    }

    /// Through the gateway: refused without sign-in, the shop after it, and one order through all services.
    async fn visit(
        &mut self,
        row: &EnvironmentView,
        number: PullRequestNumber,
        commit: &CommitId,
        headline: &str,
    ) -> Result<(Visitor, String)> {
        let since = Instant::now();
        let address = row.address.clone().context("the environment has no address")?;
        let mut visitor = Visitor::new(&address, self.layout.gateway)?;
        let stranger = visitor.get("/").await?;
        ensure!(
            stranger.status == 401,
            "a stranger was answered with status {}",
            stranger.status
        );
        ensure!(!stranger.text.contains(headline), "a stranger saw the shop");
        let mut nowhere = Visitor::new(&address.replace("//pr-", "//pr-9"), self.layout.gateway)?;
        ensure!(
            nowhere.get("/").await?.text == stranger.text,
            "an address that does not exist answers differently"
        );
        visitor.sign_in(&self.link(row.id.as_str()).await?).await?;
        let home = visitor.get("/").await?;
        ensure!(home.status == 200, "the shop answered with status {}", home.status);
        ensure!(
            home.text.contains(headline),
            "the shop does not show the pull request's change"
        );
        ensure!(home.text.contains(commit.short()), "the shop does not show the commit");
        ensure!(
            home.text.contains(&number.to_string()),
            "the shop does not show the pull request"
        );
        let order = visitor.buy(PATIENCE).await?;
        self.report.done(
            "request",
            since,
            [
                "a stranger gets 401, and the same for an address that does not exist".to_owned(),
                "after the sign-in link the shop shows this pull request, commit and change".to_owned(),
                format!("order {order} went through all services to a mail in the outbox"),
            ],
        );
        Ok((visitor, order))
    }

    /// A push: the same environment follows, and what people did in it is still there.
    async fn follow(
        &mut self,
        number: PullRequestNumber,
        before: &EnvironmentView,
        visitor: &mut Visitor,
        order: &str,
    ) -> Result<()> {
        let since = Instant::now();
        let (commit, headline) = self.push().await?;
        self.report
            .done("push", since, [format!("{} is pushed", commit.short())]);
        let after = self.live(number, &commit).await?;
        ensure!(after.id == before.id, "the push made another environment");
        self.report.done(
            "live after push",
            since,
            ["the same environment is live at the pushed commit"],
        );
        let since = Instant::now();
        let home = visitor.get("/").await?;
        ensure!(home.text.contains(headline), "the shop does not show the pushed change");
        ensure!(
            visitor.get(&format!("/orders/{order}")).await?.status == 200,
            "the order from before the push is lost"
        );
        self.comment(number, commit.short()).await?;
        self.report.done(
            "request after push",
            since,
            [
                "the shop shows the pushed change",
                "the order from before is still there",
            ],
        );
        Ok(())
    }

    async fn end(&mut self, number: PullRequestNumber, row: &EnvironmentView, visitor: &mut Visitor) -> Result<()> {
        let since = Instant::now();
        self.close(number).await?;
        self.report
            .done("close", since, [format!("pull request {number} is closed")]);
        let receipt = self.receipt(row.id.as_str()).await?;
        ensure!(
            receipt.entries.iter().all(|entry| entry.gone.is_some()),
            "the receipt lists something that is not gone"
        );
        let entries = receipt.entries.len();
        ensure!(entries > 0, "the receipt is empty");
        self.comment(number, "verified gone").await?;
        let page = visitor.get("/").await?;
        ensure!(page.status != 200, "the address still answers");
        self.report.done(
            "receipt",
            since,
            [
                format!("all {entries} entries of the receipt are gone"),
                format!("the address answers {}", page.status),
            ],
        );
        Ok(())
    }
}
