//! A visitor of the demo: comes through the gateway as a browser would, signs in by link, and buys something.

use anyhow::{Context, Result, bail, ensure};
use reqwest::{Client, Method, RequestBuilder, Response, header, redirect::Policy};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::time::sleep;
use url::Url;

/// The most bytes of a page that are read.
const PAGE_MAX: usize = 1 << 20;

/// A visitor with cookies.
pub(crate) struct Visitor {
    client: Client,
    origin: String,
    cookies: BTreeMap<String, String>,
}

/// An answer.
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) location: Option<String>,
    pub(crate) text: String,
}

impl Visitor {
    /// A visitor of `address`, for example `http://pr-1.localhost:7380`, who is led to the gateway whatever names resolve to.
    pub(crate) fn new(address: &str, gateway: SocketAddr) -> Result<Self> {
        let url: Url = address
            .parse()
            .with_context(|| format!("{address} is not an address"))?;
        let host = url.host_str().with_context(|| format!("{address} has no host"))?;
        let client = Client::builder()
            .resolve(host, gateway)
            .redirect(Policy::none())
            .timeout(Duration::from_secs(70))
            .build()?;
        Ok(Self {
            client,
            origin: address.trim_end_matches('/').to_owned(),
            cookies: BTreeMap::new(),
        })
    }

    pub(crate) async fn get(&mut self, path: &str) -> Result<Page> {
        let request = self
            .client
            .get(format!("{}{path}", self.origin))
            .header(header::ACCEPT, "text/html");
        self.send(request, path).await
    }

    pub(crate) async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Result<Page> {
        let body = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(fields)
            .finish();
        let request = self
            .client
            .request(Method::POST, format!("{}{path}", self.origin))
            .header(header::ORIGIN, &self.origin)
            .header("Sec-Fetch-Site", "same-origin")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(body);
        self.send(request, path).await
    }

    async fn send(&mut self, request: RequestBuilder, path: &str) -> Result<Page> {
        let cookies: Vec<String> = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let request = if cookies.is_empty() {
            request
        } else {
            request.header(header::COOKIE, cookies.join("; "))
        };
        let response = request
            .send()
            .await
            .with_context(|| format!("{}{path} does not answer", self.origin))?;
        self.keep_cookies(&response);
        let status = response.status().as_u16();
        let location = response
            .headers()
            .get(header::LOCATION)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        Ok(Page {
            status,
            location,
            text: read(response).await?,
        })
    }

    fn keep_cookies(&mut self, response: &Response) {
        for value in response.headers().get_all(header::SET_COOKIE) {
            let Ok(text) = value.to_str() else { continue };
            if let Some((name, value)) = text.split(';').next().and_then(|pair| pair.split_once('=')) {
                self.cookies.insert(name.trim().to_owned(), value.to_owned());
            }
        }
    }

    /// Presses Continue on a sign-in link.
    pub(crate) async fn sign_in(&mut self, link: &str) -> Result<()> {
        let (_, token) = link.split_once("#token=").context("the sign-in link has no token")?;
        let page = self
            .post("/.maquette/session", &[("token", token), ("next", "/")])
            .await?;
        ensure!(
            page.status == 303,
            "signing in was answered with status {}",
            page.status
        );
        Ok(())
    }

    /// Buys the first product and waits for the mail about it: one flow through all six services. Returns the order's reference.
    pub(crate) async fn buy(&mut self, patience: Duration) -> Result<String> {
        let home = self.get("/").await?;
        let sku =
            between(&home.text, "class=\"card\"><a href=\"/products/", "\"").context("no product on the shelf")?;
        let added = self.post("/cart", &[("sku", &sku), ("amount", "1")]).await?;
        ensure!(added.status == 303, "the cart answered with status {}", added.status);
        let form = [
            ("name", "Robin Tester"),
            ("email", "robin@example.com"),
            ("test_card", "approved"),
        ];
        let ordered = self.post("/orders", &form).await?;
        let location = ordered
            .location
            .with_context(|| format!("the order was answered with status {}", ordered.status))?;
        let reference = location.rsplit('/').next().unwrap_or_default().to_owned();
        let since = Instant::now();
        loop {
            let order = self.get(&format!("/orders/{reference}")).await?;
            if order.text.contains("Paid") && order.text.contains("Mail written") {
                break;
            }
            if since.elapsed() > patience {
                bail!(
                    "the order {reference} was not paid and written to within {} s",
                    patience.as_secs()
                );
            }
            sleep(Duration::from_millis(50)).await;
        }
        let outbox = self.get(&format!("/outbox?reference={reference}")).await?;
        ensure!(
            outbox.text.contains("/outbox/"),
            "no mail about {reference} in the outbox"
        );
        Ok(reference)
    }
}

/// The text between two others, on its first occurrence.
fn between(text: &str, before: &str, after: &str) -> Option<String> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(after).map(|(found, _)| found.to_owned())
}

async fn read(mut response: Response) -> Result<String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        ensure!(
            bytes.len() + chunk.len() <= PAGE_MAX,
            "the page is larger than {PAGE_MAX} bytes"
        );
        bytes.extend_from_slice(&chunk);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
