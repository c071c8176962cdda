//! Look-alikes of the official images of PostgreSQL, Redis and nginx, made from Debian's programs: each starts as root, gives its
//! directories to the user that its service is, and steps down. By these names they are no engines of Maquette's: what runs is what
//! the image has.

use crate::{live, page, rig::Rig, started_with};
use forge::local::FileChange;
use rustix::process::geteuid;
use serde_json::{Value, json};
use std::{fs, path::Path};
use test_support::{
    image::{Entry, Image, base, layer},
    registry::Registry,
    snapshot::Snapshot,
};

const USERS: &str = "root:x:0:0:root:/root:/bin/sh\nnginx:x:101:101:nginx:/nonexistent:/bin/false\n\
                     postgres:x:999:999::/var/lib/postgresql:/bin/sh\nredis:x:998:998::/data:/bin/sh\n";
const GROUPS: &str = "root:x:0:\nnginx:x:101:\npostgres:x:999:\nredis:x:998:\n";

/// By its whole path: the shell has a lesser one of its own. Initialises a new data directory as the official one does, with a server that listens nowhere.
const POSTGRES: &str = r#"#!/bin/sh
set -e
if [ "$(id -u)" = 0 ]; then
  mkdir -p "$PGDATA" /var/run/postgresql
  chmod 700 "$PGDATA"
  find "$PGDATA" ! -user postgres -exec chown postgres {} +
  chown postgres:postgres /var/run/postgresql
  exec /usr/bin/setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  echo "initialising as $(id -un)"
  printf '%s\n' "$POSTGRES_PASSWORD" > /tmp/password
  initdb --username="$POSTGRES_USER" --pwfile=/tmp/password --auth-host=scram-sha-256 --auth-local=trust --no-locale -E UTF8
  rm /tmp/password
  echo 'host all all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
  pg_ctl -D "$PGDATA" -o "-c listen_addresses=''" -w start
  psql -U "$POSTGRES_USER" -d postgres -c "CREATE DATABASE $POSTGRES_DB"
  pg_ctl -D "$PGDATA" -m fast -w stop
fi
exec "$@"
"#;
const REDIS: &str = r#"#!/bin/sh
set -e
if [ "$1" = redis-server ] && [ "$(id -u)" = 0 ]; then
  find . ! -user redis -exec chown redis {} +
  exec /usr/bin/setpriv --reuid=redis --regid=redis --clear-groups "$0" "$@"
