//! A real browser without a window, for what people see and do on pages: Chromium, driven by its own protocol over two pipes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "who looks at pages is a test, which fails by panicking"
)]

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::Mutex,
    time::{sleep, timeout},
};

/// Nothing takes longer on a machine that is busy with other tests, too.
const PATIENCE: Duration = Duration::from_secs(120);
/// The browser reads the descriptor 3 and writes to 4; what it prints besides goes where the test's own errors go.
const PIPES: &str = "import os, sys\nos.dup2(0, 3)\nos.dup2(1, 4)\nos.dup2(2, 1)\n\
                     os.dup2(os.open('/dev/null', os.O_RDONLY), 0)\nos.execv(sys.argv[1], sys.argv[1:])\n";
const PROGRAM: &str = "/usr/bin/chromium";
const OPTIONS: [&str; 12] = [
    "--headless=new",
    // It runs as whoever tests, which may be root, and sees nothing but pages of this machine.
    "--no-sandbox",
    "--remote-debugging-pipe",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-breakpad",
    "--disable-component-update",
    "--disable-extensions",
    "--hide-scrollbars",
    "--no-first-run",
    "--no-proxy-server",
];

/// A running browser. It is ended, and all that it has kept is removed, when it and its pages are dropped.
#[derive(Debug)]
pub struct Browser {
    process: Arc<Mutex<Process>>,
}

/// A tab. Those of one [`Browser::visitor`] share cookies with nobody.
#[derive(Debug)]
pub struct Page {
    process: Arc<Mutex<Process>>,
    session: String,
}

#[derive(Debug)]
struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    calls: u64,
    /// Where it keeps what it keeps.
    profile: TempDir,
}

impl Browser {
    /// Starts one.
    ///
    /// # Panics
    /// If it is not installed.
    #[must_use]
    pub fn start() -> Self {
        let profile = tempfile::Builder::new().prefix("maquette-browser-").tempdir().unwrap();
        let mut child = Command::new("/usr/bin/python3")
            .args(["-c", PIPES, PROGRAM])
            .args(OPTIONS)
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .env("HOME", profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("the browser: {error}; run scripts/install-packages test once"));
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let process = Process {
            child,
            input,
            output: BufReader::new(output),
            calls: 0,
            profile,
        };
        Self {
            process: Arc::new(Mutex::new(process)),
        }
    }

    /// Somebody who was never there before, with an empty tab.
    pub async fn visitor(&self) -> Page {
        let mut process = self.process.lock().await;
        let context = process.call(None, "Target.createBrowserContext", json!({})).await;
        let new = json!({ "url": "about:blank", "browserContextId": context["browserContextId"] });
        let target = process.call(None, "Target.createTarget", new).await;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = process.call(None, "Target.attachToTarget", attach).await;
        let page = Page {
            process: self.process.clone(),
            session: attached["sessionId"].as_str().unwrap().to_owned(),
        };
        drop(process);
        page.call("Page.enable", json!({})).await;
        page.window(1280, 800, "light").await;
        page
    }
}

