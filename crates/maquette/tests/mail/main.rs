//! Mail and jobs by hand end to end: the processes, a real cell, clients as applications have them, a visitor who reads.
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

use forge::local::FileChange;
use rig::Rig;
use rustix::process::geteuid;
use serde_json::Value;
use std::{
    fs,
    time::{Duration, Instant},
};

const COMPOSE: &str = "services:\n  web:\n    image: python:3\n    command: [\"python3\", \"-m\", \"http.server\", \"8080\"]\n    \
     working_dir: /app\n    volumes: [\".:/app:ro\"]\n    ports: [\"8080:8080\"]\n    depends_on: { mailpit: { condition: service_healthy } }\n  \
     mailpit:\n    image: axllent/mailpit:v1.21\n    ports: [\"1025:1025\", \"8025:8025\"]\n    environment: { MP_MAX_MESSAGES: 50 }\n";
const SETTINGS: &str = "stack:\n  services: { web: { host: true } }\n  mail: { service: smtp }\n  jobs:\n    \
    python: { service: web, run: [python3, send.py], on: { schedule: \"0 6 * * *\" } }\n    \
    curl: { service: web, on: hand, run: [curl, -sS, \"smtp://smtp\", --mail-from, shop@example.com, --mail-rcpt, bob@example.com, --upload-file, letter.eml] }\n    \
    perl: { service: web, on: hand, run: [perl, send.pl] }\n    \
    fails: { service: web, on: hand, run: [sh, -c, \"echo before the end; exit 7\"] }\npolicy: { baseline: none }\n";
/// What applications insist on: signing in, an attachment, HTML, letters beyond ASCII.
const PYTHON: &str = "import smtplib\nfrom email.message import EmailMessage\nm = EmailMessage()\nm['Subject'] = 'Grüße from Python'\n\
    m['From'] = 'Shop <shop@example.com>'\nm['To'] = 'ada@example.com'\nm.set_content('Your order.\\n.\\n..\\n')\n\
    m.add_alternative('<b>Your order</b><script>document.title=\"ran\"</script><img src=\"http://example.com/x.png\">', subtype='html')\n\
    m.add_attachment(b'%PDF-', maintype='application', subtype='pdf', filename='bill.pdf')\n\
    with smtplib.SMTP('mailpit', 1025) as s:\n    s.login('anybody', 'anything')\n    s.send_message(m)\nprint('sent by Python')\n";
const PERL: &str = "use Net::SMTP;\nmy $s = Net::SMTP->new('smtp', Hello => 'shop', Timeout => 20) or die;\n$s->mail('shop@example.com') or die;\n\
    $s->to('carol@example.com') or die;\n$s->data(\"Subject: from Perl\\n\\nHello\\n\") or die;\n$s->quit;\nprint \"sent by Perl\\n\";\n";

fn files() -> Vec<FileChange> {
    vec![
        FileChange::write("compose.yaml", COMPOSE),
        FileChange::write("maquette.yaml", SETTINGS),
        FileChange::write("send.py", PYTHON),
        FileChange::write("send.pl", PERL),
        FileChange::write(
            "letter.eml",
            "From: shop@example.com\r\nTo: bob@example.com\r\nSubject: from curl\r\n\r\nHello\r\n",
        ),
    ]
}

/// Somebody who has signed in to one host of an environment.
struct Reader {
    client: reqwest::Client,
    origin: String,
    cookie: String,
}

impl Reader {
    /// A control plane that is too busy to answer the gateway in time is asked again.
    async fn new(rig: &Rig, label: &str, service: &str) -> Self {
        let since = Instant::now();
        loop {
            match Self::try_new(rig, label, service).await {
                Ok(reader) => return reader,
                Err(answer) => assert!(
                    answer.status().as_u16() == 503 && since.elapsed() < Duration::from_secs(240),
                    "{answer:?}\n{}",
                    rig.log()
                ),
            }
        }
    }

    async fn try_new(rig: &Rig, label: &str, service: &str) -> Result<Self, reqwest::Response> {
        let link = rig.ok(&["open", label]).await;
        let (main, token) = link.trim().split_once("/.maquette/sign-in#token=").unwrap();
        let host = format!("{service}--{label}.localhost");
        let origin = main.replace(&format!("{label}.localhost"), &host);
        let client = reqwest::Client::builder()
            .resolve(&host, ([127, 0, 0, 1], rig.gateway).into())
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(240))
            .build()
            .unwrap();
        let asked = client
            .post(format!("{origin}/.maquette/session"))
            .header("origin", &origin)
            .header("sec-fetch-site", "same-origin")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("token={token}&next=/"));
        let answer = asked.send().await.unwrap();
        if answer.status().as_u16() != 303 {
            return Err(answer);
        }
        let cookie = answer.headers()["set-cookie"].to_str().unwrap();
        Ok(Self {
            cookie: cookie.split(';').next().unwrap().to_owned(),
            origin,
            client,
        })
    }

    async fn get(&self, path: &str) -> reqwest::Response {
        let request = self.client.get(format!("{}{path}", self.origin));
        request.header("cookie", &self.cookie).send().await.unwrap()
    }

    async fn text(&self, path: &str) -> String {
        let answer = self.get(path).await;
        assert_eq!(answer.status().as_u16(), 200, "{path}");
        answer.text().await.unwrap()
    }
}

