//! Look-alikes of the official images that strangers' repositories name, made from what this machine has installed.

use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use test_support::{
    image::{Entry, Image, base, layer},
    registry::Registry,
    snapshot::Snapshot,
};

const PATHS: &str = "PATH=/usr/local/cargo/bin:/usr/local/go/bin:/opt/java/openjdk/bin:/usr/local/bin:/usr/bin:/bin";

/// As Alpine's busybox has it; Debian's has none.
const ADDUSER: &str = "#!/bin/sh\nset -e\nwhile [ $# -gt 1 ]; do\n  case $1 in -u) id=$2; shift 2 ;; *) shift ;; esac\ndone\n\
                       echo \"$1:x:$id:$id::/home/$1:/bin/sh\" >> /etc/passwd\necho \"$1:x:$id:\" >> /etc/group\n";

fn text_of(program: &str, arguments: &[&str]) -> String {
    let told = Command::new(program).args(arguments).output();
    let told = told.unwrap_or_else(|error| panic!("{program}: {error}; run scripts/install-packages test once"));
    String::from_utf8(told.stdout).unwrap().trim().to_owned()
}

fn real(path: &str) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|error| panic!("{path}: {error}; run scripts/install-packages test once"))
}

fn libraries() -> String {
    format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH)
}

/// What no image needs: tests, documentation, and what programs have made of their own text.
fn plain(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let left = ["__pycache__", "test", "tests", "doc", "docs", "man", "testdata"];
    left.contains(&name.as_ref()) || name.ends_with("_test.go")
}

fn nginx() -> (Snapshot, Value) {
    let mut found = Snapshot::new();
    let server = "#!/bin/sh\nexec httpd -f -p 80 -h /usr/share/nginx/html\n";
    let entry = "#!/bin/sh\nset -e\nmkdir -p /var/cache/nginx\nchown 101:102 /var/cache/nginx\nexec \"$@\"\n";
    found.script("usr/sbin/nginx", server).unwrap();
    found.script("docker-entrypoint.sh", entry).unwrap();
    let config = json!({
        "Env": ["PATH=/usr/sbin:/bin"],
        "Entrypoint": ["/docker-entrypoint.sh"],
        "Cmd": ["nginx", "-g", "daemon off;"],
        "ExposedPorts": { "80/tcp": {} },
        "StopSignal": "SIGQUIT",
    });
    (found, config)
}

fn python() -> (Snapshot, Value) {
    let program = real("/usr/bin/python3");
    let name = program.file_name().unwrap().to_str().unwrap().to_owned();
    let mut found = Snapshot::new();
    let at = format!("usr/bin/{name}");
    found.program(&program, &at).unwrap();
    for link in ["usr/bin/python3", "usr/bin/python"] {
        found.link(link, &name).unwrap();
    }
    let library = format!("usr/lib/{name}");
    found.directory(format!("/{library}"), &library, &plain).unwrap();
    found
        .directory("/usr/share/python-wheels", "usr/share/python-wheels", &plain)
        .unwrap();
    // What wheels with compiled parts bring along.
    for path in ["/usr/lib/python3/dist-packages/psycopg2"] {
        for entry in fs::read_dir(path).unwrap().flatten() {
            if entry.file_name().to_string_lossy().contains(".so") {
                found.program(entry.path(), "usr/local/lib/needs-libraries.so").unwrap();
            }
        }
    }
    (found, json!({ "Env": [PATHS], "Cmd": ["python3"] }))
}

fn node() -> (Snapshot, Value) {
    let mut found = Snapshot::new();
    found.program(real("/usr/bin/node"), "usr/local/bin/node").unwrap();
    // With Node's own packages, or with Debian's, which keep what it needs beside it.
    if Path::new("/usr/lib/node_modules/npm").is_dir() {
        let at = "usr/local/lib/node_modules/npm";
        found.directory("/usr/lib/node_modules/npm", at, &plain).unwrap();
        found
            .link("usr/local/bin/npm", "../lib/node_modules/npm/bin/npm-cli.js")
            .unwrap();
    } else {
        found
            .directory("/usr/share/nodejs", "usr/share/nodejs", &plain)
            .unwrap();
        found
            .link("usr/local/bin/npm", "../../share/nodejs/npm/bin/npm-cli.js")
            .unwrap();
    }
    (found, json!({ "Env": [PATHS, "NODE_VERSION=20"], "Cmd": ["node"] }))
}

