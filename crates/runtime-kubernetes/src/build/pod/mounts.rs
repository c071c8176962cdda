//! What is mounted in a container: volumes, memory, and files that the stack gives.

use super::{super::Order, super::data, Given, Unit};
use crate::{
    Sensitive,
    finding::{Decision, Findings},
    names,
    quantity::bytes,
};
use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, EmptyDirVolumeSource, KeyToPath, PersistentVolumeClaimVolumeSource, SecretVolumeSource,
    Volume, VolumeMount,
};
use model::{Mount, MountKind, Root, Value, VolumeName};

/// Names of the volumes that hold files; those of others have a `--` or a number.
const FILES: &str = "files";
const SECRET_FILES: &str = "secret-files";

/// What a container mounts, as it is collected.
struct Collected<'a> {
    order: &'a Order<'a>,
    unit: &'a Unit<'a>,
    mounts: Vec<VolumeMount>,
    volumes: Vec<Volume>,
    /// Keys and permissions of the files in the config map, and in the secret.
    files: [Vec<KeyToPath>; 2],
}

/// The mounts of a container, and the volumes of its pod.
pub(super) fn of(
    order: &Order<'_>,
    unit: &Unit<'_>,
    wanted: &[Mount],
    given: &mut Given,
    findings: &mut Findings,
) -> (Vec<VolumeMount>, Vec<Volume>) {
    let mut all = Collected {
        order,
        unit,
        mounts: Vec::new(),
        volumes: Vec::new(),
        files: [Vec::new(), Vec::new()],
    };
    for mount in wanted {
        all.one(mount, given, findings);
    }
    all.finish()
}

impl Collected<'_> {
    fn one(&mut self, mount: &Mount, given: &mut Given, findings: &mut Findings) {
        let Mount {
            target,
            kind,
            read_only,
        } = mount;
        let mut note = |decision| findings.note(&self.unit.place, decision, target);
        match kind {
            MountKind::Source { .. } => note(Decision::SourceMount),
            MountKind::Built { .. } => note(Decision::BuiltMount),
            MountKind::Program => note(Decision::ProgramMount),
            MountKind::Volume { volume } => self.volume(target, volume, None, *read_only, findings),
            MountKind::VolumePath { volume, subpath } => {
                self.volume(target, volume, Some(subpath), *read_only, findings);
            }
            MountKind::Tmpfs {
                size_bytes,
                mode,
                uid,
                gid,
            } => {
                if mode.is_some() || uid.is_some() || gid.is_some() {
                    note(Decision::MemoryOwner);
                }
                self.memory(target, *size_bytes, *read_only);
            }
            MountKind::Content {
                content,
                mode,
                uid,
                gid,
            } => {
                if uid.is_some() || gid.is_some() {
                    note(Decision::FileOwner);
                }
                self.file(target, content, *mode, given, findings);
            }
        }
    }

    fn mount(&mut self, target: &str, volume: &str, subpath: Option<String>, read_only: bool) {
        self.mounts.push(VolumeMount {
            name: volume.to_owned(),
            mount_path: target.to_owned(),
            sub_path: subpath,
            read_only: read_only.then_some(true),
            ..VolumeMount::default()
        });
    }

    fn volume(
        &mut self,
        target: &str,
        volume: &VolumeName,
        subpath: Option<&str>,
        read_only: bool,
        findings: &mut Findings,
    ) {
        let Some(claim) = data::claim_name(self.order, volume) else {
            return findings.note(&self.unit.place, Decision::UnknownVolume, volume.as_str());
        };
        let workload = self.unit.workload;
        // Engines fill their own; so does whoever says that it begins empty.
        let fills = matches!(workload.root, Root::Image { .. } | Root::Build(_));
        if fills && !read_only && !workload.options.empty_volumes.contains(target) {
            findings.note(&self.unit.place, Decision::VolumeNotFilled, target);
        }
        if !self.volumes.iter().any(|volume| volume.name == claim) {
            self.volumes.push(Volume {
                name: claim.clone(),
                persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                    claim_name: claim.clone(),
                    read_only: None,
                }),
                ..Volume::default()
            });
        }
        self.mount(target, &claim, subpath.map(str::to_owned), read_only);
    }

    fn memory(&mut self, target: &str, size: Option<u64>, read_only: bool) {
        let name = format!("memory-{}", self.volumes.len());
        self.volumes.push(Volume {
            name: name.clone(),
            empty_dir: Some(EmptyDirVolumeSource {
                medium: Some("Memory".to_owned()),
                size_limit: size.map(bytes),
            }),
            ..Volume::default()
        });
        self.mount(target, &name, None, read_only);
    }

    fn file(&mut self, target: &str, content: &Value, mode: u32, given: &mut Given, findings: &mut Findings) {
        let bytes = match runtime::reveal::content(target, content, self.order.secrets) {
            Ok(bytes) => bytes,
            Err(reason) => return findings.note(&self.unit.place, Decision::Value, &reason),
        };
        let key = format!("file.{}", names::object(&[target]));
        let item = KeyToPath {
            key: key.clone(),
            path: key.clone(),
            mode: i32::try_from(mode & 0o777).ok(),
        };
        let [plain, secret] = &mut self.files;
        let volume = if let Some(text) = content.plain() {
            given.plain.insert(key.clone(), text.to_owned());
            plain.push(item);
            FILES
        } else {
            given.secret.insert(key.clone(), Sensitive::new(bytes));
            secret.push(item);
            SECRET_FILES
        };
        self.mount(target, volume, Some(key), true);
    }

    fn finish(mut self) -> (Vec<VolumeMount>, Vec<Volume>) {
        let name = self.unit.given_name();
        let [plain, secret] = self.files;
        if !plain.is_empty() {
            self.volumes.push(Volume {
                name: FILES.to_owned(),
                config_map: Some(ConfigMapVolumeSource {
                    name: name.clone(),
                    items: Some(plain),
                    ..ConfigMapVolumeSource::default()
                }),
                ..Volume::default()
            });
        }
        if !secret.is_empty() {
            self.volumes.push(Volume {
                name: SECRET_FILES.to_owned(),
                secret: Some(SecretVolumeSource {
                    secret_name: Some(name),
                    items: Some(secret),
                    ..SecretVolumeSource::default()
                }),
                ..Volume::default()
            });
        }
        (self.mounts, self.volumes)
    }
}
