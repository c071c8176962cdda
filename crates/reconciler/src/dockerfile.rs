//! Builds an image from a Dockerfile: fetches what the Dockerfile starts from, has the runtime build, and writes down in the generation
//! what has come of it.

use crate::{
    context::Context,
    environment::execute::{StepError, log_tail},
    image::{
        self, ImageSource,
        bring::{discards_damaged, layers_of},
    },
    text::chain,
};
use blueprint::{Kind, Tree};
use images::{BlobDigest, DockerIgnore, ImageConfig, dockerfile_images, documented};
use model::{
    Build, BuildContext, Digest, Dockerfile, EnvironmentId, EnvironmentSpec, ImageDigest, ImageFacts, Root,
    ServiceName, Stack,
};
use runtime::{BaseImage, BuildOutcome, BuiltImage};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::Arc,
    time::Duration,
};
use store::{ImageNameRow, ImageRow};

/// An answer of a registry that is younger is not asked for again.
const FRESH: Duration = Duration::from_secs(15);
/// Of a manifest or a configuration.
const DOCUMENT_MAX: u64 = 4 << 20;

/// What a build reads of the checkout.
struct Seen {
    dockerfile: String,
    /// The same for the same files.
    content: Digest,
}

/// Builds the image of a service, unless the same was built before, and completes the generation with it.
pub(crate) async fn build(
    context: &Arc<Context>,
    spec: &EnvironmentSpec,
    service: &ServiceName,
) -> Result<(), StepError> {
    let root = spec.services().and_then(|stack| stack.services.get(service));
    let Some(Root::Build(build)) = root.map(|s| &s.workload.root) else {
        return Ok(());
    };
    let Some(source) = &context.settings.images else {
        return Err(StepError::new(
            "this server fetches no images, so it can not build any",
            false,
        ));
    };
    let seen = seen(context, spec, build).await?;
    let bases = bases(context, source, spec, service, build, &seen.dockerfile).await?;
    let name = name_of(spec, build, &seen, &bases);
    if let Some(row) = context.store.image_name_get(&name).await?
        && context.runtime.image_list().await?.contains(&row.facts.digest)
    {
        return complete(context, spec, build, &row.facts).await;
    }
    let resources = context.runtime.build_footprint(spec, service);
    context.store.ledger_intend(&resources, context.now()).await?;
    let secrets = crate::secret::values(context, spec).await?;
    let made = match context.runtime.build_run(spec, service, &bases, &secrets).await? {
        BuildOutcome::Built(made) => made,
        BuildOutcome::Failed { exit, message } => {
            let kept = bases.iter().flat_map(|base| base.blobs.keys());
            let kept = kept.filter_map(|digest| digest.parse().ok()).collect();
            if discards_damaged(source, kept).await {
                return Err(StepError::new(
                    format!(
                        "a layer that the build of service {service} starts from was damaged here; it is fetched again"
                    ),
                    true,
                ));
            }
            let why = message.unwrap_or_else(|| format!("status {exit}"));
            let log = log_tail(context, &spec.environment, &format!("build:{service}")).await;
            return Err(
                StepError::new(format!("the build of service {service} failed: {why}"), false)
                    .hint(format!(
                        "`maquette logs {} build:{service}` shows all of it",
                        spec.environment
                    ))
                    .log(log),
            );
        }
    };
    let facts = noted(context, service, &name, &made).await?;
    complete(context, spec, build, &facts).await
}

async fn seen(context: &Context, spec: &EnvironmentSpec, build: &Build) -> Result<Seen, StepError> {
    let commit = spec.sources.get(&build.source);
    let commit = commit.ok_or_else(|| StepError::new(format!("the source {} has no commit", build.source), false))?;
    let tree = context.repositories.tree(&spec.project, &build.source, commit).await;
    let tree = tree.map_err(|error| StepError::new(chain(&error), true))?;
    let (trouble, owned) = (tree.trouble(), build.clone());
    // Reading a tree blocks.
    let read = tokio::task::spawn_blocking(move || read(&tree, &owned)).await;
    // What git could not read is not what the commit lacks.
    trouble
        .end(&build.source)
        .map_err(|error| StepError::new(chain(&error), true))?;
    read.map_err(|error| StepError::new(chain(&error), true))?
}

