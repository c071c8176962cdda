//! A gateway on a free port, services behind it, and a client that sends exactly the bytes it is told.

use gateway::{
    About, Base, Config, Gateway, LinkGrant, MemoryAuth, Projects, Route, RouteKey, RouteState, RouteTable, Scheme,
    Secret, Target, TcpDial, Visitor, Wake,
};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};

/// Nothing on the loopback takes this long unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Remembers who was asked to wake.
#[derive(Default)]
pub(crate) struct Wakes(pub(crate) Mutex<Vec<String>>);

#[async_trait::async_trait]
impl Wake for Wakes {
    async fn wake(&self, environment: &model::EnvironmentId, _epoch: u64) {
        self.0.lock().unwrap().push(environment.to_string());
    }
}

/// A gateway and what is behind it.
pub(crate) struct World {
    pub(crate) gateway: Gateway,
    pub(crate) port: u16,
    pub(crate) auth: Arc<MemoryAuth>,
    pub(crate) dial: Arc<TcpDial>,
    pub(crate) wakes: Arc<Wakes>,
    /// Signs in.
    pub(crate) link: Secret,
    /// May see every project.
    pub(crate) token: Secret,
    routes: Arc<RouteTable>,
    known: Mutex<BTreeMap<String, Route>>,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<()>>,
}

pub(crate) fn visitor(subject: &str, may_see: Projects) -> Visitor {
    Visitor {
        subject: subject.into(),
        may_see,
    }
}

pub(crate) fn only(project: &str) -> Projects {
    Projects::Only([project.parse().unwrap()].into())
}

pub(crate) fn target(environment: &str, service: &str) -> Target {
    Target {
        environment: environment.parse().unwrap(),
        service: service.parse().unwrap(),
        port: 3000,
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::new(vec![Base::new("localhost", Scheme::Http).unwrap()]).unwrap();
        config.timing.navigation_hold = Duration::from_millis(100);
        config.timing.connect_patience = Duration::from_millis(300);
        // On a machine that has much to do, a second passes between two requests.
        config.timing.surely_open = Duration::from_secs(40);
        change(&mut config);
        let (routes, auth, dial) = (
            Arc::<RouteTable>::default(),
            Arc::<MemoryAuth>::default(),
            Arc::<TcpDial>::default(),
        );
        let wakes = Arc::<Wakes>::default();
        let (link, token) = (Secret::generate().unwrap(), Secret::generate().unwrap());
        let grant = LinkGrant {
            visitor: visitor("guest:review", only("shop")),
            expires: Instant::now() + Duration::from_secs(600),
            session_lifetime: Duration::from_secs(600),
        };
        auth.add_link(link.hash(), grant);
        auth.add_token(token.hash(), visitor("token:ci", Projects::All));
        let gateway = Gateway::with_wake(config, routes.clone(), auth.clone(), dial.clone(), wakes.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (stop, stopped) = oneshot::channel::<()>();
        let served = gateway.clone();
        let serving = tokio::spawn(async move {
            served.serve(listener, async { drop(stopped.await) }).await.unwrap();
        });
        let known = Mutex::default();
        let (stop, serving) = (Some(stop), Some(serving));
        Self {
            gateway,
            port,
            auth,
            dial,
            wakes,
            link,
            token,
            routes,
            known,
            stop,
            serving,
        }
    }

    /// A world with `pr-7` live, served by the given service.
    pub(crate) async fn live(service: SocketAddr) -> Self {
        let world = Self::new().await;
        world.serve_at("pr-7", service);
        world
    }

    pub(crate) fn serve_at(&self, label: &str, service: SocketAddr) {
        self.dial.set(target("e000000007", "web"), service);
        self.set(label, "e000000007", "web", RouteState::Live, 1);
    }

    pub(crate) fn set(&self, label: &str, environment: &str, service: &str, state: RouteState, epoch: u64) {
        let about = About {
            title: "Gift cards <b>&</b>".to_owned(),
            pull_request: Some(7),
            commit: "0123456789abcdef0123456789abcdef01234567".to_owned(),
            link: Some("https://forge.example/shop/pulls/7".to_owned()),
        };
        let target = target(environment, service);
        let route = Route {
            target,
            project: "shop".parse().unwrap(),
            state,
            epoch,
            about,
        };
        self.known.lock().unwrap().insert(label.to_owned(), route);
        self.publish();
    }

    pub(crate) fn routes(&self) -> Arc<RouteTable> {
        self.routes.clone()
    }

    pub(crate) fn remove(&self, label: &str) {
        self.known.lock().unwrap().remove(label);
        self.publish();
    }

    fn publish(&self) {
        let key = |label: &String| RouteKey {
            base: "localhost".into(),
            label: label.parse().unwrap(),
        };
        let known = self.known.lock().unwrap();
        self.routes
            .replace(known.iter().map(|(label, route)| (key(label), route.clone())));
    }

    pub(crate) fn host(&self, label: &str) -> String {
        format!("{label}.localhost:{}", self.port)
    }

    pub(crate) fn origin(&self, label: &str) -> String {
        format!("http://{}", self.host(label))
    }

    /// Sends bytes and reads until the gateway hangs up.
    pub(crate) async fn raw(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        // The gateway may answer and hang up before it has read all.
        drop(stream.write_all(bytes.as_ref()).await);
        let mut out = Vec::new();
        let read = timeout(PATIENCE, stream.read_to_end(&mut out)).await;
        assert!(
            read.is_ok(),
            "the gateway hangs after {:?}",
            String::from_utf8_lossy(&out)
        );
        String::from_utf8_lossy(&out).into_owned()
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).await.unwrap()
    }

    /// A request to `pr-7`, closed afterwards.
    pub(crate) async fn ask(&self, line: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let headers: Vec<(&str, &str)> = headers.to_vec();
        self.ask_host(&self.host("pr-7"), line, &headers, body).await
    }

    pub(crate) async fn ask_host(&self, host: &str, line: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut text = format!("{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() {
            text += &format!("Content-Length: {}\r\n", body.len());
        }
        Answer::parse(&self.raw(text + "\r\n" + body).await)
    }

    /// The same, by a program that has a token.
    pub(crate) async fn ask_signed_in(&self, line: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut all = vec![("Maquette-Token", self.token.expose())];
        all.extend(headers);
        self.ask(line, &all, body).await
    }

    /// Presses Continue on a host; gives the cookie pair.
    pub(crate) async fn sign_in(&self, label: &str) -> String {
        let form = format!("next=%2F&token={}", self.link.expose());
        let origin = self.origin(label);
        let answer = self
            .ask_host(
                &self.host(label),
                "POST /.maquette/session",
                &[("Origin", &origin)],
                &form,
            )
            .await;
        assert_eq!(answer.status, 303, "{answer:?}");
        answer.header("set-cookie").split(';').next().unwrap().to_owned()
    }

    /// Ends the gateway.
    pub(crate) async fn end(mut self) {
        drop(self.stop.take());
        timeout(PATIENCE, self.serving.take().unwrap())
            .await
            .expect("the gateway does not end")
            .unwrap();
    }
}

