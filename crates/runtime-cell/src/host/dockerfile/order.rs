//! From what the author of a stack wrote about a build to the command line of `buildah`. Refuses what can not be passed on.

use super::{Base, BuildConfig};
use crate::{
    host::{
        record::{Check, DiskMount, DiskOrigin, Manner, Pace},
        resolve::{Place, Resolved},
    },
    names::{self, UnitName},
    protocol::SecretValues,
    sandbox::oci,
};
use model::{
    Build, BuildContext, BuildSecret, Digest, Dockerfile, EnvironmentSpec, Feature, Limits, Options, Restart, Root,
    ServiceName,
};
use runtime::{RuntimeError, SourceKey};
use rustix::process::Signal;
use std::{collections::BTreeMap, path::Path};

/// The name of the program and of its Debian package.
pub(crate) const PROGRAM: &str = "buildah";
/// Below the volume of the layers: what cache mounts hold is in there, too, and stays for the next build.
pub(super) const TEMPORARY: &str = "tmp";
/// Below the volume that a build works in: the result.
pub(super) const RESULT: &str = "image";

const STORAGE: &str = "/build/storage";
const WORK: &str = "/build/work";
const BASES: &str = "/build/bases";
const SOURCE: &str = "/build/source";
const GIVEN: &str = "/build/given";
/// A step without effect at the end of a Dockerfile. The last step is never found in the cache, and this one costs nothing.
const LAST_STEP: &str = "--label=dev.maquette.build=";
/// The kernel's bound for one argument is 128 KiB.
const ARGUMENT_MAX: usize = 100 << 10;
const ARGUMENTS_MAX: usize = 1 << 20;
const DOCKERFILE_MAX: usize = 1 << 20;
const SECRET_MAX: usize = 1 << 20;

/// Nothing is fetched: what is not given is not there.
const REGISTRIES: &str = "unqualified-search-registries = []\nshort-name-mode = \"disabled\"\n";
/// Signatures are the business of whoever brings the base images.
const POLICY: &str = "{\"default\":[{\"type\":\"insecureAcceptAnything\"}]}\n";
/// What steps of a Dockerfile get: what services from images get, and to give programs rights of their own.
const SETTINGS: &str = "[containers]\ndefault_capabilities = [\"CHOWN\", \"DAC_OVERRIDE\", \"FOWNER\", \"FSETID\", \"KILL\", \
                        \"NET_BIND_SERVICE\", \"SETFCAP\", \"SETGID\", \"SETPCAP\", \"SETUID\", \"SYS_CHROOT\"]\n\
                        [engine]\nimage_copy_tmp_dir = \"/build/storage/tmp\"\n";

/// What a build takes. Holds secret values: no `Debug`.
pub(super) struct Order {
    /// Of what its author wants.
    pub(super) digest: Digest,
    /// The container.
    pub(super) resolved: Resolved,
}

struct Author<'a> {
    service: &'a ServiceName,
    build: &'a Build,
}

impl Author<'_> {
    fn invalid(&self, reason: impl Into<String>) -> RuntimeError {
        RuntimeError::Invalid {
            what: format!("the build of service {}", self.service),
            reason: reason.into(),
        }
    }

    /// A place in the checkout.
    fn inside(&self, path: &str) -> Result<String, RuntimeError> {
        if path.is_empty() {
            return Ok(SOURCE.to_owned());
        }
        let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(char::is_control);
        if path.split('/').all(plain) {
            Ok(format!("{SOURCE}/{path}"))
        } else {
            Err(self.invalid(format!("the path `{}` leaves the checkout", path.escape_debug())))
        }
    }
}

/// Whether this machine has what carries builds out.
pub(crate) fn builder() -> Option<std::path::PathBuf> {
    oci::find(PROGRAM)
}

