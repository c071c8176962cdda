//! Serves a gateway in front of nothing much, so that its pages can be looked at in a browser:
//! `cargo run -p gateway --example pages`, then open what it prints.
//!
//! `pr-1` is live, `pr-2` starts (and is live after some seconds), `pr-3` has failed, `pr-4` sleeps, `pr-5` does not listen,
//! `pr-6` waits for an approval.

// A program for a terminal, and a short one: what goes wrong here ends it.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use gateway::{
    About, Base, Config, Gateway, LinkGrant, MemoryAuth, Projects, Route, RouteKey, RouteState, RouteTable, Scheme,
    Secret, Step, StepState, Target, TcpDial, Visitor, sign_in_address,
};
use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::sleep,
};

const STEPS: [&str; 5] = [
    "Check out 0f3c9a1",
    "Clone the database",
    "Run 2 new migrations",
    "Start web, cart, mail",
    "Smoke tests",
];
const LOG: [&str; 4] = [
    "migrate: exited with 1 after 0.8 s",
    "psql:migrations/0042_gift_cards.sql:7: ERROR:  relation \"card\" does not exist",
    "LINE 1: ALTER TABLE card ADD COLUMN balance bigint NOT NULL DEFAULT 0;",
    "                    ^",
];

/// The state of a start of which so many steps are done.
fn starting(done: usize) -> RouteState {
    let step = |(at, name): (usize, &&str)| Step {
        name: (*name).to_owned(),
        state: match at.cmp(&done) {
            std::cmp::Ordering::Less => StepState::Done,
            std::cmp::Ordering::Equal => StepState::Running,
            std::cmp::Ordering::Greater => StepState::Waiting,
        },
        detail: if at == 3 && done == 3 {
            "cart waits for redis to be healthy".to_owned()
        } else {
            String::new()
        },
        since: Some(SystemTime::now()),
    };
    RouteState::Starting {
        steps: STEPS.iter().enumerate().map(step).collect(),
    }
}

fn entry(number: u64, state: RouteState) -> (RouteKey, Route) {
    let about = About {
        title: "Pay with gift cards".to_owned(),
        pull_request: Some(number),
        commit: "0f3c9a1e5b7d2846c0aa1f93d27be0815c6e4f20".to_owned(),
        link: Some(format!("https://forge.example/shop/pulls/{number}")),
    };
    let target = target(number);
    let key = RouteKey {
        base: "localhost".into(),
        label: format!("pr-{number}").parse().unwrap(),
    };
    (
        key,
        Route {
            target,
            project: "shop".parse().unwrap(),
            state,
            epoch: 1,
            about,
        },
    )
}

fn target(number: u64) -> Target {
    Target {
        environment: format!("e{number:09}").parse().unwrap(),
        service: "web".parse().unwrap(),
        port: 3000,
    }
}

/// Answers everything with a line.
async fn application(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut head = [0; 8192];
            while let Ok(1..) = stream.read(&mut head).await {
                let page = "<!doctype html><title>Shop</title><h1>The shop</h1>";
                let head =
                    "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nSet-Cookie: cart=7; Path=/\r\nContent-Length: ";
                drop(
                    stream
                        .write_all(format!("{head}{}\r\n\r\n{page}", page.len()).as_bytes())
                        .await,
                );
            }
        });
    }
}

#[tokio::main]
async fn main() {
    let (routes, auth, dial) = (
        Arc::<RouteTable>::default(),
        Arc::<MemoryAuth>::default(),
        Arc::<TcpDial>::default(),
    );
    let shop = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for number in [1, 2, 4] {
        dial.set(target(number), shop.local_addr().unwrap());
    }
    dial.set(target(5), "127.0.0.1:9".parse().unwrap());
    tokio::spawn(application(shop));
    let link = Secret::generate().unwrap();
    let hour = Duration::from_secs(3600);
    let visitor = Visitor {
        subject: "guest:example".into(),
        may_see: Projects::All,
    };
    auth.add_link(
        link.hash(),
        LinkGrant {
            visitor,
            expires: Instant::now() + hour,
            session_lifetime: hour,
        },
    );

    let config = Config::new(vec![Base::new("localhost", Scheme::Http).unwrap()]).unwrap();
    let gateway = Gateway::new(config, routes.clone(), auth, dial);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for number in 1..=6 {
        println!(
            "{}",
            sign_in_address(&format!("http://pr-{number}.localhost:{port}"), &link)
        );
    }
    tokio::spawn(async move {
        for done in (0..).map(|count: usize| count % 16) {
            let second = if done < STEPS.len() * 2 {
                starting(done / 2)
            } else {
                RouteState::Live
            };
            let waits =
                vec!["Nothing runs until somebody who may push to the repository approves the commit.".to_owned()];
            let reason = LOG.iter().map(|line| (*line).to_owned()).collect();
            routes.replace([
                entry(1, RouteState::Live),
                entry(2, second),
                entry(3, RouteState::Failed { reason }),
                entry(4, RouteState::Sleeping),
                entry(5, RouteState::Live),
                entry(6, RouteState::Held { reason: waits }),
            ]);
            sleep(Duration::from_secs(1)).await;
        }
    });
    gateway.serve(listener, std::future::pending()).await.unwrap();
}
