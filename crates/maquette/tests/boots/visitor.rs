//! Somebody with a browser who has signed in to one environment.

use crate::machine::{self, PATIENCE, patiently};
use std::time::Duration;

pub(crate) struct Visitor {
    client: reqwest::Client,
    origin: String,
    cookie: String,
}

/// The gateway listens at the port that browsers ask by themselves.
const GATEWAY: ([u8; 4], u16) = ([127, 0, 0, 1], 80);

impl Visitor {
    fn client(label: &str) -> reqwest::Client {
        reqwest::Client::builder()
            .resolve(&format!("{label}.localhost"), GATEWAY.into())
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(60))
            .build()
            .unwrap()
    }

    /// Who has signed in before.
    pub(crate) fn with(label: &str, cookie: &str) -> Self {
        Self {
            client: Self::client(label),
            origin: format!("http://{label}.localhost"),
            cookie: cookie.to_owned(),
        }
    }

    /// Signs in with a link.
    pub(crate) async fn new(label: &str, link: &str) -> Result<Self, String> {
        let (origin, token) = link.trim().split_once("/.maquette/sign-in#token=").unwrap();
        let mut visitor = Self::with(label, "");
        assert_eq!(visitor.origin, origin);
        let answer = visitor
            .client
            .post(format!("{origin}/.maquette/session"))
            .header("origin", origin)
            .header("sec-fetch-site", "same-origin")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("token={token}&next=/"))
            .send()
            .await
            .map_err(|error| format!("{error:?}"))?;
        if answer.status().as_u16() != 303 {
            return Err(format!("{answer:?}"));
        }
        let cookie = answer.headers()["set-cookie"].to_str().unwrap();
        cookie.split(';').next().unwrap().clone_into(&mut visitor.cookie);
        Ok(visitor)
    }

    pub(crate) fn cookie(&self) -> &str {
        &self.cookie
    }

    pub(crate) async fn stranger_is_refused(&self) {
        let answer = self.client.get(format!("{}/", self.origin)).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 401);
    }

    /// Status and text of a page, or why there is none.
    pub(crate) async fn try_get(&self, path: &str) -> Result<(u16, String), String> {
        let request = self.client.get(format!("{}{path}", self.origin));
        let answer = request.header("cookie", &self.cookie).send().await;
        let answer = answer.map_err(|error| format!("{error:?}"))?;
        let status = answer.status().as_u16();
        Ok((status, answer.text().await.map_err(|error| format!("{error:?}"))?))
    }

    /// The text of a page that answers in the end: one unit or another may just be starting.
    async fn get(&self, path: &str) -> String {
        patiently(&format!("{path} of {}", self.origin), || async {
            match self.try_get(path).await {
                Ok((200, text)) => Ok(text),
                other => Err(format!("{other:?}")),
            }
        })
        .await
    }

    pub(crate) async fn page(&self) -> String {
        self.get("/").await
    }

    /// Differs for each process of the services.
    pub(crate) async fn born(&self) -> String {
        self.get("/born").await
    }

    pub(crate) async fn orders(&self) -> Vec<String> {
        self.get("/orders").await.lines().map(str::to_owned).collect()
    }

    async fn try_order(&self, text: &str) -> Result<u16, String> {
        let request = self.client.post(format!("{}/orders", self.origin));
        let request = request.header("cookie", &self.cookie).header("origin", &self.origin);
        let answer = request.body(text.to_owned()).send().await;
        Ok(answer.map_err(|error| format!("{error:?}"))?.status().as_u16())
    }

    /// One order. On a machine that stalls the database may not answer in time: whether it was taken is then looked up.
    pub(crate) async fn order(&self, text: &str) {
        patiently(text, || async {
            match self.try_order(text).await {
                Ok(201) => Ok(()),
                _ if self.orders().await.iter().any(|order| order == text) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }

    /// Orders without end, until the power is cut in the midst of it.
    pub(crate) async fn order_until_cut(&self) -> ! {
        for n in 0.. {
            self.order(&format!("hasty {n}")).await;
            if n == 10 {
                machine::ask_for_cut();
            }
            assert!(n < 100_000, "the power was not cut within {PATIENCE:?}");
        }
        unreachable!()
    }
}
