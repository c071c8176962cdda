//! Secrets over the API: values come in and never go out.

use crate::bench::Bench;
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::Full;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;

const CANARY: &str = "canary-of-the-api-41c7";

impl Bench {
    async fn put(&self, name: &str, query: &str, value: &[u8]) -> (StatusCode, Value) {
        let request = Request::builder()
            .method(Method::PUT)
            .uri(format!("/api/v1/projects/shop/secrets/{name}{query}"))
            .header(header::HOST, "localhost")
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .body(Full::new(Bytes::copy_from_slice(value)))
            .unwrap();
        let response = self.send(request).await;
        let body = serde_json::from_slice(response.body()).unwrap_or(Value::Null);
        (response.status(), body)
    }

    fn leaks(&self) -> Vec<String> {
        let found = std::process::Command::new("grep")
            .args(["-rlaF", CANARY])
            .arg(self.directory())
            .output()
            .unwrap();
        String::from_utf8(found.stdout)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_of_a_secret_is_all_but_its_value() {
    let bench = Bench::new().await;
    bench.rule("{ baseline: none, secrets: [KEY] }").await;
    let binary = [CANARY.as_bytes(), b"\0\xff\n"].concat();
    let (status, first) = bench.put("KEY", "", &binary).await;
    assert_eq!(status, StatusCode::OK, "{first:#}");
    assert_eq!(
        (&first["name"], &first["used_by"]),
        (&"KEY".into(), &serde_json::json!([]))
    );
    let (_, second) = bench.put("KEY", "?existing=true", CANARY.as_bytes()).await;
    assert_ne!(first["version"], second["version"]);
    let list = bench.get("/projects/shop/secrets").await;
    assert_eq!(list["secrets"][0]["version"], second["version"]);
    assert!(!format!("{first}{second}{list}").contains(CANARY));
    assert_eq!(bench.leaks(), Vec::<String>::new());

    let mode = |name: &str| {
        let found = std::fs::metadata(bench.state.path().join(name)).unwrap();
        found.permissions().mode() & 0o777
    };
    assert_eq!(
        (mode("secrets.key"), mode("secrets"), mode("secrets/shop/KEY.age")),
        (0o600, 0o700, 0o600)
    );

    let (status, _) = bench.call(Method::GET, "/projects/shop/secrets/KEY", None).await;
    assert_ne!(status, StatusCode::OK, "there is no way to read one");
    bench.ok(Method::DELETE, "/projects/shop/secrets/KEY", None).await;
    let (status, gone) = bench.call(Method::DELETE, "/projects/shop/secrets/KEY", None).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{gone:#}");
    assert_eq!(
        bench.get("/projects/shop/secrets").await["secrets"],
        serde_json::json!([])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_a_secret_is_refused_with_the_reason() {
    let bench = Bench::new().await;
    let cases: [(&str, &str, Vec<u8>, StatusCode, &str); 6] = [
        ("KEY", "", Vec::new(), StatusCode::BAD_REQUEST, "the value is empty"),
        (
            "a%2Fb",
            "",
            b"x".to_vec(),
            StatusCode::BAD_REQUEST,
            "is not a name of a secret",
        ),
        (
            "KEY",
            "",
            vec![b'x'; (1 << 20) + 1],
            StatusCode::PAYLOAD_TOO_LARGE,
            "at most 1048576 bytes",
        ),
        (
            "KEY",
            "",
            vec![b'x'; 3 << 20],
            StatusCode::PAYLOAD_TOO_LARGE,
            "at most 1048576 bytes",
        ),
        (
            "KEY",
            "?existing=true",
            b"x".to_vec(),
            StatusCode::NOT_FOUND,
            "shop has no secret KEY",
        ),
        (
            "KEY",
            "?force=true",
            b"x".to_vec(),
            StatusCode::BAD_REQUEST,
            "the query can not be read",
        ),
    ];
    for (name, query, value, wanted, words) in cases {
        let (status, problem) = bench.put(name, query, &value).await;
        assert_eq!(status, wanted, "{problem:#}");
        assert!(problem["detail"].as_str().unwrap().contains(words), "{problem:#}");
    }
    let (status, _) = bench.put("KEY", "", &vec![b'x'; 1 << 20]).await;
    assert_eq!(status, StatusCode::OK, "a megabyte is a secret");
    let (status, problem) = bench.call(Method::GET, "/projects/other/secrets", None).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{problem:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_looks_like_production_is_refused_unless_somebody_insists_which_is_kept() {
    let bench = Bench::new().await;
    let address = format!("postgres://app:{CANARY}@db.prod.example.com/app");
    let (status, problem) = bench.put("DATABASE_URL", "", address.as_bytes()).await;
    assert_eq!(status, StatusCode::CONFLICT);
    let text = problem.to_string();
    assert!(
        text.contains("it leads to `db.prod.example.com`") && text.contains("--insist"),
        "{text}"
    );
    assert!(!text.contains(CANARY), "{text}");
    assert_eq!(
        bench.get("/projects/shop/secrets").await["secrets"],
        serde_json::json!([])
    );

    let (status, set) = bench.put("DATABASE_URL", "?insist=true", address.as_bytes()).await;
    assert_eq!(status, StatusCode::OK, "{set:#}");
    let list = bench.get("/projects/shop/secrets").await;
    assert!(
        list["secrets"][0]["despite"]
            .as_str()
            .unwrap()
            .contains("db.prod.example.com"),
        "{list:#}"
    );
    // Harmless values are not marked, whoever insists.
    let (_, plain) = bench.put("DATABASE_URL", "?insist=true", b"postgres://db/app").await;
    assert_eq!(plain["despite"], Value::Null);
    assert_eq!(bench.leaks(), Vec::<String>::new());
}
