//! The configuration file, `maquette-server.yaml`: what an operator sets. Unknown keys are refused with a hint.

pub(crate) mod clusters;
mod images;
mod keep;
mod spares;

pub use clusters::{
    ClusterConfig, ClusterError, ClusterReport, DeliveryConfig, GitOpsConfig, PodSecurityConfig, ProductionConfig,
};
pub use images::{CredentialsError, ImagesConfig, RegistryConfig};
pub use keep::{KeepConfig, LostAccessConfig};
use model::{BranchName, ClusterName, ProjectName, SourceName};
use serde::Deserialize;
pub use spares::{SpareEnginesConfig, SparesConfig};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};
use url::Url;

/// The largest file that is read, in bytes.
const FILE_MAX: u64 = 1 << 20;

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// Where Maquette keeps what it must not lose: store, tokens, mirrors of repositories.
    #[serde(default = "default_state_dir")]
    pub state_dir: PathBuf,
    /// The system user that `serve` runs as when Maquette is started by root; `maquette` unless given. Nothing else should run as
    /// this user.
    #[serde(default)]
    pub user: Option<String>,
    /// Where the REST API and webhooks are served.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// Where people reach environments.
    #[serde(default)]
    pub gateway: GatewayConfig,
    /// The way out of environments.
    #[serde(default)]
    pub door: DoorConfig,
    /// The embedded runtime.
    #[serde(default)]
    pub cell: CellConfig,
    /// Engines that are started ahead of the environment that will need them.
    #[serde(default)]
    pub spares: SparesConfig,
    /// Images that services run from.
    #[serde(default)]
    pub images: ImagesConfig,
    /// How long and how much is kept that nobody needs at present.
    #[serde(default)]
    pub keep: KeepConfig,
    /// What happens to environments whose forge can not be read.
    #[serde(default)]
    pub lost_access: LostAccessConfig,
    /// How often a forge is read although no webhook came, in seconds.
    #[serde(default = "default_poll")]
    pub poll_seconds: u64,
    /// Kubernetes clusters on which projects may have their environments, by a name.
    #[serde(default)]
    pub clusters: BTreeMap<ClusterName, ClusterConfig>,
    /// The projects.
    #[serde(default)]
    pub projects: Vec<ProjectConfig>,
}

/// Where people reach environments.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayConfig {
    /// The system user that the gateway runs as; `maquette-gateway` unless given. Another one than that of `serve`: whoever took
    /// over the process that visitors speak to shall not have the store, too.
    #[serde(default)]
    pub user: Option<String>,
    /// Where the gateway listens.
    #[serde(default = "default_gateway_listen")]
    pub listen: SocketAddr,
    /// The domains under which environments have their hosts; the first one unless a project says otherwise.
    #[serde(default = "default_bases")]
    pub bases: Vec<BaseConfig>,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            user: None,
            listen: default_gateway_listen(),
            bases: default_bases(),
        }
    }
}

/// The way out of environments.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DoorConfig {
    /// The system user that the door runs as; `maquette-door` unless given. Another one than those of `serve` and of the gateway: it
    /// speaks with everybody that an environment may reach.
    #[serde(default)]
    pub user: Option<String>,
    /// Hosts that policies may name by one word, such as those where packages come from: `npm: [packages.example.com]`. They are
    /// written as in `policy.egress`, or with their addresses, as in `policy.private`: `packages.internal=10.0.0.7:80`.
    #[serde(default)]
    pub presets: BTreeMap<String, Vec<String>>,
    /// Connections that one environment may have open at a time.
    #[serde(default = "default_door_connections")]
    pub connections: u32,
    /// What one environment may move within an hour, both directions together, in GiB. What is over that is refused.
    #[serde(default = "default_door_gib")]
    pub gib_per_hour: u64,
    /// Whether `private` endpoints of policies may be on this machine itself, on which Maquette listens as well.
    #[serde(default)]
    pub loopback: bool,
}

/// More connections than the door has for all environments together would bound nothing.
const DOOR_CONNECTIONS_MAX: u32 = 8192;

fn default_door_connections() -> u32 {
    512
}

fn default_door_gib() -> u64 {
    20
}

