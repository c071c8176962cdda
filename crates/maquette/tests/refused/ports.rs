//! A port that is taken: who starts Maquette reads which one, and where to choose another.

use crate::{
    bench::run,
    rig::{COMPOSE, Rig, SETTINGS},
};
use forge::local::FileChange;
use std::net::TcpListener;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_is_taken_is_named_with_the_setting_that_changes_it() {
    let files = [
        FileChange::write("compose.yaml", COMPOSE),
        FileChange::write("maquette.yaml", SETTINGS),
    ];
    let mut rig = Rig::new(&files).await;
    for (port, setting) in [(rig.api, "`listen`"), (rig.gateway, "`gateway.listen`")] {
        let taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
        rig.spawn();
        assert_eq!(rig.ended().await, 1);
        let log = rig.log();
        // Processes that were started before say other things meanwhile.
        let said = log.lines().skip_while(|line| !line.starts_with("error: "));
        let said = said.filter(|line| line.starts_with("error: ") || line.starts_with("hint: "));
        let said: Vec<&str> = said.take(2).collect();
        assert!(
            said[0].contains(&format!("127.0.0.1:{port} can not be listened on")),
            "{log}"
        );
        assert!(said[0].contains("in use"), "{log}");
        assert!(said[1].starts_with("hint: ") && said[1].contains(setting), "{log}");
        drop(taken);
        std::fs::remove_file(rig.root.join("log")).unwrap();
    }
    // Nothing stays of the tries that would keep the next one from starting.
    rig.start().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateway_listens_where_only_root_may_and_has_no_other_right() {
    let mut rig = Rig::new(&[]).await;
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    rig.gateway = (600..1024).rev().find(free).unwrap();
    rig.configure();
    rig.start().await;
    let pid = std::fs::read_to_string(rig.run_dir.join("gateway/gateway.pid")).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.trim())).unwrap();
    let rights = |kind: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(kind));
        u64::from_str_radix(line.unwrap().trim(), 16).unwrap()
    };
    // CAP_NET_BIND_SERVICE
    for kind in ["CapPrm:", "CapEff:", "CapInh:", "CapAmb:"] {
        assert_eq!(rights(kind), 1 << 10, "{kind} {status}");
    }
    let variables = std::fs::read(format!("/proc/{}/environ", pid.trim())).unwrap();
    assert!(!String::from_utf8_lossy(&variables).contains(crate::rig::CANARY));
}

#[tokio::test]
async fn the_demo_names_the_port_and_its_flag_before_it_makes_anything() {
    let state = tempfile::tempdir().unwrap();
    let at = state.path().join("demo");
    for (taken, free) in [("--port", "--api-port"), ("--api-port", "--port")] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        for once in [&["--once"][..], &[]] {
            let words = ["demo", "--state", at.to_str().unwrap(), taken, &port, free, "0"];
            let ended = run(&[&words, once].concat(), "").await;
            assert_eq!(ended.code, 1, "{ended:?}");
            assert!(
                ended.err.contains(&format!("port {port} can not be used")) && ended.err.contains("in use"),
                "{ended:?}"
            );
            assert!(
                ended.err.contains(&format!("hint: choose another one with {taken}\n")),
                "{ended:?}"
            );
            // For programs it is in the document, too.
            if once.is_empty() {
                assert_eq!(ended.out, "");
            } else {
                let report: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
                let failure = report["failure"].as_str().unwrap();
                assert!(
                    report["ok"] == false && failure.contains(&format!("port {port} ")),
                    "{report:#}"
                );
            }
        }
    }
    let left: Vec<_> = std::fs::read_dir(&at).into_iter().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}