/// What the build of a service needs.
pub(super) fn resolve(
    spec: &EnvironmentSpec,
    service: &ServiceName,
    unit: &UnitName,
    bases: &[Base],
    secrets: &SecretValues,
    config: &BuildConfig,
) -> Result<Order, RuntimeError> {
    let program = builder().ok_or_else(|| RuntimeError::Unsupported {
        runtime: crate::host::NAME.to_owned(),
        what: format!("the build of service {service} ({:?})", Feature::Builds),
        hint: format!("install {PROGRAM} on this machine"),
    })?;
    let root = spec.services().and_then(|stack| stack.services.get(service));
    let Some(Root::Build(build)) = root.map(|s| &s.workload.root) else {
        return Err(RuntimeError::NotFound {
            what: format!("a build of service {service} in the stack"),
        });
    };
    let author = Author { service, build };
    let mut given = vec![
        ("registries.conf".to_owned(), REGISTRIES.as_bytes().to_vec()),
        ("policy.json".to_owned(), POLICY.as_bytes().to_vec()),
        ("containers.conf".to_owned(), SETTINGS.as_bytes().to_vec()),
    ];
    let mut argv = vec![
        program.display().to_string(),
        format!("--root={STORAGE}"),
        "--runroot=/run/buildah".to_owned(),
        "--storage-driver=overlay".to_owned(),
        format!("--registries-conf={GIVEN}/registries.conf"),
    ];
    argv.extend(arguments(&author, bases, secrets, &mut given)?);
    if argv.iter().any(|a| a.len() > ARGUMENT_MAX || a.contains('\0'))
        || argv.iter().map(String::len).sum::<usize>() > ARGUMENTS_MAX
    {
        return Err(author.invalid("its arguments can not be passed to a process"));
    }
    let commit = spec.sources.get(&build.source);
    let commit = commit.ok_or_else(|| author.invalid(format!("the source `{}` has no commit", build.source)))?;
    let source = names::source(&SourceKey {
        project: spec.project.clone(),
        source: build.source.clone(),
        commit: commit.clone(),
    });
    let digest = digest(&source, bases, &given, &argv);
    Ok(Order {
        digest,
        resolved: container(unit, source, argv, given, config),
    })
}

/// Of all that the result depends on.
fn digest(source: &str, bases: &[Base], given: &[(String, Vec<u8>)], argv: &[String]) -> Digest {
    let mut parts: Vec<&[u8]> = vec![source.as_bytes()];
    parts.extend(bases.iter().map(|base| base.manifest.as_bytes()));
    parts.extend(given.iter().map(|(_, content)| content.as_slice()));
    parts.extend(argv.iter().map(String::as_bytes));
    Digest::of_parts(parts)
}

fn arguments(
    author: &Author<'_>,
    bases: &[Base],
    secrets: &SecretValues,
    given: &mut Vec<(String, Vec<u8>)>,
) -> Result<Vec<String>, RuntimeError> {
    let build = author.build;
    let mut argv: Vec<String> = [
        "build",
        "--isolation=chroot",
        "--layers",
        "--force-rm",
        "--pull-never",
        // The other format has no health checks.
        "--format=docker",
        "--disable-compression",
    ]
    .map(str::to_owned)
    .to_vec();
    argv.push(format!("--signature-policy={GIVEN}/policy.json"));
    if build.no_cache {
        argv.push("--no-cache".to_owned());
    }
    let file = match &build.dockerfile {
        Dockerfile::Path(path) => author.inside(path)?,
        Dockerfile::Inline(text) if text.len() <= DOCKERFILE_MAX => {
            given.push(("Dockerfile".to_owned(), text.clone().into_bytes()));
            format!("{GIVEN}/Dockerfile")
        }
        Dockerfile::Inline(_) => return Err(author.invalid("its Dockerfile is too long")),
    };
    argv.push(format!("--file={file}"));
    for (name, value) in &build.args {
        if name.is_empty() || name.contains('=') {
            return Err(author.invalid(format!("`{}` can not be the name of an argument", name.escape_debug())));
        }
        argv.push(format!("--build-arg={name}={value}"));
    }
    argv.extend(build.target.iter().map(|target| format!("--target={target}")));
    for (number, base) in bases.iter().enumerate() {
        for name in &base.names {
            argv.push(context(
                author,
                name,
                &format!("container-image://dir:{BASES}/{number}"),
            )?);
        }
    }
    for (name, other) in &build.contexts {
        match other {
            BuildContext::Folder(path) => argv.push(context(author, name, &author.inside(path)?)?),
            // It came as a base image of that name.
            BuildContext::Image(_) => {}
            BuildContext::Service(of) => {
                return Err(RuntimeError::Unsupported {
                    runtime: crate::host::NAME.to_owned(),
                    what: format!(
                        "the build of service {}, which starts from that of `{of}`",
                        author.service
                    ),
                    hint: "put both into one Dockerfile as stages, and name them as `target`".to_owned(),
                });
            }
        }
    }
    argv.extend(secret_arguments(author, secrets, given)?);
    for (name, value) in &build.labels {
        if name.is_empty() || name.contains('=') {
            return Err(author.invalid(format!("`{}` can not be the name of a label", name.escape_debug())));
        }
        argv.push(format!("--label={name}={value}"));
    }
    argv.push(LAST_STEP.to_owned());
    argv.push(format!("--tag=dir:{WORK}/{RESULT}"));
    argv.push(author.inside(&build.context)?);
    Ok(argv)
}

