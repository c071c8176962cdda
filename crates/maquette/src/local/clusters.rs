//! What `maquette doctor` says of clusters: whether each answers, whether we may do there what is needed, and whether it carries production.

use crate::process::block_on;
use runtime_cell::doctor::{Finding, Status};
use server::config::{ClusterConfig, ServerConfig};

/// What was found of each cluster. They are asked now.
pub(super) fn findings(config: &ServerConfig) -> Vec<Finding> {
    let mut all = Vec::new();
    for (name, cluster) in &config.clusters {
        let name = format!("cluster {name}");
        match block_on(examine(&name, cluster)) {
            Ok(found) => all.extend(found),
            Err(failure) => all.push(finding(&name, Status::Fail, failure.to_string(), None)),
        }
    }
    all
}

fn finding(check: &str, status: Status, meaning: String, mend: Option<&str>) -> Finding {
    Finding {
        check: check.to_owned(),
        status,
        meaning,
        mend: mend.map(str::to_owned),
    }
}

async fn examine(name: &str, cluster: &ClusterConfig) -> Vec<Finding> {
    let report = match cluster.examine().await {
        Ok(report) => report,
        Err(why) => {
            let mend = "look at `kubeconfig` and `context` in maquette-server.yaml, and whether the API server is reached from here";
            return vec![finding(name, Status::Fail, why, Some(mend))];
        }
    };
    let mut all = vec![finding(
        name,
        Status::Ok,
        format!("it answers, Kubernetes {}", report.version),
        None,
    )];
    let check = format!("{name} rights");
    all.push(if report.lacking.is_empty() {
        finding(
            &check,
            Status::Ok,
            "all that environments need is allowed".to_owned(),
            None,
        )
    } else {
        let meaning = format!("its account may not: {}", report.lacking.join(", "));
        let mend = "kubectl apply -f deploy/kubernetes/rights.yaml";
        finding(&check, Status::Fail, meaning, Some(mend))
    });
    let check = format!("{name} production");
    all.push(match (report.production.as_str(), report.insists) {
        ("", _) => finding(&check, Status::Ok, "nothing on it but environments".to_owned(), None),
        (found, true) => finding(
            &check,
            Status::Warn,
            format!("{found}; environments are made there because the configuration insists"),
            None,
        ),
        (found, false) => finding(
            &check,
            Status::Fail,
            format!("{found}; no environment is made there"),
            Some(report.insist),
        ),
    });
    all
}
