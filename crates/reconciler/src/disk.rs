//! Whether an environment has used up its own disk: what people should know, because what its services write fails then.

use model::EnvironmentId;
use runtime::Runtime;

/// What is left counts as nothing below this share of the whole.
const LEFT: u64 = 64;

/// A note for people if the environment's disk is as good as full; nothing if it is not, or if nobody can tell.
pub async fn disk_note(runtime: &dyn Runtime, environment: &EnvironmentId) -> Option<String> {
    let room = runtime.room_of(environment).await.ok().flatten()?;
    (room.free < room.total / LEFT).then(|| {
        format!(
            "It has used up its disk ({} MiB): what its services write fails. `maquette recreate` makes it anew; \
             `policy.limits.disk` on the policy branch gives it more.",
            room.total >> 20
        )
    })
}
