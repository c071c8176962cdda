//! What a build is given: the files of its base images, opened by whoever may read them, and its secret values.

use crate::protocol::{SecretValues, WireBase};
use images::BlobDigest;
use model::{BuildSecret, EnvironmentSpec, Root, ServiceName};
use runtime::{BaseImage, Result, RuntimeError, Secrets};
use std::fs::File;

/// The bases as they travel, and their files in the same order.
pub(super) fn opened(service: &ServiceName, bases: &[BaseImage]) -> Result<(Vec<WireBase>, Vec<File>)> {
    let invalid = |reason: String| RuntimeError::Invalid {
        what: format!("the build of service {service}"),
        reason,
    };
    let mut files = Vec::new();
    let mut wire = Vec::new();
    for base in bases {
        let manifest = String::from_utf8(base.manifest.clone());
        let manifest = manifest.map_err(|_| invalid("the manifest of a base image is no text".to_owned()))?;
        let mut blobs: Vec<BlobDigest> = Vec::new();
        for (digest, path) in &base.blobs {
            let digest = digest.parse();
            blobs.push(digest.map_err(|_| invalid("a part of a base image has no digest".to_owned()))?);
            files.push(File::open(path).map_err(|e| invalid(format!("{}: {e}", path.display())))?);
        }
        wire.push(WireBase {
            names: base.names.clone(),
            manifest,
            blobs,
        });
    }
    Ok((wire, files))
}

/// The secret values that the build asks for, and no others.
pub(super) fn secret_values(spec: &EnvironmentSpec, service: &ServiceName, secrets: &dyn Secrets) -> SecretValues {
    let mut values = SecretValues::default();
    let service = spec.services().and_then(|stack| stack.services.get(service));
    let Some(Root::Build(build)) = service.map(|s| &s.workload.root) else {
        return values;
    };
    for secret in build.secrets.values() {
        let BuildSecret::Value(value) = secret else { continue };
        for name in value.secrets() {
            if let Some(value) = secrets.value(name) {
                values.0.insert(name.clone(), value.to_vec().into());
            }
        }
    }
    values
}