fi
umask 0077
exec "$@"
"#;
const NGINX: &str = r#"#!/bin/sh
set -e
for script in /docker-entrypoint.d/*.sh; do "$script"; done
exec "$@"
"#;
/// As many images have it: what the container is for is written into its configuration when it starts.
const NGINX_GREETING: &str = "#!/bin/sh\nset -e\nmkdir -p /var/lib/nginx /var/log/nginx\nchown nginx /var/lib/nginx\n\
                              echo \"greetings from $GREETER\" > /usr/share/nginx/html/index.html\n";
const NGINX_SETTINGS: &str = "user nginx;\nworker_processes 2;\npid /run/nginx.pid;\nerror_log /var/log/nginx/error.log notice;\n\
                              events { worker_connections 64; }\nhttp {\n  access_log /var/log/nginx/access.log;\n  \
                              server { listen 80; location / { root /usr/share/nginx/html; } }\n}\n";

fn plain(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with("llvmjit") || name == "bitcode" || name == "pgxs"
}

/// The programs of the newest PostgreSQL that is installed, and the directory that they are in.
fn postgres_home() -> String {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("run scripts/install-packages shop once");
    let names = versions
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    names.max_by_key(|name| name.parse::<u32>().unwrap_or(0)).unwrap()
}

fn postgres() -> Image {
    let version = postgres_home();
    let home = format!("usr/lib/postgresql/{version}");
    let mut found = Snapshot::new();
    for program in ["postgres", "initdb", "pg_ctl", "pg_isready", "psql"] {
        let at = format!("{home}/bin/{program}");
        found.program(format!("/{at}"), &at).unwrap();
    }
    for directory in [format!("{home}/lib"), format!("usr/share/postgresql/{version}")] {
        found.directory(format!("/{directory}"), &directory, &plain).unwrap();
    }
    let config = json!({
        "Env": [format!("PATH=/{home}/bin:/usr/bin:/bin"), "PGDATA=/var/lib/postgresql/data", "LC_ALL=C"],
        "Entrypoint": ["docker-entrypoint.sh"],
        "Cmd": ["postgres", "-c", "listen_addresses=*"],
        "Volumes": { "/var/lib/postgresql/data": {} },
        "ExposedPorts": { "5432/tcp": {} },
        "StopSignal": "SIGINT",
    });
    official(found, POSTGRES, &[], &config)
}

fn redis() -> Image {
    let mut found = Snapshot::new();
    for program in ["redis-server", "redis-cli"] {
        let at = format!("usr/bin/{program}");
        found.program(fs::canonicalize(format!("/{at}")).unwrap(), &at).unwrap();
    }
    let config = json!({
        "Env": ["PATH=/usr/bin:/bin"],
        "Entrypoint": ["docker-entrypoint.sh"],
        "Cmd": ["redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--appendonly", "yes"],
        "WorkingDir": "/data",
        "Volumes": { "/data": {} },
        "ExposedPorts": { "6379/tcp": {} },
    });
    official(found, REDIS, &[Entry::directory("data").owned(998, 998)], &config)
}

fn nginx() -> Image {
    let mut found = Snapshot::new();
    found
        .program("/usr/sbin/nginx", "usr/sbin/nginx")
        .expect("run scripts/install-packages test once");
    let more = [
        Entry::directory("docker-entrypoint.d"),
        Entry::program("docker-entrypoint.d/10-greet.sh", NGINX_GREETING),
        Entry::directory("usr/share/nginx/html"),
        Entry::file("etc/nginx/nginx.conf", NGINX_SETTINGS),
        Entry::directory("run"),
        Entry::directory("var/log/nginx"),
        Entry::symlink("var/log/nginx/access.log", "/dev/stdout"),
        Entry::symlink("var/log/nginx/error.log", "/dev/stderr"),
    ];
    let config = json!({
        "Env": ["PATH=/usr/sbin:/usr/bin:/bin"],
        "Entrypoint": ["docker-entrypoint.sh"],
        "Cmd": ["nginx", "-g", "daemon off;"],
        "ExposedPorts": { "80/tcp": {} },
        "StopSignal": "SIGQUIT",
    });
    official(found, NGINX, &more, &config)
}

fn official(mut found: Snapshot, entrypoint: &str, more: &[Entry], config: &Value) -> Image {
    found.program("/usr/bin/setpriv", "usr/bin/setpriv").unwrap();
    let own = [
        Entry::file("etc/passwd", USERS),
        Entry::file("etc/group", GROUPS),
        Entry::program("usr/bin/docker-entrypoint.sh", entrypoint),
    ];
    let own: Vec<Entry> = own.into_iter().chain(more.iter().cloned()).collect();
    Image::new(
        vec![base().unwrap(), found.layer().unwrap(), layer(&own).unwrap()],
        config,
    )
}

fn compose(registry: &str, greeter: &str) -> FileChange {
    FileChange::write(
        "compose.yaml",
        format!(
            "services:\n  web:\n    image: {registry}/example/pages:1\n    ports: [\"8080:80\"]\n    \
             environment: {{ GREETER: {greeter} }}\n    \
             depends_on: {{ db: {{ condition: service_healthy }}, cache: {{ condition: service_healthy }} }}\n  \
             db:\n    image: {registry}/example/postgis:16\n    \
             environment: {{ POSTGRES_USER: shop, POSTGRES_PASSWORD: shop, POSTGRES_DB: shop, GREETER: {greeter} }}\n    \
             volumes: [\"rows:/var/lib/postgresql/data\"]\n    \
             healthcheck: {{ test: [CMD, pg_isready, -q, -h, 127.0.0.1, -U, shop, -d, shop], interval: 1s, timeout: 10s, retries: 120 }}\n  \
             cache:\n    image: {registry}/example/valkey:7\n    volumes: [\"/data\"]\n    \
             healthcheck: {{ test: [CMD, redis-cli, ping], interval: 1s, timeout: 10s, retries: 120 }}\n\
             volumes: {{ rows: }}\n"
        ),
    )
}

/// The owner of each process of a service, by its command.
async fn owners(rig: &Rig, label: &str, service: &str) -> String {
    let look = "for p in /proc/[0-9]*; do echo \"$(stat -c %u $p) $(tr '\\0' ' ' < $p/cmdline)\"; done 2>/dev/null";
    rig.ok(&["exec", label, service, "--", "sh", "-c", look]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn look_alikes_of_official_images_start_as_root_give_their_directories_away_and_step_down() {
    if !geteuid().is_root() {
        eprintln!("left out: cells need root");
        return;
    }
    let registry = Registry::start().unwrap();
    let name = registry.name();
    for (repository, tag, image) in [
        ("example/pages", "1", nginx()),
        ("example/postgis", "16", postgres()),
        ("example/valkey", "7", redis()),
    ] {
        image.push(&name, repository, tag).await.unwrap();
    }
    let files = [
        compose(&name, "main"),
        FileChange::write(
            "maquette.yaml",
            "stack: { services: { web: { public: true } } }\npolicy: { baseline: none }\n",
        ),
    ];
    let mut rig = started_with(&registry, &files).await;
    let (number, commit) = rig.change("topic", &[compose(&name, "one")]).await;
    let label = format!("pr-{number}");
    live(&rig, number, &commit).await;

    // nginx: port 80 is bound by root, pages are served by another user, and what it logs to a link of the image arrives.
    page(&rig, &label, "greetings from one").await;
    let seen = owners(&rig, &label, "web").await;
    assert!(seen.contains("0 nginx: master process"), "{seen}");
    assert_eq!(seen.matches("101 nginx: worker process").count(), 2, "{seen}");
    rig.says(&["logs", &label, "web"], &["GET / HTTP/1.1\" 200"]).await;

    // PostgreSQL: initialised by its entrypoint, as its own user, in a volume that began as root's.
    let seen = owners(&rig, &label, "db").await;
    assert!(
        seen.contains("999 postgres -c listen_addresses=*") && !seen.contains("0 postgres"),
        "{seen}"
    );
    let log = rig.ok(&["logs", &label, "db"]).await;
    assert!(log.contains("initialising as postgres"), "{log}");
    let sql = async |sql: &str| {
        let exec = ["exec", "-e", "PGPASSWORD=shop", &label, "db", "--"];
        let psql = ["psql", "-h", "127.0.0.1", "-U", "shop", "-d", "shop", "-tAc", sql];
        rig.ok(&[&exec[..], &psql[..]].concat()).await
    };
    sql("CREATE TABLE note AS SELECT 'kept' AS text").await;
    let about = "stat -c '%u %a' $PGDATA";
    let owner = rig.ok(&["exec", &label, "db", "--", "sh", "-c", about]).await;
    assert_eq!(owner, "999 700\n");

    // Redis: what it writes belongs to its user.
    let seen = owners(&rig, &label, "cache").await;
    assert!(seen.contains("998 redis-server"), "{seen}");
    let answer = rig
        .ok(&["exec", &label, "cache", "--", "redis-cli", "set", "colour", "blue"])
        .await;
    assert_eq!(answer, "OK\n");
    let owner = rig
        .ok(&["exec", &label, "cache", "--", "stat", "-c", "%u", "/data/appendonlydir"])
        .await;
    assert_eq!(owner, "998\n");

    // A push starts the database anew on what is there: nothing is initialised twice.
    let commit = rig.push("topic", &[compose(&name, "two")]).await;
    live(&rig, number, &commit).await;
    page(&rig, &label, "greetings from two").await;
    assert_eq!(sql("SELECT text FROM note").await, "kept\n");

    let receipt = rig.json(&["delete", "--yes", "--watch", &label]).await;
    let entries = receipt["entries"].as_array().unwrap();
    assert!(
        !entries.is_empty() && entries.iter().all(|entry| entry["gone"].is_u64()),
        "{receipt:#}"
    );
    rig.stop().await;
}
