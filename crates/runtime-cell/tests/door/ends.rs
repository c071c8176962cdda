//! Processes that are killed, environments that sleep and end: connections go on where they can, and nothing is left.

use crate::{
    street::{Street, allow, holder, outside},
    support::{PATIENCE, Rig},
};
use model::{Power, Stack};
use runtime::Runtime as _;
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

/// An environment whose service `holder` keeps a connection to the outside.
async fn holding(address: SocketAddr) -> Street {
    let mut rig = Rig::start();
    rig.start_door();
    let street = Street::on(rig, |spec| {
        allow(spec, &[("api.example.com", address)]);
        let Stack::Services(stack) = &mut spec.stack else {
            unreachable!()
        };
        stack
            .services
            .insert("holder".parse().unwrap(), holder("api.example.com", address.port()));
    })
    .await;
    assert_eq!(street.hold("begun").await, "begun");
    street
}

fn sockets(street: &Street) -> usize {
    let directory = format!("/proc/{}/fd", street.rig.door_pid());
    let links = std::fs::read_dir(directory).unwrap().flatten();
    links
        .filter(|link| std::fs::read_link(link.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:")))
        .count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_outlive_the_cell_host() {
    let address = outside("hello");
    let mut street = holding(address).await;
    let counted = street.fact_until(|fact| fact.passed.iter().any(|p| p.sent == 5)).await;
    for times in 2..4 {
        street.written().await;
        street.rig.kill_host();
        street.rig.start_host();
        street.runtime = street.rig.runtime().await;
        street.opened(times).await;
        assert_eq!(street.hold("again").await, "again", "the same connection");
        assert_eq!(
            street
                .inside(&format!(
                    "print(connect('api.example.com', {}).recv(5))",
                    address.port()
                ))
                .await,
            "b'hello'\n"
        );
        let fact = street
            .fact_until(|fact| fact.passed.iter().any(|p| p.connections >= times as u64))
            .await;
        assert_eq!(fact.passed[0].name, counted.passed[0].name);
    }
    street.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_door_that_was_killed_is_followed_by_one_that_lets_out_again() {
    let address = outside("hello");
    let mut street = holding(address).await;
    street.rig.kill_door();
    assert!(["ended", "broken"].contains(&street.hold("lost").await.as_str()));
    street.rig.start_door();
    street.opened(2).await;
    let begun = Instant::now();
    loop {
        let said = street.hold("anew").await;
        if said == "anew" {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{said}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Both at once.
    street.rig.kill_host();
    street.rig.kill_door();
    street.rig.start_door();
    street.rig.start_host();
    street.runtime = street.rig.runtime().await;
    street.opened(3).await;
    let seen = street
        .inside(&format!(
            "begun = time.monotonic()
while time.monotonic() - begun < 150:
    try: print(connect('api.example.com', {}).recv(5)); break
    except OSError: time.sleep(0.02)",
            address.port()
        ))
        .await;
    assert_eq!(seen, "b'hello'\n");
    street.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sleep_keeps_connections_and_removal_leaves_none() {
    let address = outside("hello");
    let street = holding(address).await;
    let held = sockets(&street);
    let (id, generation) = (street.id().clone(), street.spec.generation);
    street.runtime.power(&id, generation, Power::Frozen).await.unwrap();
    street.runtime.power(&id, generation, Power::Running).await.unwrap();
    assert_eq!(street.hold("awake").await, "awake");
    let listed = street.runtime.inventory(Some(&id)).await.unwrap();
    assert!(listed.iter().any(|resource| resource.kind == "door"), "{listed:?}");
    street.runtime.remove(&id, generation.next()).await.unwrap();
    assert_eq!(street.runtime.inventory(None).await.unwrap(), []);
    // A listener, and both ends of a connection.
    assert_eq!(sockets(&street), held - 3);
}
