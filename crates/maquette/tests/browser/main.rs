//! What visitors see in a real browser, of environments on real cells: how they sign in, what they read until an environment is live,
//! and why one is not. `SCREENSHOTS=directory` keeps pictures of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "only tests are here"
)]

#[path = "../program/bench.rs"]
#[allow(dead_code, reason = "the other test program uses more of it")]
mod bench;
#[path = "../refused/rig.rs"]
#[allow(dead_code, reason = "the other test program uses more of it")]
mod rig;
mod street;

use rustix::process::geteuid;
use serde_json::json;
use street::Street;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_visitors_see() {
    if !geteuid().is_root() {
        eprintln!("left out: cells need root");
        return;
    }
    let street = Street::open().await;
    strangers_learn_nothing(&street).await;
    a_link_signs_in_when_continue_is_pressed(&street).await;
    a_link_is_pasted_where_somebody_wanted_to_go(&street).await;
    links_that_do_not_sign_in_say_so(&street).await;
    a_start_shows_its_steps_and_turns_into_the_application(&street).await;
    a_failure_says_why(&street).await;
}

/// Whatever is or is not behind an address: strangers see the same.
async fn strangers_learn_nothing(street: &Street) {
    let mut pages = Vec::new();
    for label in ["pr-1", "pr-2", "pr-3", "pr-999", "no-such-thing"] {
        let page = street.browser.visitor().await;
        page.open(&street.address(label, "/")).await;
        page.says("Open the sign-in link that you were given").await;
        let status = page.value("performance.getEntriesByType('navigation')[0].responseStatus");
        assert_eq!(status.await, 401, "{label}");
        assert!(page.cookies().await.is_empty(), "{label}");
        pages.push(page.value("document.documentElement.outerHTML").await);
        if label == "pr-1" {
            street.pictures(&page, "stranger").await;
        }
    }
    assert!(pages.iter().all(|html| *html == pages[0]), "{pages:#?}");
}

/// The token leaves the address bar before it is sent, and nothing is sent before the button is pressed.
async fn a_link_signs_in_when_continue_is_pressed(street: &Street) {
    let page = street.browser.visitor().await;
    let link = street.link("pr-1").await;
    let (_, token) = link.split_once("#token=").unwrap();
    page.open(&link).await;
    let host = format!("pr-1.localhost:{}", street.rig.gateway);
    let text = page
        .says(&format!("Your link was recognised. Continue to {host}."))
        .await;
    assert!(!text.contains("Sign-in link"), "nothing is to be pasted: {text}");
    assert_eq!(page.address().await, street.address("pr-1", "/.maquette/sign-in"));
    assert!(!text.contains(token) && page.cookies().await.is_empty());
    street.pictures(&page, "continue").await;
    page.click("#continue").await;
    page.says("The page of pr-1").await;
    assert_eq!(page.address().await, street.address("pr-1", "/"));
    let cookies = page.cookies().await;
    let cookie = &cookies["__Host-maquette"];
    assert_eq!(cookies.len(), 1, "{cookies:#?}");
    let told = ["domain", "path", "httpOnly", "secure", "sameSite"].map(|name| cookie[name].clone());
    let wanted = [
        json!("pr-1.localhost"),
        json!("/"),
        json!(true),
        json!(true),
        json!("Lax"),
    ];
    assert_eq!(told, wanted);
    assert_eq!(page.value("document.cookie").await, "", "no script reads it");

    // It is for this address only, and opens it again.
    page.open(&street.address("pr-3", "/")).await;
    page.says("Open the sign-in link that you were given").await;
    page.open(&street.address("pr-1", "/")).await;
    page.says("The page of pr-1").await;
}

async fn a_link_is_pasted_where_somebody_wanted_to_go(street: &Street) {
    let page = street.browser.visitor().await;
    let there = street.address("pr-1", "/further.html?about=this");
    page.open(&there).await;
    page.says("paste it here").await;
    page.click("#token").await;
    page.write(&street.link("pr-1").await).await;
    page.click("#continue").await;
    page.says("A further page").await;
    assert_eq!(page.address().await, there);
}

async fn links_that_do_not_sign_in_say_so(street: &Street) {
    let page = street.browser.visitor().await;
    let other = street.link("pr-3").await;
    let (_, token) = other.split_once("#token=").unwrap();
    for token in ["x", token] {
        page.open("about:blank").await;
        page.open(&street.address("pr-1", &format!("/.maquette/sign-in#token={token}")))
            .await;
        page.says("Your link was recognised").await;
        page.click("#continue").await;
        page.says("This link does not sign in").await;
        assert!(page.cookies().await.is_empty());
    }
    street.pictures(&page, "bad-link").await;
}

/// The steps are those that are carried out. Nobody has to do anything until the application is there.
async fn a_start_shows_its_steps_and_turns_into_the_application(street: &Street) {
    let page = street.browser.visitor().await;
    page.open(&street.link("pr-2").await).await;
    page.says("Your link was recognised").await;
    page.click("#continue").await;
    page.says("This page opens by itself as soon as it is live.").await;
    page.until("document.querySelector('li.done') !== null").await;
    page.until(
        "[...document.querySelectorAll('li.running')].some(li => li.innerText.includes('waiting for web to be ready'))",
    )
    .await;
    let text = page.text().await;
    assert!(
        text.starts_with("Starting") && text.contains("#2 A slow start") && text.contains("shop"),
        "{text}"
    );
    let status = page.value("performance.getEntriesByType('navigation')[0].responseStatus");
    assert_eq!(status.await, 503);
    page.until("[...document.querySelectorAll('li.running .time')].some(time => parseInt(time.innerText) >= 1)")
        .await;
    street.pictures(&page, "starting").await;
    street.let_it_start().await;
    page.says("The page of pr-2").await;
    assert_eq!(page.address().await, street.address("pr-2", "/"));
}

async fn a_failure_says_why(street: &Street) {
    street.failed().await;
    let page = street.browser.visitor().await;
    page.open(&street.link("pr-3").await).await;
    page.says("Your link was recognised").await;
    page.click("#continue").await;
    let text = page.says("It did not start").await;
    for wanted in ["#3 A failure", "web ended with status 3", "the flux is missing"] {
        assert!(text.contains(wanted), "{wanted:?} is not in\n{text}");
    }
    street.pictures(&page, "failed").await;
    strangers_learn_nothing(street).await;
}
