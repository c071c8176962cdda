//! `healthcheck` of a service.

use super::{Scene, service};
use crate::{
    read,
    yaml::{Node, NodeKind},
};
use model::{HealthCheck, HealthTest, ServiceName};

/// Compose's own defaults, in milliseconds.
const INTERVAL_MS: u64 = 30_000;
const TIMEOUT_MS: u64 = 30_000;
const RETRIES: u32 = 3;

/// The health check; `None` if there is none, also where it is switched off.
pub(super) fn read(scene: &Scene<'_>, name: &ServiceName, node: &Node) -> Option<HealthCheck> {
    let report = scene.report;
    let place = format!("in `healthcheck` of service `{name}`");
    let (mut exec, mut off) = (None, false);
    let (mut interval_ms, mut timeout_ms, mut start_period_ms, mut retries) = (INTERVAL_MS, TIMEOUT_MS, 0, RETRIES);
    for (key, value) in read::map(report, node, &format!("`healthcheck` of service `{name}`"))? {
        let what = format!("`{}` {place}", key.text);
        let duration = |default| read::duration_ms(report, value, &what).unwrap_or(default);
        match key.text.as_str() {
            "test" => match test(scene, value, &what) {
                Some(Test::Off) => off = true,
                Some(Test::Exec(words)) => exec = Some(words),
                None => return None,
            },
            "disable" => off |= read::flag(report, value, &what).unwrap_or_default(),
            "interval" => interval_ms = duration(INTERVAL_MS),
            "timeout" => timeout_ms = duration(TIMEOUT_MS),
            "start_period" => start_period_ms = duration(0),
            "start_interval" => {
                duration(0);
                report.warn(
                    key.at,
                    format!("{what} has no effect: until it is ready, a service is probed often"),
                );
            }
            "retries" => {
                let number = read::number(report, value, &what).unwrap_or(u64::from(RETRIES));
                retries = u32::try_from(number).unwrap_or(u32::MAX);
            }
            _ => read::unknown_key(
                report,
                key,
                &place,
                &[
                    "test",
                    "interval",
                    "timeout",
                    "retries",
                    "start_period",
                    "start_interval",
                    "disable",
                ],
            ),
        }
    }
    if off {
        return None;
    }
    let Some(exec) = exec else {
        report.error_hint(
            node.at,
            format!("there is no `test` {place}"),
            "for example `test: [CMD, /bin/true]`",
        );
        return None;
    };
    let retries = retries.max(1);
    Some(HealthCheck {
        test: HealthTest::Exec(exec),
        interval_ms: interval_ms.max(1),
        timeout_ms: timeout_ms.max(1),
        retries,
        start_period_ms,
        start_interval_ms: None,
    })
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
