//! What Dockerfiles say, and what comes of it.

use crate::rig::{BASE, Bench, build, secret};
use model::{BuildSecret, Dockerfile};
use serde_json::Value;
use std::fs;

#[tokio::test]
async fn stages_arguments_owners_and_ignored_files_are_as_the_dockerfile_says() {
    let bench = Bench::start().await;
    let dockerfile = format!(
        "ARG BASE={BASE}\n\
         FROM $BASE AS made\n\
         ARG COLOUR=grey\n\
         WORKDIR /made\n\
         COPY --chown=101:102 . .\n\
         RUN echo \"$COLOUR $(id -u)\" > colour && chmod 640 colour && mkdir deep && ln -s ../colour deep/link\n\
         FROM {BASE}\n\
         COPY --from=made /made /srv\n\
         RUN rm /etc/group && touch /srv/two\n\
         ENV GREETING=hello\n\
         USER web\n\
         WORKDIR /srv\n\
         EXPOSE 8080\n\
         HEALTHCHECK CMD [\"true\"]\n\
         CMD [\"sleep\", \"5\"]\n"
    );
    let files = [
        ("Dockerfile", dockerfile.as_str()),
        (".dockerignore", "*.log\nsecret\n"),
        ("page", "a page"),
        ("noise.log", "noise"),
        ("secret/key", "key"),
    ];
    let mut wanted = build();
    wanted.args.insert("COLOUR".to_owned(), "blue".to_owned());
    wanted.labels.insert("team".to_owned(), "shop".to_owned());
    let spec = bench.generation(1, &files, &wanted).await;
    let made = bench.made(&spec).await;
    bench.nothing_left();

    let config: Value = serde_json::from_str(&made.config).unwrap();
    let config = &config["config"];
    assert_eq!(config["User"], "web");
    assert_eq!(config["WorkingDir"], "/srv");
    assert_eq!(config["Cmd"], serde_json::json!(["sleep", "5"]));
    assert_eq!(config["Labels"]["team"], "shop");
    assert!(config["Healthcheck"]["Test"].is_array(), "{config}");
    assert!(config["ExposedPorts"]["8080/tcp"].is_object(), "{config}");
    assert!(
        config["Env"].as_array().unwrap().contains(&"GREETING=hello".into()),
        "{config}"
    );

    let told = bench
        .inside(
            2,
            &made.image,
            &[
                "sh",
                "-c",
                "cd /srv && cat colour deep/link && stat -c %u:%g:%a page colour && ls -a /srv /etc",
            ],
        )
        .await;
    assert!(told.starts_with("blue 0\nblue 0\n101:102:644\n0:0:640\n"), "{told}");
    assert!(
        told.contains("page") && !told.contains("noise") && !told.contains("secret") && !told.contains("group"),
        "{told}"
    );
    let log = bench.log().await;
    assert!(log.contains("RUN echo") && log.contains("HEALTHCHECK"), "{log}");
    bench.end().await;
}

#[tokio::test]
async fn a_build_from_nothing_and_the_text_of_a_dockerfile_in_the_compose_file_work() {
    let bench = Bench::start().await;
    let mut wanted = build();
    wanted.dockerfile = Dockerfile::Inline("FROM scratch\nCOPY page /index.html\nCMD [\"/serve\"]\n".to_owned());
    wanted.context = "site".to_owned();
    let spec = bench.generation(1, &[("site/page", "a page")], &wanted).await;
    let made = bench.made(&spec).await;
    let place = bench.rig.directory.join("pool/images").join(made.image.hex());
    assert_eq!(fs::read_to_string(place.join("index.html")).unwrap(), "a page");
    let again = bench.made(&spec).await;
    assert_eq!(again, made, "what was built is not built again");
    bench.end().await;
}

#[tokio::test]
async fn a_secret_is_there_while_it_is_built_and_in_no_layer_and_nowhere_else() {
    let bench = Bench::start().await;
    let dockerfile = format!(
        "FROM {BASE}\nRUN --mount=type=secret,id=npm test $(busybox wc -c < /run/secrets/npm) = 12\n\
         RUN --mount=type=secret,id=file --mount=type=secret,id=npm,target=/elsewhere test -s /elsewhere\nRUN test ! -e /run/secrets/npm\n"
    );
    let mut wanted = build();
    wanted.secrets.insert("npm".to_owned(), BuildSecret::Value(secret()));
    wanted
        .secrets
        .insert("file".to_owned(), BuildSecret::File("readme".to_owned()));
    let files = [("Dockerfile", dockerfile.as_str()), ("readme", "read me")];
    let spec = bench.generation(1, &files, &wanted).await;
    let made = bench.made(&spec).await;
    assert!(!bench.log().await.contains("s3cret-token"));
    assert!(!made.config.contains("s3cret-token"));
    let mut seen = 0;
    for place in ["pool", "run", "state"] {
        search(&bench.rig.directory.join(place), b"s3cret-token", &mut seen);
    }
    assert!(seen > 100, "{seen} files were looked at");
    bench.end().await;
}