/// Subjects by recipient.
async fn kept(reader: &Reader) -> Vec<(String, String)> {
    let list: Value = serde_json::from_str(&reader.text("/api/messages").await).unwrap();
    let all = list["messages"].as_array().unwrap().iter();
    let mut all: Vec<(String, String)> = all
        .map(|message| {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            (text(&message["to"][0]), text(&message["subject"]))
        })
        .collect();
    all.sort();
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_application_sends_is_kept_and_read_and_what_people_run_is_told() {
    if !geteuid().is_root() {
        eprintln!("left out: cells need root");
        return;
    }
    let mut rig = Rig::new(&files()).await;
    let config = rig.config();
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text + "spares: { per_project: 0 }\n").unwrap();
    rig.start().await;
    let (number, commit) = rig.change("topic", &[FileChange::write("x", "y")]).await;
    let label = format!("pr-{number}");
    rig.comment(number, &[&format!("live** with `{}`\n", commit.short())])
        .await;

    // Nothing runs by the clock; what people run shows what it prints and ends as it ends.
    let jobs = rig.ok(&["jobs", &label]).await;
    assert!(jobs.contains("0 6 * * *") && jobs.contains("never"), "{jobs}");
    assert_eq!(rig.ok(&["run", &label, "python"]).await, "sent by Python\n");
    assert_eq!(
        rig.ok(&["run", &label, "python"]).await,
        "sent by Python\n",
        "as often as one likes"
    );
    assert_eq!(rig.ok(&["run", &label, "perl"]).await, "sent by Perl\n");
    rig.ok(&["run", &label, "curl"]).await;
    let failed = rig.run(&["run", &label, "fails"]).await;
    assert_eq!(
        (failed.code, failed.out.as_str()),
        (7, "before the end\n"),
        "{failed:?}"
    );
    let jobs = rig.ok(&["jobs", &label]).await;
    assert!(
        jobs.contains("failed (status 7)") && jobs.contains("succeeded"),
        "{jobs}"
    );
    let missing = rig.run(&["run", &label, "none"]).await;
    assert_eq!(missing.code, 3, "{missing:?}");

    // One catcher is the Compose file's own, one is asked for in maquette.yaml.
    let pit = Reader::new(&rig, &label, "mailpit").await;
    let python = ("ada@example.com".to_owned(), "Grüße from Python".to_owned());
    assert_eq!(kept(&pit).await, [python.clone(), python.clone()]);
    let smtp = Reader::new(&rig, &label, "smtp").await;
    let of = |to: &str, subject: &str| (to.to_owned(), subject.to_owned());
    let others = [of("bob@example.com", "from curl"), of("carol@example.com", "from Perl")];
    assert_eq!(kept(&smtp).await, others);

    let list = rig.ok(&["mail", &label, "--service", "smtp"]).await;
    assert!(
        list.contains("from curl") && list.contains("carol@example.com"),
        "{list}"
    );
    let one = rig.ok(&["mail", &label, "1", "--service", "mailpit"]).await;
    assert!(
        one.contains("Your order.") && one.contains("attached: bill.pdf"),
        "{one}"
    );
    let ambiguous = rig.run(&["mail", &label]).await;
    assert_eq!(ambiguous.code, 6, "{ambiguous:?}");

    let page = pit.text("/").await;
    assert!(page.contains("Grüße from Python"), "{page}");
    let message = pit.text("/message/1").await;
    for shown in [
        "bill.pdf",
        "Your order.\n.\n..",
        "<iframe sandbox src=\"/message/1/html\"",
    ] {
        assert!(message.contains(shown), "{shown}: {message}");
    }
    assert!(!message.contains("<script"), "{message}");
    let html = pit.get("/message/1/html").await;
    let policy = html.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("sandbox; default-src 'none'"), "{policy}");
    assert!(html.text().await.unwrap().contains("<b>Your order</b>"));
    let bill = pit.get("/message/1/attachment/0").await;
    let named = bill.headers()["content-disposition"].to_str().unwrap().to_owned();
    assert_eq!(named, "attachment; filename=\"bill.pdf\"");
    assert_eq!(bill.bytes().await.unwrap().as_ref(), b"%PDF-");

    // A push keeps it; the end takes it, and proves that.
    let commit = rig.push("topic", &[FileChange::write("x", "z")]).await;
    rig.comment(number, &[&format!("live** with `{}`\n", commit.short())])
        .await;
    assert_eq!(kept(&pit).await, [python.clone(), python]);
    let receipt = rig.json(&["delete", "--yes", "--watch", &label]).await;
    let entries = receipt["entries"].as_array().unwrap();
    assert!(entries.iter().all(|entry| entry["gone"].is_u64()), "{receipt:#}");
    let volumes = entries
        .iter()
        .filter(|entry| entry["name"].as_str().unwrap().contains("-kept"));
    assert_eq!(volumes.count(), 2, "{receipt:#}");
    rig.stop().await;
}
