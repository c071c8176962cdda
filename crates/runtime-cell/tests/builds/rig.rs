//! A cell host, a checkout with a Dockerfile, and a base image made of busybox.

use crate::support::{Rig, exec, ready, service, spec, up};
use async_trait::async_trait;
use futures::StreamExt as _;
use model::{
    Build, Dockerfile, EnvironmentId, EnvironmentSpec, Generation, ImageDigest, Root, ServiceName, Stage, Value,
};
use runtime::{
    BaseImage, BuildOutcome, BuiltImage, Checkout, LogQuery, NoSecrets, Result, Runtime as _, Sake, Secrets, SourceKey,
};
use runtime_cell::CellRuntime;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};
use test_support::image::{Image, base};

/// What the base image is called.
pub(crate) const BASE: &str = "registry.example/busybox:1";

/// The files of a commit.
struct Files(BTreeMap<String, String>);

#[async_trait]
impl Checkout for Files {
    async fn write(&self, into: &Path) -> std::result::Result<(), String> {
        for (name, text) in &self.0 {
            let path = into.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Ok(())
    }
}

/// Passwords, for those who ask for `token`.
pub(crate) struct Known(pub(crate) &'static str);

impl Secrets for Known {
    fn value(&self, secret: &model::SecretRef) -> Option<&[u8]> {
        (secret.0 == "token").then_some(self.0.as_bytes())
    }
}

pub(crate) struct Bench {
    pub(crate) rig: Rig,
    pub(crate) runtime: CellRuntime,
    pub(crate) environment: EnvironmentId,
    pub(crate) base: BaseImage,
    others: Vec<EnvironmentId>,
    _blobs: tempfile::TempDir,
}

/// As the reconciler gives it.
pub(crate) fn build() -> Build {
    Build {
        source: "app".parse().unwrap(),
        context: String::new(),
        dockerfile: Dockerfile::Path("Dockerfile".to_owned()),
        args: BTreeMap::new(),
        target: None,
        contexts: BTreeMap::new(),
        secrets: BTreeMap::new(),
        labels: BTreeMap::new(),
        no_cache: false,
        no_health: false,
        made: None,
        private_to: None,
        tags: BTreeSet::new(),
    }
}

pub(crate) fn web() -> ServiceName {
    "web".parse().unwrap()
}

impl Bench {
    pub(crate) async fn start() -> Self {
        Self::on(Rig::start()).await
    }

    pub(crate) async fn on(rig: Rig) -> Self {
        let runtime = rig.runtime().await;
        assert!(
            runtime.capabilities().features.contains(&model::Feature::Builds),
            "this test needs buildah.\nhint: run scripts/install-packages test once"
        );
        let blobs = tempfile::tempdir().unwrap();
        let layers = vec![base().unwrap()];
        let image = Image::new(layers, &serde_json::json!({ "Env": ["PATH=/bin"], "Cmd": ["sh"] }));
        let (manifest, config) = image.documents();
        let (manifest, config, config_digest) = images::documented(manifest, config);
        let mut files = BTreeMap::new();
        let layer = test_support::image::digest(&image.layers[0]);
        for (digest, bytes) in [(config_digest.to_string(), &config), (layer, &image.layers[0])] {
            let path = blobs.path().join(&digest);
            fs::write(&path, bytes).unwrap();
            files.insert(digest, path);
        }
        let base = BaseImage {
            // As it is written, and what it stands for.
            names: [BASE.to_owned(), "$BASE".to_owned()].into(),
            manifest,
            blobs: files,
        };
        let environment = rig.environment();
        let bench = Self {
            rig,
            runtime,
            environment,
            base,
            others: Vec::new(),
            _blobs: blobs,
        };
        let empty = spec(bench.environment.clone(), &[]);
        bench.runtime.apply(&empty, &Stage::Envelope, &NoSecrets).await.unwrap();
        bench
    }

    /// Goes on in another environment of the same project.
    pub(crate) async fn elsewhere(&mut self) {
        let next = self.rig.environment();
        self.others.push(std::mem::replace(&mut self.environment, next));
        let empty = spec(self.environment.clone(), &[]);
        self.runtime.apply(&empty, &Stage::Envelope, &NoSecrets).await.unwrap();
    }

    /// A generation with these files, whose service is built like this.
    pub(crate) async fn generation(&self, number: u64, files: &[(&str, &str)], build: &Build) -> EnvironmentSpec {
        let mut web = service(&["unused"], &[]);
        web.workload.root = Root::Build(Box::new(build.clone()));
        let mut made = spec(self.environment.clone(), &[("web", web)]);
        made.generation = Generation(number);
        let commit = format!("{number:0>40}");
        made.sources = [("app".parse().unwrap(), commit.parse().unwrap())].into();
        let key = SourceKey {
            project: made.project.clone(),
            source: "app".parse().unwrap(),
            commit: commit.parse().unwrap(),
        };
        let sake = Sake {
            environment: self.environment.clone(),
            generation: made.generation,
        };
        let files = files
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        let files = Files(files.collect());
        self.runtime.source_put(&sake, &key, &files).await.unwrap();
        made
    }

    pub(crate) async fn run(&self, spec: &EnvironmentSpec) -> Result<BuildOutcome> {
        let bases = [self.base.clone()];
        self.runtime
            .build_run(spec, &web(), &bases, &Known("s3cret-token"))
            .await
    }

    /// Builds a Dockerfile with these files beside it; what it makes.
    pub(crate) async fn built(&self, number: u64, dockerfile: &str, files: &[(&str, &str)]) -> BuiltImage {
        let mut all = vec![("Dockerfile", dockerfile)];
        all.extend(files);
        let spec = self.generation(number, &all, &build()).await;
        self.made(&spec).await
    }

    pub(crate) async fn made(&self, spec: &EnvironmentSpec) -> BuiltImage {
        match self.run(spec).await.unwrap() {
            BuildOutcome::Built(image) => image,
            BuildOutcome::Failed { exit, message } => {
                panic!("{exit} {message:?}\n{}\n{}", self.log().await, self.rig.log())
            }
        }
    }

    /// How a build failed, and what it printed.
    pub(crate) async fn failed(&self, number: u64, dockerfile: &str) -> (i32, Option<String>, String) {
        let spec = self.generation(number, &[("Dockerfile", dockerfile)], &build()).await;
        match self.run(&spec).await.unwrap() {
            BuildOutcome::Failed { exit, message } => (exit, message, self.log().await),
            BuildOutcome::Built(image) => panic!("{image:?}\n{}", self.log().await),
        }
    }

    pub(crate) async fn log(&self) -> String {
        let lines = self
            .runtime
            .logs(&self.environment, "build:web", LogQuery::default())
            .await;
        let lines: Vec<String> = lines.unwrap().map(|line| line.text).collect().await;
        lines.join("\n")
    }

    /// What the build has printed so far, if it has begun.
    pub(crate) async fn printed(&self) -> String {
        let lines = self
            .runtime
            .logs(&self.environment, "build:web", LogQuery::default())
            .await;
        match lines {
            Ok(lines) => lines.map(|line| line.text).collect::<Vec<_>>().await.join("\n"),
            Err(_) => String::new(),
        }
    }

    /// Runs the image as a service and a command in it.
    pub(crate) async fn inside(&self, number: u64, image: &ImageDigest, argv: &[&str]) -> String {
        let mut app = service(&["sleep", "1000"], &[]);
        app.workload.root = Root::Image {
            reference: "build:web".to_owned(),
            pinned: Some(image.clone()),
        };
        let mut made = spec(self.environment.clone(), &[("app", app)]);
        made.generation = Generation(number);
        up(&self.runtime, &made).await;
        ready(&self.runtime, &self.environment, "app").await;
        let (status, text) = exec(&self.runtime, &self.environment, "app", argv).await;
        assert_eq!(status, Some(0), "{text}");
        text
    }

    /// Nothing of a build is left but its layers for the next one.
    pub(crate) fn nothing_left(&self) {
        let place = self
            .rig
            .directory
            .join("pool/environments")
            .join(self.environment.as_str());
        let names = fs::read_dir(place)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap());
        let left: Vec<String> = names.filter(|name| name.ends_with("-b-web")).collect();
        assert!(left.is_empty(), "{left:?}");
    }

    pub(crate) async fn end(self) {
        let generation = Generation(1000);
        for environment in self.others.iter().chain([&self.environment]) {
            self.runtime.remove(environment, generation).await.unwrap();
        }
        let left = self.runtime.inventory(None).await.unwrap();
        assert!(left.is_empty(), "{left:?}");
        let caches = fs::read_dir(self.rig.directory.join("pool/snapshots")).unwrap().count();
        assert_eq!(caches, 0, "the layers of its builds go with an environment");
    }
}

/// A secret by its name.
pub(crate) fn secret() -> Value {
    Value::Secret(model::SecretRef("token".to_owned()))
}