fn context(author: &Author<'_>, name: &str, place: &str) -> Result<String, RuntimeError> {
    if name.is_empty() || name.contains('=') {
        return Err(author.invalid(format!("`{}` can not be the name of a context", name.escape_debug())));
    }
    Ok(format!("--build-context={name}={place}"))
}

fn secret_arguments(
    author: &Author<'_>,
    secrets: &SecretValues,
    given: &mut Vec<(String, Vec<u8>)>,
) -> Result<Vec<String>, RuntimeError> {
    let mut argv = Vec::new();
    for (number, (id, secret)) in author.build.secrets.iter().enumerate() {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if id.is_empty() || !id.chars().all(plain) {
            return Err(author.invalid(format!("`{}` can not be the id of a secret", id.escape_debug())));
        }
        let place = match secret {
            BuildSecret::File(path) if path.contains([',', '"', '=']) => {
                return Err(author.invalid(format!("the secret `{id}` has a path with `,`, `=` or a quote")));
            }
            BuildSecret::File(path) => author.inside(path)?,
            BuildSecret::Value(value) => {
                let text = runtime::reveal::content(id, value, secrets).map_err(|reason| author.invalid(reason))?;
                if text.len() > SECRET_MAX {
                    return Err(author.invalid(format!("the secret `{id}` is longer than {SECRET_MAX} bytes")));
                }
                let file = format!("secret-{number}");
                given.push((file.clone(), text));
                format!("{GIVEN}/{file}")
            }
        };
        argv.push(format!("--secret=id={id},src={place}"));
    }
    Ok(argv)
}

fn container(
    unit: &UnitName,
    source: String,
    argv: Vec<String>,
    given: Vec<(String, Vec<u8>)>,
    config: &BuildConfig,
) -> Resolved {
    let volume = |name: String, read_only| DiskMount {
        origin: DiskOrigin::Volume(name),
        subpath: String::new(),
        read_only,
    };
    let mounts = vec![
        volume(names::build_storage(unit), false),
        volume(names::build_work(unit), false),
        volume(names::build_bases(unit), true),
        DiskMount {
            origin: DiskOrigin::Source(source),
            subpath: String::new(),
            read_only: true,
        },
    ];
    let targets = [STORAGE, WORK, BASES, SOURCE].into_iter().enumerate();
    let mut places: Vec<(String, Place)> = targets.map(|(n, t)| (t.to_owned(), Place::Disk(n))).collect();
    places.push((GIVEN.to_owned(), Place::Given));
    let temporary = Path::new(STORAGE).join(TEMPORARY).display().to_string();
    Resolved {
        argv,
        variables: vec![
            ("TMPDIR".to_owned(), temporary),
            ("CONTAINERS_CONF".to_owned(), format!("{GIVEN}/containers.conf")),
        ],
        working_directory: "/".to_owned(),
        places,
        layers: Vec::new(),
        image: None,
        given: Some(given),
        builds: true,
        manner: Manner {
            aliases: Vec::new(),
            networks: None,
            restart_limit: None,
            sysctls: BTreeMap::new(),
            check: Check::Started,
            opens: None,
            pace: Pace::default(),
            depends_on: BTreeMap::new(),
            timeout_ms: Some(u64::try_from(config.patience.as_millis()).unwrap_or(u64::MAX)),
            restart: Restart::Never,
            stop_signal: Signal::TERM.as_raw(),
            stop_grace_ms: 0,
            user: 0,
            mounts,
            volumes: Vec::new(),
            administration: None,
            root: None,
        },
        engine: None,
        limits: Limits {
            memory_bytes: Some(config.memory_bytes),
            cpu_millis: Some(config.cpu_millis),
            pids: Some(config.pids),
            ..Limits::default()
        },
        options: Options::default(),
    }
}
