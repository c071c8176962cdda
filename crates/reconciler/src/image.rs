//! Images: what their names stand for now, and how far they are that are being fetched.
//!
//! A generation pins what each name stood for when it was made. What was told last is kept in the store, so that a registry that
//! is away holds up only what nobody has seen before.

pub(crate) mod bring;

pub(crate) use bring::bring;

use crate::{
    context::{Context, Trouble},
    golden::wanted_last,
};
use futures::{StreamExt as _, stream};
use images::{Blobs, Client, Limits, Platform, Reference};
use model::{
    EnvironmentId, EnvironmentSpec, ImageDigest, ImageFacts, Resource, Root, ServiceName, ServiceStack, Timestamp,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use store::{EnvironmentRow, GenerationRow, ImageNameRow, Outcome};
use tokio::time::timeout;

/// For asking what one name stands for, its configuration included.
const PATIENCE: Duration = Duration::from_secs(20);
/// An answer that is younger is not asked for again when a generation is made.
const FRESH: Duration = Duration::from_secs(15);
/// How many names are asked for at once.
const AT_ONCE: usize = 4;
/// How long a registry is left alone that limits and does not say for how long.
const REST: Duration = Duration::from_secs(60);
/// No registry is left alone for longer.
const REST_MAX: Duration = Duration::from_secs(3600);
/// What stands before a name in the step at which a generation failed for want of it.
const STEP: &str = "image-name:";

/// Where images come from.
#[derive(Debug)]
pub struct ImageSource {
    /// Asks registries.
    pub client: Client,
    /// Where blobs are kept. Nobody else may use the directory.
    pub blobs: Blobs,
    /// How large images may be.
    pub limits: Limits,
    /// The machine that images are for.
    pub platform: Platform,
    /// Bytes of blobs that are kept once they were brought to the runtime.
    pub blobs_max: u64,
    /// How often it is asked whether a name stands for something else.
    pub poll: Duration,
}

/// What is known of images in this process.
#[derive(Debug, Default)]
pub(crate) struct Images {
    looked: Mutex<BTreeMap<String, Looked>>,
    fetching: Mutex<BTreeMap<ImageDigest, bring::Fetch>>,
    /// What builds start from, by environment and service, with its name.
    bases: Mutex<BTreeMap<(EnvironmentId, ServiceName), (String, bring::Fetch)>>,
    turns: Mutex<BTreeMap<ImageDigest, std::sync::Weak<tokio::sync::Mutex<()>>>>,
    /// Registries that want to be left alone, and until when.
    resting: Mutex<BTreeMap<String, Timestamp>>,
}

/// What came of asking for a name.
#[derive(Clone, Debug)]
struct Looked {
    at: Timestamp,
    result: Result<Known, Refusal>,
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Known {
    pub(crate) facts: ImageFacts,
    /// What people should know of it.
    pub(crate) note: Option<String>,
}

/// Why an image can not be had, for the author of the stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    /// How long the registry wants to be left alone.
    pub(crate) pause: Option<Duration>,
}

/// Names that could not be had, as the failure of a generation.
pub(crate) struct Missing {
    pub(crate) step: String,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    pub(crate) lines: Vec<String>,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Images {
    fn looked(&self, name: &str) -> Option<Looked> {
        lock(&self.looked).get(name).cloned()
    }

    /// How far images are, in words.
    pub(crate) fn progress(&self) -> BTreeMap<ImageDigest, String> {
        let fetching = lock(&self.fetching);
        fetching
            .iter()
            .map(|(image, fetch)| (image.clone(), fetch.to_string()))
            .collect()
    }

    /// How far builds of an environment are that fetch what they start from, in words.
    pub(crate) fn progress_of_bases(&self, environment: &EnvironmentId) -> BTreeMap<ServiceName, String> {
        let bases = lock(&self.bases);
        let own = bases.iter().filter(|((of, _), _)| of == environment);
        own.map(|((_, service), (name, fetch))| (service.clone(), format!("{name}: {fetch}")))
            .collect()
    }

    /// Notes that a registry wants to be left alone, if that is what it says.
    fn rest(&self, registry: &str, error: &images::Error, now: Timestamp) {
        if let images::Error::RateLimited { retry_after, .. } = error {
            let until = now.plus(retry_after.unwrap_or(REST));
            lock(&self.resting).insert(registry.to_owned(), until);
        }
    }

    /// That a registry still wants to be left alone.
    fn resting(&self, registry: &str, now: Timestamp) -> Option<images::Error> {
        let mut resting = lock(&self.resting);
        // One that lies further ahead than any registry is believed was noted before the clock was set back.
        resting.retain(|_, until| *until > now && until.since(now) <= REST_MAX);
        let until = resting.get(registry)?;
        Some(images::Error::RateLimited {
            registry: registry.to_owned(),
            retry_after: Some(until.since(now)),
        })
    }

    /// Forgets what was learned of names that nobody asks for any more.
    pub(crate) fn retain(&self, names: &BTreeSet<String>) {
        lock(&self.looked).retain(|name, _| names.contains(name));
    }

    /// Since when the last answer about a name is known, and how long its registry wants to be left alone; `None` if nobody has asked.
    pub(crate) fn age(&self, name: &str, now: Timestamp) -> Option<(Duration, Option<Duration>)> {
        let looked = self.looked(name)?;
        let pause = looked.result.err().map(|refusal| refusal.pause.unwrap_or_default());
        Some((now.since(looked.at), pause))
    }
}

/// What a name stands for; asks unless there is an answer of at most that age.
pub(crate) async fn stands_for(context: &Context, name: &str, age: Duration) -> Result<Known, Refusal> {
    let now = context.now();
    if let Some(looked) = context.images.looked(name)
        && looked.at <= now
    {
        let pause = looked.result.as_ref().err().and_then(|refusal| refusal.pause);
        if now.since(looked.at) < pause.map_or(age, |pause| pause.max(age)) {
            return looked.result;
        }
    }
    let result = ask(context, name).await;
    let looked = Looked {
        at: context.now(),
        result: result.clone(),
    };
    lock(&context.images.looked).insert(name.to_owned(), looked);
    result
}

async fn ask(context: &Context, name: &str) -> Result<Known, Refusal> {
    let Some(source) = &context.settings.images else {
        return Err(Refusal {
            message: format!(
                "the image {} can not be had: this server fetches none",
                name.escape_debug()
            ),
            hint: None,
            pause: None,
        });
    };
    let image: Reference = name.parse().map_err(|error: images::InvalidReference| Refusal {
        message: error.to_string(),
        hint: Some("an image is named like `ghcr.io/team/web:1.2`".to_owned()),
        pause: None,
    })?;
    let key = image.to_string();
    let before = context.store.image_name_get(&key).await.ok().flatten();
    if let (Some(row), Some(_)) = (&before, image.digest()) {
        return Ok(known(row.facts.clone()));
    }
    let registry = image.registry();
    let asked = match context.images.resting(registry, context.now()) {
        Some(limited) => Ok(Err(limited)),
        None => timeout(PATIENCE, ask_registry(source, &image, before.as_ref())).await,
    };
    let error = match asked {
        Ok(Ok((told, facts))) => {
            let row = ImageNameRow {
                reference: key,
                told,
                facts: facts.clone(),
                looked: context.now(),
            };
            // Without it the registry is asked again next time.
            if let Err(error) = context.store.image_name_put(&row).await {
                tracing::warn!(
                    why = crate::text::chain(&error),
                    "could not note what an image's name stands for"
                );
            }
            return Ok(known(facts));
        }
        Ok(Err(error)) => error,
        Err(_) => images::Error::Unreachable {
            registry: registry.to_owned(),
            reason: format!("no answer within {} s", PATIENCE.as_secs()),
        },
    };
    if context.images.resting(registry, context.now()).is_none() {
        context.images.rest(registry, &error, context.now());
    }
    match before.filter(|_| error.is_transient()) {
        Some(row) => Ok(Known {
            facts: row.facts,
            note: Some(format!("{error}; the image {image} is taken as it was before.")),
        }),
        None => Err(refusal(&error)),
    }
}

fn known(facts: ImageFacts) -> Known {
    Known { facts, note: None }
}

fn refusal(error: &images::Error) -> Refusal {
    let pause = match error {
        images::Error::RateLimited { retry_after, .. } => Some(retry_after.unwrap_or(REST)),
        _ => None,
    };
    Refusal {
        message: error.to_string(),
        hint: error.hint().map(str::to_owned),
        pause,
    }
}

async fn ask_registry(
    source: &ImageSource,
    image: &Reference,
    before: Option<&ImageNameRow>,
) -> images::Result<(String, ImageFacts)> {
    let told = source.client.current(image).await?;
    if let Some(row) = before.filter(|row| row.told == told.to_string()) {
        return Ok((row.told.clone(), row.facts.clone()));
    }
    let described = source
        .client
        .describe(&source.blobs, image, told, &source.platform, &source.limits)
        .await?;
    let facts = described.config.facts(&described.digest);
    let facts = facts.ok_or_else(|| images::Error::Unsupported {
        image: Box::new(image.clone()),
        reason: "its digest is none".to_owned(),
    })?;
    Ok((told.to_string(), facts))
}

/// The names of images in a generation, with what each is pinned to and who wants it first.
pub(crate) fn names(spec: &EnvironmentSpec) -> BTreeMap<String, (Option<ImageDigest>, String)> {
    spec.services().map(names_of).unwrap_or_default()
}

/// The same of a stack; of Dockerfiles what they name is known once they are built.
pub(crate) fn names_of(stack: &ServiceStack) -> BTreeMap<String, (Option<ImageDigest>, String)> {
    let services = stack
        .services
        .iter()
        .map(|(name, s)| (format!("service {name}"), &s.workload));
    let jobs = stack.jobs.iter().map(|(name, j)| (format!("job {name}"), &j.workload));
    let mut found = BTreeMap::new();
    for (who, workload) in services.chain(jobs) {
        if let Root::Image { reference, pinned } = &workload.root {
            found.entry(reference.clone()).or_insert((pinned.clone(), who));
        }
    }
    for (name, pinned) in &stack.bases {
        let known = || (Some(pinned.clone()), "a Dockerfile".to_owned());
        found.entry(name.clone()).or_insert_with(known);
    }
    found
}

/// What all these names stand for, or why some of them can not be had. Each comes with who wants it.
pub(crate) async fn all(
    context: &Context,
    wanted: BTreeMap<String, String>,
) -> Result<BTreeMap<String, Known>, Missing> {
    let mut asking = Vec::new();
    for (name, who) in wanted {
        asking.push(async move {
            let result = stands_for(context, &name, FRESH).await;
            (name, who, result)
        });
    }
    let mut answers: Vec<_> = stream::iter(asking).buffer_unordered(AT_ONCE).collect().await;
    answers.sort_by(|a, b| a.0.cmp(&b.0));
    let mut known = BTreeMap::new();
    let mut missing: Option<Missing> = None;
    for (name, who, result) in answers {
        match result {
            Ok(answer) => {
                known.insert(name, answer);
            }
            Err(refusal) => {
                // A registry that is away has nothing to say about the image.
                let message = if refusal.message.contains(&name) {
                    format!("{who}: {}", refusal.message)
                } else {
                    format!("{who}: {name}: {}", refusal.message)
                };
                let lines =
                    std::iter::once(message.clone()).chain(refusal.hint.iter().map(|hint| format!("hint: {hint}")));
                match &mut missing {
                    Some(missing) => missing.lines.extend(lines),
                    None => {
                        missing = Some(Missing {
                            step: step_of(&name),
                            lines: lines.collect(),
                            message,
                            hint: refusal.hint,
                        });
                    }
                }
            }
        }
    }
    missing.map_or(Ok(known), Err)
}

/// The step at which a generation fails for want of a name: it is made anew when the name can be had.
pub(crate) fn step_of(name: &str) -> String {
    format!("{STEP}{name}")
}

/// The name for want of which a generation failed.
pub(crate) fn failed_for(generation: &GenerationRow) -> Option<&str> {
    let failure = generation
        .failure
        .as_ref()
        .filter(|_| generation.outcome == Some(Outcome::Failed))?;
    failure.step.strip_prefix(STEP)
}

/// Whether a name of what was wanted last stands for another image by now, or can be had by now. It asks nobody: whoever asks
/// regularly nudges.
pub(crate) async fn has_changed(
    context: &Context,
    environment: &EnvironmentRow,
    newest: &GenerationRow,
) -> Result<bool, Trouble> {
    let Some(wanted) = wanted_last(context, environment, newest.clone()).await? else {
        return Ok(false);
    };
    if let Some(name) = failed_for(&wanted) {
        return Ok(context.images.looked(name).is_some_and(|looked| looked.result.is_ok()));
    }
    Ok(moved(context, &wanted.spec).next().is_some())
}

/// Names that stand for something else than what a generation has pinned: the name, what is pinned, what it stands for.
pub(crate) fn moved(
    context: &Context,
    spec: &EnvironmentSpec,
) -> impl Iterator<Item = (String, ImageDigest, ImageDigest)> {
    names(spec).into_iter().filter_map(|(name, (pinned, _))| {
        let pinned = pinned?;
        let now = context.images.looked(&name)?.result.ok()?.facts.digest;
        (now != pinned).then_some((name, pinned, now))
    })
}

/// What the ledger and the receipt of an image are kept under: images outlive the environments that they were brought for.
#[must_use]
pub fn keeper(image: &ImageDigest) -> Option<EnvironmentId> {
    format!("i{}", &image.hex()[..9]).parse().ok()
}

/// The image as the ledger has it.
pub(crate) fn resource(image: &ImageDigest) -> Option<Resource> {
    Some(Resource {
        environment: keeper(image)?,
        kind: "image".to_owned(),
        name: image.to_string(),
    })
}

/// Whose turn it is to bring an image.
fn turn(images: &Images, image: &ImageDigest) -> Arc<tokio::sync::Mutex<()>> {
    let mut turns = lock(&images.turns);
    turns.retain(|_, turn| turn.strong_count() > 0);
    if let Some(turn) = turns.get(image).and_then(std::sync::Weak::upgrade) {
        return turn;
    }
    let fresh = Arc::default();
    turns.insert(image.clone(), Arc::downgrade(&fresh));
    fresh
}
