//! Which golden a database may be cloned from, and whether a clone may be kept. Pure.

use model::{DataSet, Digest, Migration, SeedFile, SnapshotId};
use std::{collections::BTreeSet, fmt};

/// Changes whenever goldens are made in another way, so that old ones are not taken for new ones.
const SCHEME: &[u8] = b"maquette golden 1";

/// What a golden holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoldenPlan {
    /// Its id, derived from everything that decides its bytes.
    pub id: SnapshotId,
    /// The migrations that have been applied in it.
    pub migrations: Vec<Migration>,
    /// The seed files that were run in it; empty if it is not seeded.
    pub seeds: Vec<SeedFile>,
}

/// The golden that an environment with the data set `wanted` is cloned from: the longest beginning that its migrations and
/// those of the policy branch have in common. A shared golden is made from files of the policy branch only, so nothing of a pull
/// request is ever in it; the pull request runs the rest itself.
///
/// A golden is seeded only if it holds all of the policy branch's migrations and the pull request has not changed the seed,
/// because seeds are written for the schema that the policy branch ends with. So a branch that adds a migration runs it on populated
/// tables, as production will.
///
/// `engine` is whatever decides the bytes of an empty data directory: the engine's name and full version. User and database count
/// too, because the golden's objects bear their names; the password does not, as every preparation sets it.
#[must_use]
pub fn golden_for(engine: &str, policy: &DataSet, wanted: &DataSet) -> GoldenPlan {
    let common = policy
        .migrations
        .iter()
        .zip(&wanted.migrations)
        .take_while(|(a, b)| a == b)
        .count();
    let seeded = common == policy.migrations.len() && policy.seeds == wanted.seeds;
    let migrations = policy.migrations[..common].to_vec();
    let seeds = if seeded { policy.seeds.clone() } else { Vec::new() };
    GoldenPlan {
        id: golden_id(engine, wanted, &migrations, &seeds),
        migrations,
        seeds,
    }
}

fn golden_id(engine: &str, set: &DataSet, migrations: &[Migration], seeds: &[SeedFile]) -> SnapshotId {
    // The architecture decides the layout of the data directory.
    let mut parts: Vec<&[u8]> = vec![SCHEME];
    parts.extend([engine, std::env::consts::ARCH, &set.database, &set.user, "migrations"].map(str::as_bytes));
    parts.extend(
        migrations
            .iter()
            .flat_map(|m| [m.path.as_bytes(), m.digest.as_str().as_bytes()]),
    );
    parts.push(b"seeds");
    parts.extend(
        seeds
            .iter()
            .flat_map(|s| [s.path.as_bytes(), s.digest.as_str().as_bytes()]),
    );
    SnapshotId::golden(&Digest::of_parts(parts))
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
