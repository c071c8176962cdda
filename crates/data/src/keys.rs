//! Which golden a database may be cloned from, and whether a clone may be kept. Pure.

use model::{DataSet, Digest, Migration, SnapshotId};
use std::{collections::BTreeSet, fmt};

/// Changes whenever goldens are made in another way, so that old ones are not taken for new ones.
const SCHEME: &[u8] = b"maquette golden 1";

/// The ids of the goldens that fit this data set: the k-th, counted from 0, is of the golden with exactly the first k
/// migrations applied *and then* the seed files run; the last one holds everything.
///
/// Seeds end each id instead of beginning the chain because they are run on the schema that the golden has: a branch that
/// adds a migration finds the golden of its base branch, seeded before that migration existed, and migrates populated
/// tables, as production will. A branch with other seed files finds no golden of others: its data differ from row one.
///
/// `engine` is whatever decides the bytes of an empty data directory: the engine's full version, the architecture, the C
/// library that sorts its indexes. User and database count too, because the golden's objects bear their names; the password
/// does not, as every preparation sets it.
#[must_use]
pub fn golden_chain(engine: &str, data: &DataSet) -> Vec<SnapshotId> {
    let seeds = data
        .seeds
        .iter()
        .flat_map(|seed| [seed.path.as_bytes(), seed.digest.as_str().as_bytes()]);
    let seeds = Digest::of_parts(seeds);
    let mut chain = vec![Digest::of_parts([])];
    for migration in &data.migrations {
        let before = chain.last().map_or("", Digest::as_str);
        let parts = [before, migration.path.as_str(), migration.digest.as_str()];
        chain.push(Digest::of_parts(parts.map(str::as_bytes)));
    }
    let id = |migrations: Digest| {
        let parts = [engine, &data.database, &data.user, migrations.as_str(), seeds.as_str()].map(str::as_bytes);
        let key = Digest::of_parts([SCHEME].into_iter().chain(parts));
        format!("g{}", &key.as_str()[..32]).parse().ok()
    };
    chain.into_iter().filter_map(id).collect()
}

/// What a push does to an environment's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// What people did is kept, and these migrations are run on it.
    Keep {
        /// The migrations that are missing, in order.
        pending: Vec<Migration>,
    },
    /// The data can not become what is wanted and is cloned anew.
    CloneAnew {
        /// Why, for the comment.
        why: Divergence,
    },
}

/// The first difference between the migrations that were applied and those that are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Divergence {
    /// A migration that was applied has other content now.
    Changed {
        /// Its path.
        path: String,
    },
    /// A migration that was applied does not exist any more.
    Removed {
        /// Its path.
        path: String,
    },
    /// A migration that was not applied comes before one that was.
    Inserted {
        /// The path of the new one.
        path: String,
        /// The path of the one that was applied.
        before: String,
    },
    /// The same migrations stand in another order.
    Reordered {
        /// The path of the first one that was applied out of order.
        path: String,
    },
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed { path } => write!(f, "{path} was changed after it had been applied"),
            Self::Removed { path } => write!(f, "{path} was applied and does not exist any more"),
            Self::Inserted { path, before } => write!(f, "{path} comes before {before}, which was applied already"),
            Self::Reordered { path } => write!(f, "{path} was applied in another order"),
        }
    }
}

/// Decides whether a database with these applied migrations can become the wanted one by running more of them.
#[must_use]
pub fn keep_or_clone(applied: &[Migration], wanted: &DataSet) -> Decision {
    let wanted = &wanted.migrations;
    let same = applied
        .iter()
        .zip(wanted)
        .take_while(|(applied, wanted)| applied == wanted)
        .count();
    match applied.get(same) {
        None => Decision::Keep {
            pending: wanted[same..].to_vec(),
        },
        Some(first) => Decision::CloneAnew {
            why: divergence(first, &applied[same..], &wanted[same..]),
        },
    }
}

fn divergence(first: &Migration, applied: &[Migration], wanted: &[Migration]) -> Divergence {
    let path = first.path.clone();
    let known: BTreeSet<&str> = applied.iter().map(|migration| migration.path.as_str()).collect();
    match wanted.first() {
        Some(next) if next.path == path => Divergence::Changed { path },
        _ if !wanted.iter().any(|migration| migration.path == path) => Divergence::Removed { path },
        Some(next) if !known.contains(next.path.as_str()) => Divergence::Inserted {
            path: next.path.clone(),
            before: path,
        },
        _ => Divergence::Reordered { path },
    }
}

#[cfg(test)]
mod tests;
