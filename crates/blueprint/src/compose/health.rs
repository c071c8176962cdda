//! `healthcheck` of a service.

use super::{Scene, keys, service, service::Body};
use crate::{
    read,
    yaml::{Key, Node, NodeKind},
};
use model::{Feature, HealthCheck, HealthTest, ServiceName};

/// Compose's own defaults, in milliseconds.
const INTERVAL_MS: u64 = 30_000;
const TIMEOUT_MS: u64 = 30_000;
const RETRIES: u32 = 3;

/// Reads the health check; there is none where it is switched off.
pub(super) fn read(scene: &Scene<'_>, name: &ServiceName, at: &Key, node: &Node, body: &mut Body) {
    let report = scene.report;
    let of = format!("in `healthcheck` of service `{name}`");
    let (mut exec, mut off) = (None, false);
    let mut check = HealthCheck {
        test: HealthTest::Exec(Vec::new()),
        interval_ms: INTERVAL_MS,
        timeout_ms: TIMEOUT_MS,
        retries: RETRIES,
        start_period_ms: 0,
        start_interval_ms: None,
    };
    let Some(entries) = read::map(report, node, &format!("`healthcheck` of service `{name}`")) else {
        return;
    };
    for (key, value) in entries {
        if !keys::admit(report, "services.*.healthcheck", key, &of) {
            continue;
        }
        let what = format!("`{}` {of}", key.text);
        let duration = |default| read::duration_ms(report, value, &what).unwrap_or(default);
        match key.text.as_str() {
            "test" => match test(scene, value, &what) {
                Some(Test::Off) => off = true,
                Some(Test::Exec(words)) => exec = Some(words),
                None => return,
            },
            "disable" => off |= read::flag(report, value, &what).unwrap_or_default(),
            "interval" => check.interval_ms = duration(INTERVAL_MS).max(1),
            "timeout" => check.timeout_ms = duration(TIMEOUT_MS).max(1),
            "start_period" => check.start_period_ms = duration(0),
            "start_interval" => {
                check.start_interval_ms = Some(duration(0).max(1));
                body.wish(key.at, Feature::StartInterval, &what);
            }
            _ => {
                let number = read::number(report, value, &what).unwrap_or(u64::from(RETRIES));
                check.retries = u32::try_from(number).unwrap_or(u32::MAX).max(1);
            }
        }
    }
    if off {
        body.health_off = true;
        return;
    }
    let Some(exec) = exec else {
        report.error_hint(
            node.at,
            format!("there is no `test` {of}"),
            "for example `test: [CMD, /bin/true]`",
        );
        return;
    };
    check.test = HealthTest::Exec(exec);
    body.health = Some((at.at, check));
}

enum Test {
    Off,
    Exec(Vec<String>),
}

/// A text is for the container's own shell, as Compose defines it; it stays one word here.
fn test(scene: &Scene<'_>, node: &Node, what: &str) -> Option<Test> {
    let shell = |text: String| Some(Test::Exec(vec!["/bin/sh".to_owned(), "-c".to_owned(), text]));
    if let NodeKind::Scalar { text, .. } = &node.kind {
        return if text == "NONE" {
            Some(Test::Off)
        } else {
            shell(text.clone())
        };
    }
    let mut words = service::command(scene, node, what)?;
    let form = if words.is_empty() {
        String::new()
    } else {
        words.remove(0)
    };
    match (form.as_str(), words.len()) {
        ("NONE", 0) => Some(Test::Off),
        ("CMD", 1..) => Some(Test::Exec(words)),
        ("CMD-SHELL", 1) => shell(words.remove(0)),
        _ => {
            let hint = "a list begins with `CMD` and has words after it, or is `[CMD-SHELL, \"…\"]` or `[NONE]`";
            scene
                .report
                .error_hint(node.at, format!("{what} is of no known form"), hint);
            None
        }
    }
}
