//! What tells a cluster that a service is ready, in whole seconds.

use super::values::literal;
use crate::finding::{Decision, Findings, Place};
use k8s_openapi::{
    api::core::v1::{ExecAction, Probe, TCPSocketAction},
    apimachinery::pkg::util::intstr::IntOrString,
};
use model::{HealthCheck, HealthTest};

/// Pause between looks at the port of a service without a health check, in seconds.
const PORT_INTERVAL: i32 = 2;

/// Milliseconds in whole seconds, rounded up, at least one.
pub(in super::super) fn seconds(place: &Place, what: &str, millis: u64, findings: &mut Findings) -> i32 {
    if !millis.is_multiple_of(1000) {
        findings.note(place, Decision::WholeSeconds, &format!("{what} {millis} ms"));
    }
    i32::try_from(millis.div_ceil(1000)).unwrap_or(i32::MAX).max(1)
}

/// Tells whether a service is ready: by its health check, or else its first port. A probe of readiness, because a failing health
/// check of a stack ends nothing.
pub(in super::super) fn readiness(
    place: &Place,
    health: Option<&HealthCheck>,
    ports: &[u16],
    findings: &mut Findings,
) -> Option<Probe> {
    let Some(check) = health else {
        let port = *ports.first()?;
        return Some(Probe {
            tcp_socket: Some(tcp(port)),
            period_seconds: Some(PORT_INTERVAL),
            ..Probe::default()
        });
    };
    let HealthCheck {
        test,
        interval_ms,
        timeout_ms,
        retries,
        // A pod is not ready before its first success, however long that takes; whoever observes it knows how long it may.
        start_period_ms: _,
        start_interval_ms,
    } = check;
    findings.note_if(start_interval_ms.is_some(), place, Decision::StartInterval);
    let mut probe = Probe {
        period_seconds: Some(seconds(place, "interval", *interval_ms, findings)),
        timeout_seconds: Some(seconds(place, "timeout", *timeout_ms, findings)),
        failure_threshold: Some(i32::try_from(*retries).unwrap_or(i32::MAX).max(1)),
        ..Probe::default()
    };
    match test {
        // The words of a probe are replaced as those of a command are.
        HealthTest::Exec(words) => {
            probe.exec = Some(ExecAction {
                command: Some(words.iter().map(|word| literal(word)).collect()),
            });
        }
        HealthTest::Tcp(port) => probe.tcp_socket = Some(tcp(*port)),
    }
    Some(probe)
}

fn tcp(port: u16) -> TCPSocketAction {
    TCPSocketAction {
        port: IntOrString::Int(port.into()),
        host: None,
    }
}