impl Default for DoorConfig {
    fn default() -> Self {
        Self {
            user: None,
            presets: BTreeMap::new(),
            connections: default_door_connections(),
            gib_per_hour: default_door_gib(),
            loopback: false,
        }
    }
}

impl DoorConfig {
    /// The presets, read.
    ///
    /// # Errors
    /// What is wrong with the first that can not be read, and what to do.
    pub(crate) fn presets(&self) -> Result<reconciler::Presets, (String, String)> {
        reconciler::presets(&self.presets).map_err(|(what, hint)| (format!("door.presets.{what}"), hint))
    }
}

/// A domain under which environments have their hosts.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseConfig {
    /// The domain: `preview.example.org`.
    pub domain: String,
    /// How browsers reach it: `http`, or `https` behind something that ends TLS.
    #[serde(default)]
    pub scheme: SchemeConfig,
    /// The port in addresses: that of the gateway with `http`, that of the scheme with `https`, unless given.
    #[serde(default)]
    pub port: Option<u16>,
}

/// How browsers reach a base.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SchemeConfig {
    /// Without TLS.
    #[default]
    Http,
    /// With TLS.
    Https,
}

/// The embedded runtime.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CellConfig {
    /// Where the cell host has its sockets and what is gone after a reboot.
    #[serde(default = "default_run_dir")]
    pub run_dir: PathBuf,
    /// Where it keeps volumes and files of commits; beside the state directory, with `-cells` after its name, unless given. It and
    /// all that it lies in must belong to root.
    #[serde(default)]
    pub data_dir: Option<PathBuf>,
    /// The size of the pool's image file, where the host has no btrfs of its own, in GiB.
    #[serde(default = "default_pool")]
    pub pool_gib: u64,
    /// The OCI runtime that makes containers; the fastest that works on this machine unless given.
    #[serde(default)]
    pub oci_runtime: OciRuntime,
}

/// An OCI runtime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OciRuntime {
    /// The fastest that works on this machine.
    #[default]
    Auto,
    /// crun.
    Crun,
    /// runc.
    Runc,
}

impl Default for CellConfig {
    fn default() -> Self {
        Self {
            run_dir: default_run_dir(),
            data_dir: None,
            pool_gib: default_pool(),
            oci_runtime: OciRuntime::Auto,
        }
    }
}

/// A project.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProjectConfig {
    /// Its name.
    pub name: ProjectName,
    /// The domain of its environments, one of `gateway.bases`; the first one unless given.
    #[serde(default)]
    pub base: Option<String>,
    /// Its repositories. Pull requests of each of them make environments.
    pub sources: Vec<SourceConfig>,
    /// The name of the source that carries the blueprint and the policy; the first one unless given.
    #[serde(default)]
    pub blueprint: Option<String>,
    /// Which pull requests share an environment.
    #[serde(default)]
    pub join: JoinConfig,
    /// The cluster on which its environments are made; cells of this machine unless given. What there is stays where it is.
    #[serde(default)]
    pub target: Option<String>,
}

/// Which pull requests of a project share an environment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JoinConfig {
    /// None: each has its own.
    #[default]
    None,
    /// Those whose heads are branches of the same name, in the repositories themselves.
    Branch,
}

/// A repository of a project.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// Its name in the project; the project's name unless given.
    #[serde(default)]
    pub name: Option<SourceName>,
    /// Where it lives.
    pub forge: ForgeConfig,
    /// The branch that previews are compared with.
    #[serde(default = "default_branch")]
    pub base_branch: BranchName,
    /// The branch that `policy:` is read from; the base branch unless given.
    #[serde(default)]
    pub policy_branch: Option<BranchName>,
}

/// Where a repository lives.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ForgeConfig {
    /// On a Gitea server.
    Gitea(Box<GiteaConfig>),
    /// In a directory on this machine.
    Local(LocalConfig),
}

/// A repository on a Gitea server.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GiteaConfig {
    /// The server's address.
    pub url: Url,
    /// Owner and name: `team/shop`.
    pub repository: String,
    /// A file that holds our token.
    pub token_file: PathBuf,
    /// A file that holds the secret that deliveries are signed with.
    pub webhook_secret_file: PathBuf,
    /// The address of this server as the forge reaches it. If given, Maquette sets up the webhook itself.
    #[serde(default)]
    pub webhook_url: Option<Url>,
}