fn php() -> (Snapshot, Value) {
    let mut found = Snapshot::new();
    found.program(real("/usr/bin/php"), "usr/local/bin/php").unwrap();
    let extensions = text_of("php", &["-n", "-r", "echo PHP_EXTENSION_DIR;"]);
    let settings = text_of("php", &["-n", "-r", "echo PHP_CONFIG_FILE_SCAN_DIR;"]);
    found
        .directory(&extensions, extensions.trim_start_matches('/'), &plain)
        .unwrap();
    let install = format!(
        "#!/bin/sh\nset -e\nmkdir -p {settings}\nfor name in \"$@\"; do\n  test -f {extensions}/$name.so\n  \
         echo \"extension=$name.so\" > {settings}/20-$name.ini\ndone\n"
    );
    found.script("usr/local/bin/docker-php-ext-install", &install).unwrap();
    let own = format!("{}/10-pdo.ini", settings.trim_start_matches('/'));
    found.script(&own, "extension=pdo.so\n").unwrap();
    (found, json!({ "Env": [PATHS], "Cmd": ["php", "-a"] }))
}

fn go() -> (Snapshot, Value) {
    let root = text_of("go", &["env", "GOROOT"]);
    let unused = |path: &Path| {
        let below = path.strip_prefix(&root).unwrap_or(path);
        let left = ["api", "misc", "lib", "src/cmd", "bin/gofmt"];
        let tools = [
            "cgo",
            "cover",
            "doc",
            "fix",
            "preprofile",
            "vet",
            "trace",
            "pprof",
            "nm",
            "objdump",
        ];
        let tool = below.starts_with("pkg/tool") && tools.iter().any(|tool| below.ends_with(tool));
        plain(path) || tool || left.iter().any(|left| below == Path::new(left))
    };
    let mut found = Snapshot::new();
    found.directory(&root, "usr/local/go", &unused).unwrap();
    let config = json!({ "Env": [PATHS, "GOPATH=/go", "GOTOOLCHAIN=local", "GOFLAGS=-mod=mod"], "WorkingDir": "/go", "Cmd": ["sh"] });
    (found, config)
}

fn java() -> (Snapshot, Value) {
    let home = real("/usr/bin/javac");
    let home = home.parent().and_then(Path::parent).unwrap();
    let unused = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let left = ["jmods", "legal", "include", "src.zip", "docs"];
        plain(path) || left.contains(&name.as_ref()) || name.ends_with(".jsa")
    };
    let mut found = Snapshot::new();
    found.directory(home, "opt/java/openjdk", &unused).unwrap();
    (
        found,
        json!({ "Env": [PATHS, "JAVA_HOME=/opt/java/openjdk"], "Cmd": ["jshell"] }),
    )
}

fn ruby() -> (Snapshot, Value) {
    let program = real("/usr/bin/ruby");
    let at = program.display().to_string();
    let mut found = Snapshot::new();
    found.program(&program, at.trim_start_matches('/')).unwrap();
    found
        .link("usr/bin/ruby", program.file_name().unwrap().to_str().unwrap())
        .unwrap();
    for directory in [
        "/usr/lib/ruby",
        &format!("{}/ruby", libraries()),
        "/usr/share/rubygems-integration",
    ] {
        found
            .directory(directory, directory.trim_start_matches('/'), &plain)
            .unwrap();
    }
    for script in ["bundle", "gem"] {
        let text = fs::read_to_string(real(&format!("/usr/bin/{script}"))).unwrap();
        found.script(&format!("usr/bin/{script}"), &text).unwrap();
    }
    (found, json!({ "Env": [PATHS, "LANG=C.UTF-8"], "Cmd": ["irb"] }))
}

