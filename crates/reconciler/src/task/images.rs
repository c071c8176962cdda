//! Asks regularly what the names of images stand for, and removes images that nobody wants any more.
//!
//! An image is wanted that a generation pins which is live, on its way, or may be brought back. The others go some time after somebody
//! wanted them last, earlier when there are many of them or the pool is short of room.

use crate::{
    context::{Context, Trouble},
    golden::wanted_last,
    image::{self, ImageSource},
};
use futures::{StreamExt as _, stream};
use model::{EnvironmentId, ImageDigest, Receipt, Timestamp};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, SystemTime},
};
use store::{EnvironmentRow, GenerationRow, ImageRow};
use tokio::time::sleep;

/// The pause between two looks at what has to be asked.
const TICK: Duration = Duration::from_secs(5);
/// A name that could not be had is asked for again this often: whoever builds the image may push it a moment later.
const MISSING: Duration = Duration::from_secs(10);
/// An image that is wanted is noted as used this often.
const USE_NOTED: Duration = Duration::from_secs(3600);
/// The pause between two looks at what nobody wants.
const COLLECT: Duration = Duration::from_secs(60);
/// Blobs that are younger may belong to a pull that is under way.
const BLOB_YOUNG: Duration = Duration::from_secs(3600);
/// Names that nobody has looked for are forgotten after this.
const NAME_AGE: Duration = Duration::from_secs(30 * 24 * 3600);
const AT_ONCE: usize = 4;

pub(crate) async fn run(context: Arc<Context>) {
    let Some(source) = context.settings.images.clone() else {
        return;
    };
    let mut collected: Option<Timestamp> = None;
    loop {
        let now = context.now();
        let due = collected.is_none_or(|last| now < last || now.since(last) >= COLLECT);
        let looked = async {
            look(&context, &source).await?;
            Ok::<_, Trouble>(due && collect(&context, &source).await?)
        };
        match looked.await {
            Ok(true) => collected = Some(now),
            // Nothing was due, or somebody was busy: the next look does it.
            Ok(false) => {}
            Err(trouble) => {
                tracing::warn!(why = crate::text::chain(&trouble), "could not look after the images");
                if due {
                    collected = Some(now);
                }
            }
        }
        sleep(TICK.min(source.poll)).await;
    }
}

/// Asks for all names that are due, and wakes whoever wants one that stands for something else now.
async fn look(context: &Context, source: &ImageSource) -> Result<(), Trouble> {
    let mut wanted: BTreeMap<String, Vec<(EnvironmentRow, GenerationRow)>> = BTreeMap::new();
    for row in context.store.environment_list(None, false).await? {
        if !row.wanted || !row.origin.is_for_people() {
            continue;
        }
        let Some(newest) = context.store.generation_newest(&row.id).await? else {
            continue;
        };
        let Some(last) = wanted_last(context, &row, newest).await? else {
            continue;
        };
        let failed = image::failed_for(&last).map(str::to_owned);
        for name in image::names(&last.spec).into_keys().chain(failed) {
            wanted.entry(name).or_default().push((row.clone(), last.clone()));
        }
    }
    context.images.retain(&wanted.keys().cloned().collect());
    let now = context.now();
    let due = wanted.keys().filter(|name| match context.images.age(name, now) {
        None => true,
        Some((age, Some(pause))) => age >= MISSING.min(source.poll).max(pause),
        Some((age, None)) => age >= source.poll,
    });
    let due: BTreeSet<String> = due.cloned().collect();
    let mut asking = Vec::new();
    for name in due {
        asking.push(async move {
            let answer = image::stands_for(context, &name, Duration::ZERO).await;
            (name, answer)
        });
    }
    let answers: Vec<_> = stream::iter(asking).buffer_unordered(AT_ONCE).collect().await;
    for (name, answer) in &answers {
        let Ok(known) = answer else { continue };
        for (row, last) in wanted.get(name).into_iter().flatten() {
            if image::failed_for(last) == Some(name) {
                context.nudges.environment(&row.id);
            }
            let pinned = image::names(&last.spec).remove(name).and_then(|(pinned, _)| pinned);
            if let Some(pinned) = pinned.filter(|pinned| *pinned != known.facts.digest) {
                tell(context, row, name, &pinned, &known.facts.digest).await?;
            }
        }
    }
    Ok(())
}

async fn tell(
    context: &Context,
    row: &EnvironmentRow,
    name: &str,
    before: &ImageDigest,
    now: &ImageDigest,
) -> Result<(), Trouble> {
    let text = format!(
        "the image {name} has moved: it was {}, it is {}",
        before.short(),
        now.short()
    );
    context
        .store
        .event_add(Some(&row.id), &row.project, context.now(), "image-moved", &text)
        .await?;
    context.nudges.environment(&row.id);
    Ok(())
}