/// No file below holds these bytes.
fn search(place: &std::path::Path, needle: &[u8], seen: &mut usize) {
    // What the host clears away meanwhile holds nothing any more.
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            search(&entry.path(), needle, seen);
        } else if kind.is_file() {
            *seen += 1;
            let bytes = fs::read(entry.path()).unwrap_or_default();
            let found = bytes.windows(needle.len()).any(|window| window == needle);
            assert!(!found, "{}", entry.path().display());
        }
    }
}

#[tokio::test]
async fn what_did_not_change_is_not_carried_out_again_and_a_cache_mount_stays() {
    let bench = Bench::start().await;
    let dockerfile = format!(
        "FROM {BASE}\nCOPY list /list\nRUN echo install-step; cat /proc/sys/kernel/random/uuid > /installed\n\
         COPY page /page\nRUN --mount=type=cache,target=/kept echo x >> /kept/runs && cat /kept/runs > /runs\n"
    );
    let first = bench.built(1, &dockerfile, &[("list", "a"), ("page", "one")]).await;
    let second = bench.built(2, &dockerfile, &[("list", "a"), ("page", "two")]).await;
    let log = bench.log().await;
    let (_, log) = log.rsplit_once("STEP 1/").unwrap();
    assert!(!log.contains("\ninstall-step"), "{log}");
    let read = |image: &runtime::BuiltImage, name: &str| {
        let place = bench.rig.directory.join("pool/images").join(image.image.hex());
        fs::read_to_string(place.join(name)).unwrap()
    };
    assert_eq!(read(&first, "installed"), read(&second, "installed"));
    assert_eq!(
        (read(&first, "page"), read(&second, "page")),
        ("one".into(), "two".into())
    );
    assert_eq!(read(&second, "runs"), "x\nx\n");
    let third = bench.built(3, &dockerfile, &[("list", "b"), ("page", "two")]).await;
    assert_ne!(read(&first, "installed"), read(&third, "installed"));
    bench.end().await;
}

/// What a step has left in an image.
fn left(bench: &Bench, image: &runtime::BuiltImage, name: &str) -> String {
    let place = bench.rig.directory.join("pool/images").join(image.image.hex());
    fs::read_to_string(place.join(name)).unwrap()
}

#[tokio::test]
async fn a_first_build_starts_from_the_layers_of_the_project_and_one_by_approval_shares_none() {
    let mut bench = Bench::start().await;
    let dockerfile = format!(
        "FROM {BASE}\nRUN cat /proc/sys/kernel/random/uuid > /installed\nCOPY page /page\n\
         RUN --mount=type=cache,target=/kept echo x >> /kept/runs && cat /kept/runs > /runs\n"
    );
    let files = |page: &'static str| [("Dockerfile", dockerfile.clone()), ("page", page.to_owned())];
    let first = bench.built(1, &dockerfile, &[("page", "1")]).await;
    bench.elsewhere().await;
    let second = bench.built(2, &dockerfile, &[("page", "2")]).await;
    assert_eq!(left(&bench, &second, "installed"), left(&bench, &first, "installed"));
    assert_eq!(left(&bench, &second, "runs"), "x\nx\n");

    // By approval: nothing of theirs, and what it leaves is found by others of its kind in the same environment alone.
    bench.elsewhere().await;
    let approved = model::Build {
        private_to: Some(bench.environment.clone()),
        ..build()
    };
    let mut by_approval = Vec::new();
    for (number, page) in [(3, "3"), (4, "4")] {
        let files = files(page);
        let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let spec = bench.generation(number, &files, &approved).await;
        by_approval.push(bench.made(&spec).await);
    }
    assert_ne!(
        left(&bench, &by_approval[0], "installed"),
        left(&bench, &first, "installed")
    );
    assert_eq!(left(&bench, &by_approval[0], "runs"), "x\n");
    assert_eq!(
        left(&bench, &by_approval[1], "installed"),
        left(&bench, &by_approval[0], "installed")
    );
    let trusted = bench.built(5, &dockerfile, &[("page", "5")]).await;
    assert_eq!(left(&bench, &trusted, "installed"), left(&bench, &first, "installed"));
    assert_eq!(left(&bench, &trusted, "runs"), "x\nx\nx\n");
    bench.elsewhere().await;
    let elsewhere = bench.built(6, &dockerfile, &[("page", "6")]).await;
    assert_eq!(left(&bench, &elsewhere, "installed"), left(&bench, &first, "installed"));
    bench.end().await;
}