/// A repository in a directory on this machine.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalConfig {
    /// The directory.
    pub path: PathBuf,
}

/// Names of sources that begin so are made for services from other branches.
const RESERVED_SOURCES: &str = "service-";

fn default_state_dir() -> PathBuf {
    PathBuf::from("/var/lib/maquette")
}

fn default_run_dir() -> PathBuf {
    PathBuf::from("/run/maquette")
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7070))
}

fn default_gateway_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8080))
}

fn default_bases() -> Vec<BaseConfig> {
    vec![BaseConfig {
        domain: "localhost".to_owned(),
        scheme: SchemeConfig::Http,
        port: None,
    }]
}

fn default_pool() -> u64 {
    10
}

fn default_poll() -> u64 {
    60
}

/// The branch that most repositories begin with. It is a valid name, as a test shows.
#[allow(clippy::unwrap_used, reason = "a constant that a test parses")]
fn default_branch() -> BranchName {
    "main".parse().unwrap()
}

/// The configuration can not be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can not be read.
    #[error("{} can not be read", path.display())]
    Read {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is too large to be a configuration.
    #[error("{} is larger than {FILE_MAX} bytes", path.display())]
    TooLarge {
        /// Its path.
        path: PathBuf,
    },
    /// The file is not what it should be.
    #[error("{}: {reason}", path.display())]
    Parse {
        /// Its path.
        path: PathBuf,
        /// Why, with line and column.
        reason: String,
        /// What would help.
        hint: Option<String>,
    },
    /// The settings contradict each other.
    #[error("{what}")]
    Contradiction {
        /// Which, and how.
        what: String,
        /// What would help.
        hint: String,
    },
}

impl ConfigError {
    /// What would help.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Parse { hint, .. } => hint.as_deref(),
            Self::Contradiction { hint, .. } => Some(hint),
            Self::Read { .. } | Self::TooLarge { .. } => None,
        }
    }
}