fn rust() -> (Snapshot, Value) {
    let root = text_of("rustc", &["--print", "sysroot"]);
    let unused = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let left = ["etc", "rust-objcopy", "wasm-component-ld"];
        left.contains(&name.as_ref())
            || name.starts_with("librustc-stable_rt")
            || name.starts_with("manifest-")
            || name.ends_with(".toml")
    };
    let mut found = Snapshot::new();
    for program in ["rustc", "cargo"] {
        found
            .program(format!("{root}/bin/{program}"), &format!("usr/local/bin/{program}"))
            .unwrap();
    }
    found
        .directory(format!("{root}/lib"), "usr/local/lib", &unused)
        .unwrap();
    linker(&mut found);
    (
        found,
        json!({ "Env": [PATHS, "CARGO_HOME=/usr/local/cargo"], "Cmd": ["bash"] }),
    )
}

/// The C compiler's driver, which links, and what every program is linked with.
fn linker(found: &mut Snapshot) {
    let compiler = real("/usr/bin/cc");
    found.program(&compiler, "usr/bin/cc").unwrap();
    found.program(real("/usr/bin/ld"), "usr/bin/ld").unwrap();
    let own = text_of("cc", &["-print-libgcc-file-name"]);
    let own = Path::new(&own).parent().unwrap();
    let compilers = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let left = ["include", "plugin", "install-tools", "finclude"];
        left.contains(&name.as_ref())
            || ["cc1", "lto1", "libasan", "libtsan", "libstdc", "g++"]
                .iter()
                .any(|start| name.starts_with(start))
    };
    found
        .directory(own, own.display().to_string().trim_start_matches('/'), &compilers)
        .unwrap();
    for name in [
        "crt1.o",
        "Scrt1.o",
        "rcrt1.o",
        "crti.o",
        "crtn.o",
        "libc.so",
        "libc_nonshared.a",
        "libm.so",
        "libpthread.a",
        "libdl.a",
        "librt.a",
        "libutil.a",
        "libgcc_s.so.1",
        "libm.so.6",
        "libmvec.so.1",
        "libc.so.6",
    ] {
        let path = format!("{}/{name}", libraries());
        if Path::new(&path).exists() {
            found.program(&path, path.trim_start_matches('/')).unwrap();
            // Linker scripts name them as they were called before `/lib` became a link.
            let elder = path.trim_start_matches("/usr/");
            found.program(&path, elder).unwrap();
        }
    }
}

/// Those that exist in the registry from now on, under the names that people write.
pub(crate) async fn push(registry: &Registry) {
    let users = layer(&[
        Entry::file(
            "etc/passwd",
            "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/bin/sh\nnginx:x:101:102::/:/bin/sh\n\
             node:x:1000:1000::/home/node:/bin/sh\n",
        ),
        Entry::program("bin/adduser", ADDUSER),
        Entry::file("etc/group", "root:x:0:\nwww-data:x:33:\nnginx:x:102:\nnode:x:1000:\n"),
    ])
    .unwrap();
    let below = vec![base().unwrap(), users];
    type Look = fn() -> (Snapshot, Value);
    let looks: [(&str, &str, Look); 8] = [
        ("nginx", "stable", nginx),
        ("python", "3.13-slim", python),
        ("node", "20", node),
        ("php", "8.2-cli", php),
        ("golang", "1.21", go),
        ("eclipse-temurin", "17-jdk", java),
        ("ruby", "3.0", ruby),
        ("rust", "1", rust),
    ];
    for (name, tag, look) in looks {
        let (found, config) = look();
        let layers = below.iter().cloned().chain([found.layer().unwrap()]).collect();
        let image = Image::new(layers, &config);
        let size: usize = image.layers.iter().map(Vec::len).sum();
        eprintln!("{name}:{tag} has {} MiB", size >> 20);
        image
            .push(&registry.name(), &format!("library/{name}"), tag)
            .await
            .unwrap();
    }
    let small = json!({ "Env": [PATHS], "Cmd": ["sh"] });
    let image = Image::new(below, &small);
    image.push(&registry.name(), "library/alpine", "3.19").await.unwrap();
}
