//! Titles, branches, labels, logs and messages that attack whoever reads them. What counts is what Gitea makes of our comment.

use crate::{
    bench::{Bench, Setting, compose, http_client},
    eventually, name,
};
use model::Phase;
use reqwest::Method;
use runtime::simulator::Behaviour;
use serde_json::{Value, json};
use test_support::gitea::Client;

/// Markup, a mention, a reference, a link that runs, the end of a fence, invisible and turning characters.
fn hostile(of: &Client) -> String {
    format!(
        "\u{202e}\u{1b}[2J<img src=x onerror=alert(1)> ```` @{0} #1 [a](javascript:alert(1)) ![b](http://192.0.2.1/c) \
         </details>\u{200b} &#64;{0} www.example.org $(reboot)",
        of.user()
    )
}

/// Our comment as Gitea shows it.
async fn rendered(bench: &Bench, body: &str) -> String {
    let request = http_client()
        .post(format!("{}api/v1/markdown", bench.gitea.url()))
        .header("authorization", format!("token {}", bench.ada.token()))
        .json(&json!({ "Text": body, "Mode": "comment", "Context": bench.repository.path, "Wiki": false }));
    let answer = request.send().await.unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
    answer.text().await.unwrap()
}

async fn assert_tame(bench: &Bench, body: &str, eve: &Client) {
    assert!(!body.contains(['\u{202e}', '\u{1b}', '\u{200b}']), "{body:?}");
    // The only link is that to the preview itself, which a comment on a failure does not have.
    let html = rendered(bench, body).await;
    for bad in ["<img", "<a ", "<script", "class=\"mention\"", "ref-issue"] {
        assert!(!html.contains(bad), "{bad} is in {html}");
    }
    assert!(
        html.contains("img src=x"),
        "the text itself is there to be read: {html}"
    );
    let told = eve
        .call(Method::GET, "notifications?all=true", Value::Null)
        .await
        .unwrap();
    assert_eq!(told, json!([]), "somebody was called by our comment");
}

async fn label(bench: &Bench, number: u64, text: &str) {
    let path = &bench.repository.path;
    let made = json!({ "name": text.chars().take(40).collect::<String>(), "color": "#00aabb" });
    let made = bench
        .ada
        .call(Method::POST, &format!("repos/{path}/labels"), made)
        .await
        .unwrap();
    let labels = format!("repos/{path}/issues/{number}/labels");
    bench
        .ada
        .call(Method::POST, &labels, json!({ "labels": [made["id"]] }))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_texts_reach_the_comment_as_text() {
    let bench = Bench::new(Setting {
        private: false,
        ..Setting::WEBHOOKS
    })
    .await;
    let eve = bench.admin.make_user(&name("eve")).await.unwrap();
    let text = hostile(&eve);
    let branch = format!("x;$(reboot)<img`id`@{}|#1", eve.user());
    let prints = r#""exit", "${MAQUETTE_TITLE} ${MAQUETTE_BRANCH}", "1""#;
    let exits = compose("x").replace(r#""serve", "HTTP/1.1 200 OK\r\n\r\nx""#, prints);
    assert!(exits.contains("MAQUETTE_TITLE"), "{exits}");
    let commit = bench.push(&branch, &exits);
    let number = bench.open(&branch, &text).await;
    label(&bench, number, &text).await;
    bench.reaches(number, Phase::Failed, Some(&commit)).await;
    let (comment, body) = bench.comment_says(number, "failed**").await;
    assert!(body.contains("$(reboot)"), "its log is missing: {body}");
    assert_tame(&bench, &body, &eve).await;

    bench
        .simulator
        .behave("web", Behaviour::Refused(format!("it says {text}")));
    let commit = bench.push(&branch, &compose("refused"));
    bench.reaches(number, Phase::Failed, Some(&commit)).await;
    let (same, body) = bench.comment_says(number, "it says").await;
    assert_eq!(same, comment);
    assert_tame(&bench, &body, &eve).await;
    // The status is set after the comment was written.
    let description = eventually("a status says why", || async {
        let told = bench.ada.statuses(&bench.repository.path, commit.as_str());
        let mut texts = told.await.unwrap().into_iter().map(|(.., text)| text);
        texts.find(|text| text.contains("it says"))
    })
    .await;
    assert!(!description.contains(['\\', '\u{202e}', '\u{1b}']), "{description}");

    // A blueprint that can not be read is quoted, too.
    let broken = compose("x").replace(
        "    command:",
        &format!("    \"<img src=x> @{} ````\": 1\n    command:", eve.user()),
    );
    let commit = bench.push(&branch, &broken);
    bench.reaches(number, Phase::Failed, Some(&commit)).await;
    let (same, body) = bench.comment_says(number, "compose.yaml:").await;
    assert_eq!(same, comment);
    assert_tame(&bench, &body, &eve).await;
    bench.close(number).await;
    bench.reaches(number, Phase::Ended, None).await;
    assert_eq!(bench.inventory().await, []);
}
