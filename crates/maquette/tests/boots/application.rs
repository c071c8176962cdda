//! The application of the pull requests: a page, and orders in a database.

use crate::machine::give_forge;
use forge::local::{FileChange, LocalForge};
use std::path::Path;

pub(crate) const FORGE: &str = "/srv/forge";

const COMPOSE: &str = "services:
  web:
    image: python:3
    command: [\"python3\", \"app.py\"]
    working_dir: /app
    volumes: [\".:/app:ro\"]
    ports: [\"8080:8080\"]
    depends_on: { db: { condition: service_healthy } }
    restart: unless-stopped
  db:
    image: postgres:15
    environment: { POSTGRES_USER: shop, POSTGRES_PASSWORD: shop, POSTGRES_DB: shop }
    volumes: [\"data:/var/lib/postgresql/data\"]
    healthcheck: { test: [\"CMD\", \"pg_isready\", \"-q\", \"-h\", \"127.0.0.1\", \"-U\", \"shop\"], interval: 2s, timeout: 20s, retries: 60 }
volumes: { data: }
";
const SETTINGS: &str = "stack:
  services:
    web: { host: true, public: true }
  data:
    db: { versions: \"13-18\", migrations: db/*.sql, seed: [seed.sql] }
policy: { baseline: none }
";

/// `/born` differs for each process that serves it, and for each start of the database.
const APP: &str = r#"import glob, http.server, os, subprocess

BORN = os.urandom(8).hex()
PSQL = sorted(glob.glob("/usr/lib/postgresql/*/bin/psql"))[-1]

def sql(statement, **values):
    words = [PSQL, "-h", "db", "-U", "shop", "-d", "shop", "-XAtq", "-v", "ON_ERROR_STOP=1"]
    for name, value in values.items():
        words += ["-v", name + "=" + value]
    env = dict(os.environ, PGPASSWORD="shop", PGCONNECT_TIMEOUT="10")
    return subprocess.run(words, input=statement, text=True, capture_output=True, check=True, env=env).stdout

class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path == "/":
            self.answer(200, open("page.txt").read())
        elif self.path == "/born":
            self.answer(200, BORN + " " + sql("SELECT pg_postmaster_start_time()"))
        elif self.path == "/orders":
            self.answer(200, sql("SELECT text FROM orders ORDER BY id"))
        else:
            self.answer(404, "")

    def do_POST(self):
        text = self.rfile.read(int(self.headers["content-length"])).decode()
        sql("INSERT INTO orders (text) VALUES (:'text')", text=text)
        self.answer(201, "")

http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"#;

/// Makes the repository that Maquette is told of.
pub(crate) async fn make_forge() -> LocalForge {
    let forge = open_forge().await;
    let files = [
        FileChange::write("compose.yaml", COMPOSE),
        FileChange::write("maquette.yaml", SETTINGS),
        FileChange::write("app.py", APP),
        FileChange::write(
            "db/1.sql",
            "CREATE TABLE orders (id serial PRIMARY KEY, text text NOT NULL);\n",
        ),
        FileChange::write("seed.sql", "INSERT INTO orders (text) VALUES ('a seed');\n"),
        FileChange::write("page.txt", "main\n"),
    ];
    let main = "main".parse().unwrap();
    forge.commit(&main, None, &files, "Begin").await.unwrap();
    forge
}

pub(crate) async fn open_forge() -> LocalForge {
    let (path, main) = ("team/shop".parse().unwrap(), "main".parse().unwrap());
    let forge = LocalForge::open(Path::new(FORGE), &path, &main).await.unwrap();
    give_forge();
    forge
}