impl ServerConfig {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let read = |source| ConfigError::Read {
            path: path.to_owned(),
            source,
        };
        if fs::metadata(path).map_err(read)?.len() > FILE_MAX {
            return Err(ConfigError::TooLarge { path: path.to_owned() });
        }
        let text = fs::read_to_string(path).map_err(read)?;
        Self::parse(&text, path)
    }

    /// Reads and checks text; the path is for messages.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let config: Self = serde_saphyr::from_str(text).map_err(|error| {
            let reason = error.without_snippet().to_string();
            ConfigError::Parse {
                path: path.to_owned(),
                hint: near_miss(&reason),
                reason,
            }
        })?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let wrong = |what: String, hint: &str| {
            Err(ConfigError::Contradiction {
                what,
                hint: hint.to_owned(),
            })
        };
        if self.gateway.bases.is_empty() {
            return wrong(
                "gateway.bases is empty".to_owned(),
                "name a domain, or leave `bases` out for localhost",
            );
        }
        if self.spares.per_project > spares::PER_PROJECT_MAX {
            return wrong(
                format!("spares.per_project is more than {}", spares::PER_PROJECT_MAX),
                "one is enough unless pull requests come in bursts",
            );
        }
        if let Err((what, hint)) = self.door.presets() {
            return wrong(what, &hint);
        }
        if !(1..=DOOR_CONNECTIONS_MAX).contains(&self.door.connections) {
            return wrong(
                format!("door.connections is {}", self.door.connections),
                "give a number between 1 and 8192; a policy without `egress` lets nothing out at all",
            );
        }
        if self.door.gib_per_hour == 0 {
            return wrong(
                "door.gib_per_hour is 0".to_owned(),
                "give at least 1; a policy without `egress` lets nothing out at all",
            );
        }
        for (name, cluster) in &self.clusters {
            if let Err((what, hint)) = cluster.check() {
                return wrong(format!("clusters.{name}: {what}"), hint);
            }
        }
        let mut names = BTreeSet::new();
        for project in &self.projects {
            if let Err((what, hint)) = self.target_of(project) {
                return wrong(what, &hint);
            }
            if !names.insert(&project.name) {
                return wrong(
                    format!("there are two projects named {}", project.name),
                    "give each a name of its own",
                );
            }
            if project.sources.is_empty() {
                return wrong(
                    format!("project {} has no source", project.name),
                    "name the repository under `sources`",
                );
            }
            if let Err((what, hint)) = project.check_sources() {
                return wrong(what, &hint);
            }
            if self.base_of(project).is_none() {
                let what = format!("project {}: its base is not in gateway.bases", project.name);
                return wrong(what, "add the domain to gateway.bases");
            }
        }
        Ok(())
    }

    /// The cluster on which a project's environments are made.
    ///
    /// # Errors
    /// That there is none of that name, and a hint.
    pub fn target_of(&self, project: &ProjectConfig) -> Result<Option<&ClusterName>, (String, String)> {
        let Some(wanted) = &project.target else { return Ok(None) };
        if let Some(name) = self.clusters.keys().find(|name| name.as_str() == wanted) {
            return Ok(Some(name));
        }
        let hint = match self.clusters.is_empty() {
            true => {
                "say under `clusters` how it is reached, or leave `target` out for cells of this machine".to_owned()
            }
            false => instead_of(wanted, self.clusters.keys().map(ClusterName::as_str)),
        };
        let shown = shown(wanted);
        Err((
            format!("project {}: `target` names no cluster: {shown}", project.name),
            hint,
        ))
    }

    /// The base of a project.
    #[must_use]
    pub fn base_of(&self, project: &ProjectConfig) -> Option<&BaseConfig> {
        match &project.base {
            None => self.gateway.bases.first(),
            Some(domain) => self.gateway.bases.iter().find(|base| base.domain == *domain),
        }
    }

    /// Whether several projects have their environments under this base; labels then carry the project's name.
    #[must_use]
    pub fn is_shared(&self, base: &BaseConfig) -> bool {
        self.projects
            .iter()
            .filter(|project| self.base_of(project) == Some(base))
            .count()
            > 1
    }

    /// Whether a project may have environments in cells of this machine, or once had: without that, no cell host is needed.
    #[must_use]
    pub fn needs_cells(&self) -> bool {
        let in_cells = |project: &ProjectConfig| project.target.is_none();
        self.projects.is_empty()
            || self.projects.iter().any(in_cells)
            || self.cell_data_dir().exists()
            || self.older_cell_data_dir().exists()
    }

    /// The port in the addresses of a base, unless it is the scheme's own.
    #[must_use]
    pub fn port_of(&self, base: &BaseConfig) -> Option<u16> {
        match (base.scheme, base.port) {
            (SchemeConfig::Http, None) => Some(self.gateway.listen.port()).filter(|port| *port != 80),
            (SchemeConfig::Http, port) => port.filter(|port| *port != 80),
            (SchemeConfig::Https, port) => port.filter(|port| *port != 443),
        }
    }

    /// Where the gateway asks the control plane: a socket in a directory that belongs to the user of the control plane and lets
    /// only the group of the gateway's user in.
    #[must_use]
    pub fn edge_socket(&self) -> PathBuf {
        self.cell.run_dir.join("edge/control.sock")
    }

    /// The directory of the gateway's process, in which the control plane sees whether it runs.
    #[must_use]
    pub fn gateway_run_dir(&self) -> PathBuf {
        self.cell.run_dir.join("gateway")
    }

    /// The directory of the door's process.
    #[must_use]
    pub fn door_run_dir(&self) -> PathBuf {
        self.cell.run_dir.join("door")
    }

    /// Where the cell host keeps volumes and files of commits.
    #[must_use]
    pub fn cell_data_dir(&self) -> PathBuf {
        self.cell
            .data_dir
            .clone()
            .unwrap_or_else(|| match self.state_dir.file_name() {
                Some(name) => {
                    let mut name = name.to_owned();
                    name.push("-cells");
                    self.state_dir.with_file_name(name)
                }
                None => self.state_dir.join("cells"),
            })
    }

    /// Where it kept them once: in a directory that is the control plane's.
    #[must_use]
    pub fn older_cell_data_dir(&self) -> PathBuf {
        self.state_dir.join("cells")
    }
}