/// Asks as a browser does when somebody types an address.
pub(crate) const NAVIGATION: [(&str, &str); 2] = [("Sec-Fetch-Mode", "navigate"), ("Accept", "text/html")];

/// A parsed response.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn parse(text: &str) -> Self {
        let (head, body) = text
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("no response: {text:?}"));
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines
            .map(|line| line.split_once(':').unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut answer = Self {
            status,
            headers,
            body: body.to_owned(),
        };
        if answer.header("transfer-encoding") == "chunked" {
            answer.body = dechunk(&answer.body);
        }
        answer
    }

    /// A header, all its lines joined by ` | `; empty when there is none.
    pub(crate) fn header(&self, name: &str) -> String {
        let lines: Vec<&str> = self
            .headers
            .iter()
            .filter(|(given, _)| given == name)
            .map(|(_, value)| value.as_str())
            .collect();
        lines.join(" | ")
    }
}

fn dechunk(mut text: &str) -> String {
    let mut out = String::new();
    while let Some((size, rest)) = text.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return out + rest.trim_end();
        }
        out += &rest[..size];
        text = &rest[size + 2..];
    }
    out
}

/// What a service saw.
#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    pub(crate) fn push(&self, text: String) {
        self.0.lock().unwrap().push(text);
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// A service that handles each connection (the first is number 0) as the test says.
pub(crate) async fn service<F, R>(handle: F) -> SocketAddr
where
    F: Fn(TcpStream, usize) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for number in 0.. {
            let Ok((stream, _)) = listener.accept().await else {
                return;
            };
            tokio::spawn(handle(stream, number));
        }
    });
    address
}

/// An address at which nobody listens, as long as the socket lives: others beside this test ask for free ports, too.
pub(crate) fn nobody() -> (TcpSocket, SocketAddr) {
    let bound = TcpSocket::new_v4().unwrap();
    bound.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = bound.local_addr().unwrap();
    (bound, address)
}

/// Reads one head, with its empty line.
pub(crate) async fn read_head(stream: &mut TcpStream) -> String {
    let mut out = Vec::new();
    while !out.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => out.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Reads until the text has come.
pub(crate) async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut out = String::new();
    let read = async {
        while !out.contains(end) {
            let mut buffer = [0; 4096];
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(count) => out += &String::from_utf8_lossy(&buffer[..count]),
            }
        }
    };
    let in_time = timeout(PATIENCE, read).await;
    assert!(in_time.is_ok() && out.contains(end), "waited for {end:?}, got {out:?}");
    out
}

/// A service that answers every head with the head itself, and writes down what it saw.
pub(crate) async fn mirror() -> (SocketAddr, Seen) {
    let seen = Seen::default();
    let written = seen.clone();
    let address = service(move |mut stream, _| {
        let seen = written.clone();
        async move {
            loop {
                let head = read_head(&mut stream).await;
                if head.is_empty() {
                    return;
                }
                seen.push(head.clone());
                let length = head.len();
                let answer =
                    format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{head}");
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    (address, seen)
}

/// A service that gives the same bytes to every request without a body.
pub(crate) async fn canned(answer: &'static str) -> SocketAddr {
    service(move |mut stream, _| async move {
        while !read_head(&mut stream).await.is_empty() {
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    })
    .await
}

/// Waits until something is so.
pub(crate) async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
