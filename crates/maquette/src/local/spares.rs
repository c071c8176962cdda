//! What `doctor` says of spares: the server that uses the configuration is asked, if it runs.

use crate::{cli::Connection, client::Api, process, render::ago};
use api::{ProjectSparesView, SpareList};
use model::Timestamp;
use runtime_cell::doctor::{Finding, Status};
use serde::de::DeserializeOwned;
use server::{StateDir, config::ServerConfig};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::timeout;

/// How long the server may take; what it does not say then is left out.
const ASK: Duration = Duration::from_secs(5);

/// One finding per project, or one that says why there are none.
pub(super) fn findings(config: &ServerConfig) -> Vec<Finding> {
    let now = now();
    match ask::<SpareList>(config, "/spares") {
        Ok(list) => list.projects.iter().map(|project| finding(project, now)).collect(),
        Err(why) => vec![Finding {
            check: "spares".to_owned(),
            status: Status::Ok,
            meaning: format!("not looked at: {why}"),
            mend: None,
        }],
    }
}

/// The time on this machine.
pub(super) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// What the server answers that uses this configuration.
pub(super) fn ask<T: DeserializeOwned>(config: &ServerConfig, path: &str) -> Result<T, String> {
    let connection = Connection {
        server: None,
        token_file: None,
        state_dir: config.state_dir.clone(),
        json: false,
    };
    if !StateDir::new(&config.state_dir).server_address().exists() {
        return Err("no server was found that uses this configuration".to_owned());
    }
    let asked = process::block_on(async {
        let api = Api::new(&connection).map_err(|failure| failure.to_string())?;
        match timeout(ASK, api.get(path)).await {
            Ok(answer) => answer.map_err(|failure| failure.to_string()),
            Err(_) => Err("the server does not answer".to_owned()),
        }
    });
    asked.map_err(|failure| failure.to_string())?
}

/// None is never more than a start that takes longer: that is no warning.
fn finding(view: &ProjectSparesView, now: Timestamp) -> Finding {
    let one = |spare: &api::SpareView| {
        let memory = spare
            .memory_bytes
            .map_or_else(String::new, |bytes| format!(", keeps {} MiB of memory", bytes >> 20));
        let state = if spare.ready { "is ready" } else { "is being made" };
        format!("{} {state}, {} old{memory}", spare.label, ago(spare.created, now))
    };
    let mut parts: Vec<String> = view.spares.iter().map(one).collect();
    if view.spares.is_empty() {
        parts.push("none".to_owned());
    }
    parts.extend(view.why_fewer.clone());
    Finding {
        check: format!("spares of {}", view.project),
        status: Status::Ok,
        meaning: parts.join("; "),
        mend: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spare_is_told_with_its_age_and_cost_and_none_with_the_reason() {
        let spare = api::SpareView {
            id: "sabcdefghi".parse().unwrap(),
            label: "spare-sabcdefghi".parse().unwrap(),
            ready: true,
            created: Timestamp(0),
            memory_bytes: Some(150 << 20),
        };
        let mut view = ProjectSparesView {
            project: "shop".parse().unwrap(),
            wanted: 1,
            spares: vec![spare],
            why_fewer: None,
        };
        let told = finding(&view, Timestamp(180_000));
        assert_eq!(told.check, "spares of shop");
        assert_eq!(
            told.meaning,
            "spare-sabcdefghi is ready, 3 min old, keeps 150 MiB of memory"
        );
        view.spares.clear();
        view.why_fewer = Some("memory is short".to_owned());
        assert_eq!(finding(&view, Timestamp(0)).meaning, "none; memory is short");
    }
}
