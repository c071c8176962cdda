//! What `doctor` says of goldens: the server that uses the configuration is asked, if it runs.

use super::spares::ask;
use crate::render::ago;
use api::{GoldenList, GoldenView};
use model::Timestamp;
use runtime_cell::doctor::{Finding, Status};
use server::config::ServerConfig;

/// One finding for all; nothing if there is no server to ask, which is said of the spares.
pub(super) fn findings(config: &ServerConfig, now: Timestamp) -> Vec<Finding> {
    let Ok(list) = ask::<GoldenList>(config, "/goldens") else {
        return Vec::new();
    };
    let one = |golden: &GoldenView| {
        let used = ago(golden.last_used, now);
        let (project, engine, state) = (&golden.project, &golden.engine, &golden.state);
        let why = golden
            .failure
            .as_ref()
            .map_or_else(String::new, |why| format!(" ({why})"));
        format!("{} of {project}, {engine}, {state}{why}, wanted {used} ago", golden.id)
    };
    let parts: Vec<String> = list.goldens.iter().map(one).collect();
    let failed = list.goldens.iter().any(|golden| golden.state == "failed");
    vec![Finding {
        check: "goldens".to_owned(),
        status: if failed { Status::Warn } else { Status::Ok },
        meaning: match parts.as_slice() {
            [] => "none".to_owned(),
            parts => parts.join("; "),
        },
        mend: failed
            .then(|| "mend the migrations or the seed on the policy branch; it is tried again by itself".to_owned()),
    }]
}