impl ProjectConfig {
    /// The name of one of its sources: its own, or the project's.
    #[must_use]
    pub fn source_name(&self, source: &SourceConfig) -> Option<SourceName> {
        source.name.clone().or_else(|| self.name.as_str().parse().ok())
    }

    /// The place in `sources` of the one that carries the blueprint.
    #[must_use]
    pub fn blueprint_place(&self) -> Option<usize> {
        let Some(wanted) = &self.blueprint else {
            return (!self.sources.is_empty()).then_some(0);
        };
        let is = |source: &SourceConfig| self.source_name(source).is_some_and(|name| name.as_str() == wanted);
        self.sources.iter().position(is)
    }

    /// What is wrong with the sources, and a hint.
    fn check_sources(&self) -> Result<(), (String, String)> {
        let project = &self.name;
        let (mut names, mut places) = (BTreeSet::new(), BTreeSet::new());
        for source in &self.sources {
            let Some(name) = self.source_name(source) else {
                let what = format!("project {project}: a source has no name, and the project's can not be one");
                return Err((what, "give it a `name`".to_owned()));
            };
            if name.as_str().starts_with(RESERVED_SOURCES) {
                let what =
                    format!("project {project}: the source {name} has a name that begins with {RESERVED_SOURCES}");
                return Err((what, "such names are Maquette's own: give it another `name`".to_owned()));
            }
            let place = match &source.forge {
                ForgeConfig::Gitea(gitea) => format!("{} on {}", gitea.repository, gitea.url),
                ForgeConfig::Local(local) => local.path.display().to_string(),
            };
            if !places.insert(place.clone()) {
                let what = format!("project {project} has two sources for {place}");
                return Err((what, "a repository is one source: remove one of them".to_owned()));
            }
            if !names.insert(name.to_string()) {
                let what = format!("project {project} has two sources named {name}");
                return Err((what, "give each a `name` of its own".to_owned()));
            }
        }
        if let Some(wanted) = self.blueprint.as_ref().filter(|_| self.blueprint_place().is_none()) {
            let hint = instead_of(wanted, names.iter().map(String::as_str));
            let shown = shown(wanted);
            return Err((format!("project {project}: `blueprint` names no source: {shown}"), hint));
        }
        let place = self.blueprint_place();
        let ruled = |(at, source): &(usize, &SourceConfig)| Some(*at) != place && source.policy_branch.is_some();
        if let Some((_, source)) = self.sources.iter().enumerate().find(ruled) {
            let name = self
                .source_name(source)
                .map_or_else(String::new, |name| name.to_string());
            let what = format!("project {project}: `policy_branch` of the source {name} has no effect");
            return Err((
                what,
                "the policy is read from the source that carries the blueprint: remove it".to_owned(),
            ));
        }
        Ok(())
    }
}

impl SchemeConfig {
    /// As it stands in addresses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// The parser names the unknown key and those that it knows; this finds the one that was probably meant.
fn near_miss(reason: &str) -> Option<String> {
    let (before, after) = reason.split_once("expected")?;
    let known = after.split(" at line").next()?;
    let word = |text: &str| {
        text.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .to_owned()
    };
    let given = word(before.split_once("unknown")?.1.split_whitespace().nth(1)?);
    let near = known
        .split([' ', ','])
        .map(word)
        .filter(|known| !known.is_empty() && known != "one" && known != "of" && known != "or")
        .map(|known| (strsim::damerau_levenshtein(&given, &known), known))
        .min()?;
    (near.0 <= 3).then(|| format!("did you mean `{}`?", near.1))
}

/// A name that is not known, as people read it.
fn shown(name: &str) -> String {
    name.chars().take(80).flat_map(char::escape_debug).collect()
}

/// What may have been meant, or what there is.
fn instead_of<'a>(wanted: &str, known: impl Iterator<Item = &'a str>) -> String {
    let mut known: Vec<&str> = known.collect();
    known.sort_by_cached_key(|name| (strsim::damerau_levenshtein(wanted, name), *name));
    match known.first() {
        Some(near) if strsim::damerau_levenshtein(wanted, near) <= 2 => format!("did you mean `{near}`?"),
        _ => {
            known.sort_unstable();
            format!("there are: {}", known.join(", "))
        }
    }
}

#[cfg(test)]
mod tests;
