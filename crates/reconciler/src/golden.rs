//! Which golden an environment should be cloned from. Pure.
//!
//! A golden that is shared is made from commits of the policy branch only: its bytes never come from a pull request. An
//! environment clones the one that holds the longest common prefix of its migrations and the policy branch's, and runs the
//! rest itself.

use model::{Capabilities, DataSet, Digest, Migration, Root, SeedFile, Service, SnapshotId};

/// What a golden holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoldenPlan {
    /// Its id, derived from everything below.
    pub id: SnapshotId,
    /// The migrations that have been applied in it.
    pub migrations: Vec<Migration>,
    /// The seed files that were run in it; empty if it is not seeded.
    pub seeds: Vec<SeedFile>,
}

/// The golden for `wanted`, given what the policy branch has in the same database and the full version of the engine.
///
/// Seeds are made for the schema that the policy branch ends with, so a golden is seeded only if it holds all of the policy
/// branch's migrations and the pull request has not changed the seed.
#[must_use]
pub fn golden_for(engine_version: &str, policy: &DataSet, wanted: &DataSet) -> GoldenPlan {
    let common = policy
        .migrations
        .iter()
        .zip(&wanted.migrations)
        .take_while(|(a, b)| a.digest == b.digest)
        .count();
    let seeded = common == policy.migrations.len() && policy.seeds == wanted.seeds;
    let migrations = policy.migrations[..common].to_vec();
    let seeds = if seeded { policy.seeds.clone() } else { Vec::new() };
    GoldenPlan {
        id: golden_id(engine_version, wanted, &migrations, &seeds),
        migrations,
        seeds,
    }
}

/// The full version of the engine that the runtime would run for this service; `None` if it is no engine or there is none.
#[must_use]
pub(crate) fn engine_version(capabilities: &Capabilities, service: &Service) -> Option<String> {
    let Root::Engine(engine) = &service.workload.root else {
        return None;
    };
    capabilities
        .engines
        .iter()
        .filter(|offer| offer.kind == engine.kind && engine.versions.contains(offer.major))
        .max_by_key(|offer| offer.major)
        .map(|offer| format!("{} {}", offer.kind, offer.version))
}

/// Everything that decides what is in a golden. The architecture stands for the layout of the data directory.
fn golden_id(engine_version: &str, set: &DataSet, migrations: &[Migration], seeds: &[SeedFile]) -> SnapshotId {
    let mut parts: Vec<&[u8]> = vec![
        b"golden 1",
        engine_version.as_bytes(),
        std::env::consts::ARCH.as_bytes(),
        set.database.as_bytes(),
        set.user.as_bytes(),
        b"migrations",
    ];
    parts.extend(migrations.iter().map(|m| m.digest.as_str().as_bytes()));
    parts.push(b"seeds");
    parts.extend(seeds.iter().map(|s| s.digest.as_str().as_bytes()));
    SnapshotId::golden(&Digest::of_parts(parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(migrations: &[&str], seeds: &[&str]) -> DataSet {
        DataSet {
            volume: "postgres-data".parse().unwrap(),
            database: "shop".into(),
            user: "shop".into(),
            password: "x".into(),
            migrations: migrations
                .iter()
                .map(|m| Migration {
                    path: (*m).into(),
                    digest: Digest::of(m.as_bytes()),
                })
                .collect(),
            seeds: seeds
                .iter()
                .map(|s| SeedFile {
                    path: (*s).into(),
                    digest: Digest::of(s.as_bytes()),
                })
                .collect(),
        }
    }

    #[test]
    fn an_added_migration_keeps_the_golden_of_the_policy_branch() {
        let policy = set(&["1", "2"], &["seed"]);
        let own = golden_for("15.1", &policy, &policy);
        let longer = golden_for("15.1", &policy, &set(&["1", "2", "3"], &["seed"]));
        assert_eq!(own, longer);
        assert_eq!(own.seeds.len(), 1);
    }

    #[test]
    fn a_changed_migration_clones_the_common_prefix_without_seed() {
        let policy = set(&["1", "2"], &["seed"]);
        let changed = golden_for("15.1", &policy, &set(&["1", "2b"], &["seed"]));
        assert_eq!(changed.migrations.len(), 1);
        assert!(changed.seeds.is_empty());
        assert_ne!(changed.id, golden_for("15.1", &policy, &policy).id);
    }

    #[test]
    fn another_engine_version_or_seed_is_another_golden() {
        let policy = set(&["1"], &["seed"]);
        assert_ne!(
            golden_for("15.1", &policy, &policy).id,
            golden_for("15.2", &policy, &policy).id
        );
        assert!(golden_for("15.1", &policy, &set(&["1"], &["other"])).seeds.is_empty());
    }
}