fn read(tree: &dyn Tree, build: &Build) -> Result<Seen, StepError> {
    let dockerfile = match &build.dockerfile {
        Dockerfile::Inline(text) => text.clone(),
        Dockerfile::Path(path) => {
            let there = matches!(tree.kind(path), Some(Kind::File { bytes }) if bytes <= blueprint::FILE_BYTES_MAX);
            let bytes = tree.read(path).filter(|_| there).ok_or_else(|| {
                StepError::new(
                    format!("there is no Dockerfile at {} in the checkout", path.escape_debug()),
                    false,
                )
            })?;
            String::from_utf8_lossy(&bytes).into_owned()
        }
    };
    let folders = build.contexts.values().filter_map(|context| match context {
        BuildContext::Folder(path) => Some(path.as_str()),
        _ => None,
    });
    let files = build.secrets.values().filter_map(|secret| match secret {
        model::BuildSecret::File(path) => Some(path.as_str()),
        model::BuildSecret::Value(_) => None,
    });
    let others: Vec<&str> = folders.chain(files).collect();
    let (ignored, rules) = ignored(tree, build);
    let counts = |path: &String| {
        let inside = below(&build.context, path);
        inside.is_some_and(|path| !rules.leaves_out(path)) || others.iter().any(|place| below(place, path).is_some())
    };
    // What it leaves out does not count, but it does: it may leave out its own file.
    let mut parts = vec![dockerfile.clone(), ignored];
    for path in tree.list().into_iter().filter(counts) {
        parts.push(tree.content_id(&path).unwrap_or_default());
        parts.push(path);
    }
    Ok(Seen {
        dockerfile,
        content: Digest::of_parts(parts.iter().map(String::as_bytes)),
    })
}

/// The rest of a path that lies in a folder of the checkout, or is it.
fn below<'a>(folder: &str, path: &'a str) -> Option<&'a str> {
    if folder.is_empty() {
        return Some(path);
    }
    let rest = path.strip_prefix(folder)?;
    if rest.is_empty() {
        Some(rest)
    } else {
        rest.strip_prefix('/')
    }
}

/// What the context leaves out: the list beside the Dockerfile, else that of the context.
fn ignored(tree: &dyn Tree, build: &Build) -> (String, DockerIgnore) {
    let own = match &build.dockerfile {
        Dockerfile::Path(path) => Some(format!("{path}.dockerignore")),
        Dockerfile::Inline(_) => None,
    };
    let general = format!("{}/.dockerignore", build.context);
    let paths = own.into_iter().chain([general.trim_start_matches('/').to_owned()]);
    for path in paths {
        // One that is too large leaves nothing out, and counts by its content like any other file.
        if matches!(tree.kind(&path), Some(Kind::File { bytes }) if bytes <= blueprint::FILE_BYTES_MAX)
            && let Some(bytes) = tree.read(&path)
        {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let rules = DockerIgnore::read(&text);
            return (text, rules);
        }
    }
    (String::new(), DockerIgnore::default())
}

/// What the Dockerfile starts from or copies files of, fetched.
async fn bases(
    context: &Context,
    source: &ImageSource,
    spec: &EnvironmentSpec,
    service: &ServiceName,
    build: &Build,
    dockerfile: &str,
) -> Result<Vec<BaseImage>, StepError> {
    let names: BTreeSet<String> = build.contexts.keys().cloned().collect();
    let mut wanted: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for image in dockerfile_images(dockerfile, &build.args, &names) {
        wanted.entry(image.reference).or_default().extend(image.written);
    }
    for (name, other) in &build.contexts {
        if let BuildContext::Image(reference) = other {
            wanted.entry(reference.clone()).or_default().insert(name.clone());
        }
    }
    let mut pinned = BTreeMap::new();
    for reference in wanted.keys() {
        let known = image::stands_for(context, reference, FRESH).await;
        let known = known.map_err(|refusal| missing(reference, refusal))?;
        pinned.insert(reference.clone(), known.facts.digest);
    }
    note_bases(context, spec, &pinned).await?;
    let whose = (spec.environment.clone(), service.clone());
    let mut found = Vec::new();
    for (reference, names) in wanted {
        let Some(digest) = pinned.get(&reference) else { continue };
        tracing::debug!(environment = %spec.environment, reference, "fetching what a build starts from");
        found.push(base(context, source, &whose, &reference, names, digest).await?);
    }
    Ok(found)
}

/// As for the image of a service: whoever asks for names regularly asks for this one, too, and what failed for want of it is made
/// anew when it can be had, whether it was not there yet or its registry was away.
fn missing(reference: &str, refusal: image::Refusal) -> StepError {
    // A registry that is away has nothing to say about the image.
    let message = if refusal.message.contains(reference) {
        format!("{}, which the Dockerfile names", refusal.message)
    } else {
        format!("{reference}, which the Dockerfile names: {}", refusal.message)
    };
    let mut told = StepError::new(message, false);
    told.failure.step = image::step_of(reference);
    match refusal.hint {
        Some(hint) => told.hint(hint),
        None => told,
    }
}

/// Writes down in the generation what its Dockerfiles start from, also where a build fails: a name that stands for something else
/// later may mend it.
async fn note_bases(
    context: &Context,
    spec: &EnvironmentSpec,
    pinned: &BTreeMap<String, ImageDigest>,
) -> Result<(), StepError> {
    let _turn = context.completing.lock().await;
    let row = context.store.generation_get(&spec.environment, spec.generation).await?;
    let Some(row) = row else { return Ok(()) };
    let mut whole = row.spec;
    let Stack::Services(stack) = &mut whole.stack else {
        return Ok(());
    };
    if pinned
        .iter()
        .all(|(name, digest)| stack.bases.get(name) == Some(digest))
    {
        return Ok(());
    }
    stack.bases.extend(pinned.clone());
    Ok(context.store.generation_complete(&whole).await?)
}