/// Removes what nobody wants: images from the runtime, blobs beyond their bound. Returns whether it was possible to look.
async fn collect(context: &Context, source: &ImageSource) -> Result<bool, Trouble> {
    // An environment that is just being assembled has not yet written down what it wants: the next look will do.
    let Some(_alone) = context.repositories.alone().await else {
        return Ok(false);
    };
    let existing = context.runtime.image_list().await?;
    let known = context.store.image_list().await?;
    let now = context.now();
    let wanted = wanted(context).await?;
    let rows = adopted(context, &existing, known).await?;
    let mut idle = Vec::new();
    for row in rows {
        if wanted.contains(&row.digest) {
            if now < row.last_used || now.since(row.last_used) >= USE_NOTED {
                context.store.image_put(&ImageRow { last_used: now, ..row }).await?;
            }
        } else if existing.contains(&row.digest) {
            idle.push(row);
        } else {
            context.store.image_remove(&row.digest).await?;
        }
    }
    let short = context.runtime.room().await?.is_some_and(|room| room.is_short());
    for (row, reason) in overdue(context, idle, now, short) {
        remove(context, &row, reason).await?;
    }
    context
        .store
        .image_name_forget(Timestamp(now.0.saturating_sub(millis(NAME_AGE))))
        .await?;
    let before = SystemTime::now()
        .checked_sub(BLOB_YOUNG)
        .unwrap_or(SystemTime::UNIX_EPOCH);
    match source.blobs.trim(source.blobs_max, before) {
        Ok(removed) if removed.blobs > 0 => {
            tracing::info!(blobs = removed.blobs, bytes = removed.bytes, "removed layers of images");
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(why = crate::text::chain(&error), "could not remove layers of images"),
    }
    Ok(true)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Every image that an environment runs, is about to run, or may be brought back to.
async fn wanted(context: &Context) -> Result<BTreeSet<ImageDigest>, Trouble> {
    let mut wanted = BTreeSet::new();
    for row in context.store.environment_list(None, false).await? {
        let generations = context.store.generation_list(&row.id).await?;
        let newest = generations.last().map(|generation| generation.generation);
        for generation in generations {
            let n = Some(generation.generation);
            if n == newest || n == row.live || generation.outcome.is_none() {
                wanted.extend(generation.spec.images().into_keys());
                wanted.extend(crate::dockerfile::images(&generation.spec));
            }
        }
    }
    Ok(wanted)
}

/// What is known of images, with those that a lost store forgot: nobody knows when they were used last.
async fn adopted(
    context: &Context,
    existing: &BTreeSet<ImageDigest>,
    mut known: Vec<ImageRow>,
) -> Result<Vec<ImageRow>, Trouble> {
    let forgotten = existing
        .iter()
        .filter(|image| !known.iter().any(|row| row.digest == **image));
    let forgotten: Vec<ImageDigest> = forgotten.cloned().collect();
    for digest in forgotten {
        let now = context.now();
        let resources: Vec<_> = image::resource(&digest).into_iter().collect();
        context.store.ledger_intend(&resources, now).await?;
        let row = ImageRow {
            reference: digest.to_string(),
            digest,
            bytes: 0,
            created: now,
            last_used: now,
        };
        context.store.image_put(&row).await?;
        known.push(row);
    }
    Ok(known)
}

/// Those that go now, of images that nobody wants.
fn overdue(context: &Context, mut idle: Vec<ImageRow>, now: Timestamp, short: bool) -> Vec<(ImageRow, String)> {
    let keep = &context.settings.keep;
    idle.sort_by_key(|row| row.last_used);
    let beyond = idle.len().saturating_sub(keep.images);
    let mut gone = Vec::new();
    for (index, row) in idle.into_iter().enumerate() {
        let unused = now.since(row.last_used);
        let reason = if unused >= keep.image_age {
            format!("no environment has wanted it for {} h", unused.as_secs() / 3600)
        } else if index < beyond {
            format!("there are more than {} images that no environment wants", keep.images)
        } else if short && gone.is_empty() {
            "the pool is short of room and no environment wants it".to_owned()
        } else {
            continue;
        };
        gone.push((row, reason));
    }
    gone
}

/// Removes an image, sees it gone and says so in a receipt.
async fn remove(context: &Context, row: &ImageRow, reason: String) -> Result<(), Trouble> {
    let (Some(keeper), Some(resource)) = (image::keeper(&row.digest), image::resource(&row.digest)) else {
        return Ok(());
    };
    let (began, resources) = (context.now(), [resource]);
    context.store.ledger_intend(&resources, row.created).await?;
    context.runtime.image_remove(&row.digest).await?;
    if context.runtime.image_list().await?.contains(&row.digest) {
        return Ok(());
    }
    receipt(
        context,
        &keeper,
        &resources,
        began,
        format!("image {} ({}): {reason}", row.digest, row.reference),
    )
    .await?;
    tracing::info!(image = %row.digest, reference = row.reference, reason, "removed an image");
    Ok(context.store.image_remove(&row.digest).await?)
}

async fn receipt(
    context: &Context,
    keeper: &EnvironmentId,
    resources: &[model::Resource],
    began: Timestamp,
    reason: String,
) -> Result<(), Trouble> {
    let completed = context.now();
    context.store.ledger_gone(resources, completed).await?;
    let entries = context.store.ledger_list(keeper).await?;
    let receipt = Receipt {
        environment: keeper.clone(),
        reason,
        began,
        completed,
        entries,
    };
    Ok(context.store.receipt_put(&receipt).await?)
}
