//! Maquette on a machine of its own, installed by the guide, over restarts of its units, reboots and power cuts.
//!
//! `make test-vm` runs these in a virtual machine, one for each boot, in the order of this file, on the same disk. Elsewhere they are
//! ignored: they install units of systemd, and cut the power.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "only tests are here"
)]

mod application;
mod developer;
mod machine;
#[path = "../../src/demo/outside.rs"]
mod outside;
mod restarts;
mod visitor;

use developer::{Developer, Told};
use machine::{Notes, UNITS};

/// By the guide's own commands; then every unit is restarted and killed while people use an environment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "installs Maquette on the machine; run by tools/vm/life"]
async fn installed_by_the_guide_environments_outlive_the_restart_of_every_unit() {
    application::make_forge().await;
    machine::install();
    let developer = Developer::new().await;
    let (number, commit) = developer.open("first").await;
    let id = developer.live(number, &commit).await;
    let visitor = developer.visitor(number).await;
    visitor.stranger_is_refused().await;
    assert_eq!(visitor.page().await, "first opened\n");
    visitor.order("before the restarts").await;
    for unit in UNITS {
        for how in [machine::restart, machine::kill] {
            restarts::survived(&developer, &visitor, unit, how).await;
        }
    }
    visitor.order("after the restarts").await;
    let orders = visitor.orders().await;
    assert_eq!(orders, ["a seed", "before the restarts", "after the restarts"]);
    developer.only(number, &id).await;
    developer.no_service_was_restarted(number).await;
    Notes {
        number: number.0,
        id: id.to_string(),
        commit: commit.to_string(),
        cookie: visitor.cookie().to_owned(),
        orders,
        second: 0,
    }
    .write();
}

/// Nobody does anything, and everything is as it was. Then the power is cut while orders come in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "cuts the power of the machine; run by tools/vm/life"]
async fn after_an_orderly_reboot_all_is_as_it_was() {
    let mut notes = Notes::read();
    machine::units_run().await;
    let developer = Developer::new().await;
    let number = notes.number();
    let id = developer.live(number, &notes.commit()).await;
    assert_eq!(id.as_str(), notes.id, "another environment");
    developer.only(number, &id).await;
    // Whoever was signed in still is.
    let visitor = developer.visitor_with(number, &notes.cookie);
    assert_eq!(visitor.page().await, "first opened\n");
    assert_eq!(visitor.orders().await, notes.orders);
    assert_eq!(
        developer.told(number).await,
        Told::Nothing,
        "an orderly reboot damages nothing"
    );

    let commit = developer.push("first").await;
    assert_eq!(developer.live(number, &commit).await, id);
    // Databases of previews do not wait for the disk: this order may be lost with the power, those before it may not.
    visitor.order("after the reboot").await;
    notes.commit = commit.to_string();
    notes.write();
    visitor.order_until_cut().await;
}

/// What was written last may be lost or damaged, which is told; the rest is as it was. Then the power is cut while a pull request is
/// opened.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "cuts the power of the machine; run by tools/vm/life"]
async fn after_a_power_cut_all_is_as_it_was_or_told() {
    let mut notes = Notes::read();
    machine::units_run().await;
    let developer = Developer::new().await;
    let number = notes.number();
    let id = developer.settled(number, &notes.commit()).await;
    assert_eq!(id.as_str(), notes.id, "another environment");
    developer.only(number, &id).await;
    assert_eq!(developer.told(number).await, Told::Damaged);
    let visitor = developer.visitor_with(number, &notes.cookie);
    developer.usable(number, &visitor, &notes.orders).await;
    assert_eq!(visitor.page().await, "first pushed\n");

    let commit = developer.push_more("first").await;
    assert_eq!(developer.live(number, &commit).await, id, "a push is followed");
    visitor.order("after the power cut").await;
    let (second, _) = developer.open("second").await;
    notes.orders = visitor.orders().await;
    notes.commit = commit.to_string();
    notes.second = second.0;
    notes.write();
    developer.begun(second, &machine::point("service:db")).await;
    machine::cut().await;
}

/// The pull request that was being opened is live, once. Then the power is cut while the other one is closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "cuts the power of the machine; run by tools/vm/life"]
async fn opening_goes_on_after_a_power_cut() {
    let notes = Notes::read();
    machine::units_run().await;
    let developer = Developer::new().await;
    let second = notes.second();
    let head = developer.head("second").await;
    let id = developer.settled(second, &head).await;
    developer.only(second, &id).await;
    let visitor = developer.visitor(second).await;
    developer.usable(second, &visitor, &["a seed".to_owned()]).await;
    assert_eq!(visitor.page().await, "second opened\n");
    visitor.order("in the second").await;

    developer.close(notes.number()).await;
    developer.begun(notes.number(), &machine::point("remove")).await;
    machine::cut().await;
}

/// The pull request that was being closed is gone, with a receipt; the other one can be closed. Nothing is left on the machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "for the last boot of tools/vm/life"]
async fn closing_goes_on_after_a_power_cut_and_nothing_is_left() {
    let notes = Notes::read();
    machine::units_run().await;
    let developer = Developer::new().await;
    developer.ended(&notes.id).await;
    let second = notes.second();
    let head = developer.head("second").await;
    let id = developer.settled(second, &head).await;
    developer.only(second, &id).await;
    developer.close(second).await;
    developer.ended(id.as_str()).await;
    developer.comments_are_single(&[notes.number(), second]);
    machine::nothing_is_left().await;
}