async fn base(
    context: &Context,
    source: &ImageSource,
    whose: &(EnvironmentId, ServiceName),
    reference: &str,
    names: BTreeSet<String>,
    digest: &ImageDigest,
) -> Result<BaseImage, StepError> {
    let unreadable = |what: &str| {
        StepError::new(
            format!("{what} of the image {} is gone again", reference.escape_debug()),
            true,
        )
    };
    let pulled = layers_of(context, source, whose, digest, reference).await?;
    let document = |digest: &BlobDigest, what| {
        let path = source.blobs.path(digest).ok_or_else(|| unreadable(what))?;
        let small = fs::metadata(&path).is_ok_and(|m| m.len() <= DOCUMENT_MAX);
        fs::read(&path).ok().filter(|_| small).ok_or_else(|| unreadable(what))
    };
    let manifest = document(&pulled.digest, "the manifest")?;
    let config = document(&pulled.config_digest, "the configuration")?;
    let (manifest, config, config_digest) = documented(&manifest, &config);
    source
        .blobs
        .put(&config)
        .map_err(|error| StepError::new(chain(&error), true))?;
    let mut blobs = BTreeMap::new();
    for digest in pulled.layers.iter().map(|layer| layer.digest).chain([config_digest]) {
        let path = source.blobs.path(&digest).ok_or_else(|| unreadable("a layer"))?;
        blobs.insert(digest.to_string(), path);
    }
    Ok(BaseImage { names, manifest, blobs })
}

/// The name under which it is kept what this work was built to: of all that the result depends on.
fn name_of(spec: &EnvironmentSpec, build: &Build, seen: &Seen, bases: &[BaseImage]) -> String {
    let plain = Build {
        made: None,
        no_health: false,
        ..build.clone()
    };
    let text = serde_json::to_vec(&plain).unwrap_or_default();
    // A build that is given a secret may have another result with another value.
    let versions = if build.secrets.is_empty() {
        Vec::new()
    } else {
        serde_json::to_vec(&spec.secrets).unwrap_or_default()
    };
    let own: [&[u8]; 3] = [&text, seen.content.as_str().as_bytes(), &versions];
    let parts = own.into_iter().chain(bases.iter().map(|base| base.manifest.as_slice()));
    format!("build:{}/{}", spec.project, Digest::of_parts(parts))
}

/// Writes down what was built, and that it is there.
async fn noted(
    context: &Context,
    service: &ServiceName,
    name: &str,
    made: &BuiltImage,
) -> Result<ImageFacts, StepError> {
    let unreadable = |why: String| {
        StepError::new(
            format!("what the build of service {service} made is no image: {why}"),
            false,
        )
    };
    let config = ImageConfig::read(&made.config).map_err(unreadable)?;
    let digest: BlobDigest = made
        .image
        .to_string()
        .parse()
        .map_err(|_| unreadable("no digest".to_owned()))?;
    let facts = config
        .facts(&digest)
        .ok_or_else(|| unreadable("no digest".to_owned()))?;
    let now = context.now();
    let resources: Vec<_> = image::resource(&made.image).into_iter().collect();
    context.store.ledger_intend(&resources, now).await?;
    let row = ImageRow {
        digest: made.image.clone(),
        reference: format!("build:{service}"),
        bytes: 0,
        created: now,
        last_used: now,
    };
    context.store.image_put(&row).await?;
    let row = ImageNameRow {
        reference: name.to_owned(),
        told: made.image.to_string(),
        facts: facts.clone(),
        looked: now,
    };
    context.store.image_name_put(&row).await?;
    Ok(facts)
}

/// Fills in the generation what its services and jobs are built to.
async fn complete(
    context: &Context,
    spec: &EnvironmentSpec,
    build: &Build,
    facts: &ImageFacts,
) -> Result<(), StepError> {
    // Another build of the same generation may complete it at the same time.
    let _turn = context.completing.lock().await;
    let row = context.store.generation_get(&spec.environment, spec.generation).await?;
    let Some(row) = row else { return Ok(()) };
    let mut whole = row.spec;
    let Stack::Services(stack) = &mut whole.stack else {
        return Ok(());
    };
    let same = |root: &Root| matches!(root, Root::Build(other) if other.is_same(build));
    for service in stack.services.values_mut().filter(|s| same(&s.workload.root)) {
        blueprint::complete_built(service, facts);
    }
    for job in stack.jobs.values_mut().filter(|j| same(&j.workload.root)) {
        blueprint::complete_built_workload(&mut job.workload, facts);
    }
    context.store.generation_complete(&whole).await?;
    Ok(())
}

/// What environments run that was built for them.
pub(crate) fn images(spec: &EnvironmentSpec) -> BTreeSet<ImageDigest> {
    spec.dockerfiles()
        .into_values()
        .filter_map(|build| build.made.clone())
        .collect()
}