impl Process {
    async fn call(&mut self, session: Option<&str>, method: &str, parameters: Value) -> Value {
        let answer = self.ask(session, method, parameters).await;
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].clone()
    }

    /// The whole answer, which may be that it can not be done.
    async fn ask(&mut self, session: Option<&str>, method: &str, parameters: Value) -> Value {
        self.calls += 1;
        let id = self.calls;
        let mut call = json!({ "id": id, "method": method, "params": parameters });
        if let Some(session) = session {
            call["sessionId"] = session.into();
        }
        let mut bytes = call.to_string().into_bytes();
        bytes.push(0);
        self.input.write_all(&bytes).await.unwrap();
        self.input.flush().await.unwrap();
        let answer = timeout(PATIENCE, self.answer(id)).await;
        answer.unwrap_or_else(|_| panic!("the browser does not answer {method}"))
    }

    async fn answer(&mut self, id: u64) -> Value {
        loop {
            let mut bytes = Vec::new();
            let count = self.output.read_until(0, &mut bytes).await.unwrap();
            assert!(count > 0, "the browser has ended");
            bytes.pop();
            let message: Value = serde_json::from_slice(&bytes).unwrap();
            // All else is told without having been asked for.
            if message["id"] == id {
                return message;
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let group = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let since = Instant::now();
        if let Some(group) = group {
            let _ = kill_process_group(group, Signal::KILL);
            // Whoever still runs would write into the directory while it is removed.
            while since.elapsed() < Duration::from_secs(10) {
                let _ = self.child.try_wait();
                if test_kill_process_group(group).is_err() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        let _ = fs::remove_dir_all(self.profile.path());
    }
}

impl Page {
    async fn call(&self, method: &str, parameters: Value) -> Value {
        let mut process = self.process.lock().await;
        process.call(Some(&self.session), method, parameters).await
    }

    /// How large the window is, in CSS pixels, and whether the visitor likes it `light` or `dark`.
    pub async fn window(&self, width: u32, height: u32, scheme: &str) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.call("Emulation.setDeviceMetricsOverride", size).await;
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", features).await;
    }

    /// Follows an address, as one that is typed in, and does not wait for what comes of it.
    pub async fn open(&self, address: &str) {
        let answer = self.call("Page.navigate", json!({ "url": address })).await;
        assert!(answer.get("errorText").is_none(), "{address}: {answer}");
    }

    /// What a JavaScript expression gives in the page; `null` if that is nothing, if it throws, or if another page just takes the
    /// place of this one.
    pub async fn value(&self, expression: &str) -> Value {
        let call = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let mut process = self.process.lock().await;
        let answer = process.ask(Some(&self.session), "Runtime.evaluate", call).await;
        answer["result"]["result"].get("value").cloned().unwrap_or(Value::Null)
    }

    /// All that can be read on the page, and its title before it.
    pub async fn text(&self) -> String {
        let text = "document.title + '\\n' + document.body.innerText";
        self.value(text).await.as_str().unwrap_or_default().to_owned()
    }

    /// The address in the address bar.
    pub async fn address(&self) -> String {
        self.value("location.href")
            .await
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// Waits until an expression is true, which it need not stay.
    ///
    /// # Panics
    /// If it never is; what can be read then is told.
    pub async fn until(&self, expression: &str) {
        let since = Instant::now();
        while self.value(expression).await != Value::Bool(true) {
            if since.elapsed() > PATIENCE {
                panic!(
                    "{expression} never was so at {}:\n{}",
                    self.address().await,
                    self.text().await
                );
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the page says this, and returns all that it says then.
    ///
    /// # Panics
    /// If it never does.
    pub async fn says(&self, wanted: &str) -> String {
        let since = Instant::now();
        loop {
            let text = self.text().await;
            if text.contains(wanted) {
                return text;
            }
            if since.elapsed() > PATIENCE {
                panic!("{} never said {wanted:?}:\n{text}", self.address().await);
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Presses and releases the mouse in the middle of what a selector names, whatever lies over it.
    ///
    /// # Panics
    /// If there is nothing to be seen of it.
    pub async fn click(&self, selector: &str) {
        let middle = format!(
            "(() => {{ const b = document.querySelector({selector:?}).getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; }})()"
        );
        let middle = self.value(&middle).await;
        assert!(middle.is_array(), "there is no {selector}:\n{}", self.text().await);
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({ "type": kind, "x": middle[0], "y": middle[1], "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", event).await;
        }
    }

    /// Types text where the cursor is.
    pub async fn write(&self, text: &str) {
        self.call("Input.insertText", json!({ "text": text })).await;
    }

    /// The cookies that are kept, by name, with all that the browser knows of each.
    pub async fn cookies(&self) -> BTreeMap<String, Value> {
        let found = self.call("Network.getCookies", json!({})).await;
        let all = found["cookies"].as_array().cloned().unwrap_or_default();
        let named = all.into_iter();
        named
            .map(|cookie| (cookie["name"].as_str().unwrap_or_default().to_owned(), cookie))
            .collect()
    }

    /// Takes a picture of what is seen. It is kept only if the variable `SCREENSHOTS` names a directory for it.
    pub async fn picture(&self, name: &str) {
        let Some(directory) = std::env::var_os("SCREENSHOTS").map(PathBuf::from) else {
            return;
        };
        let taken = self.call("Page.captureScreenshot", json!({ "format": "png" })).await;
        let bytes = BASE64_STANDARD.decode(taken["data"].as_str().unwrap()).unwrap();
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(format!("{name}.png")), bytes).unwrap();
    }

    /// How far what is there reaches beyond the window's width, in CSS pixels.
    pub async fn overflow(&self) -> i64 {
        let wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
        self.value(wide).await.as_i64().unwrap_or(i64::MAX)
    }
}
