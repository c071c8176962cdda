//! Loads a Compose application: its files, what they include and extend, put together into one tree in which every value knows
//! the line of the file that it stands in. Nothing outside of the repository is ever read.

use super::{
    SERVICES_MAX,
    merge::{self, Merger},
    paths,
    resolve::{RESULTS_MAX, resolve},
    unique,
};
use crate::{
    dotenv,
    escape::quoted,
    interpolate::{Giver, Scope},
    problem::{At, Report},
    read, suggest,
    tree::{self, Tree},
    yaml::{self, Key, Node, NodeKind},
};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

/// The most files of one application, each inclusion counted.
const FILES_MAX: usize = 100;
/// How deep files may include each other.
const DEPTH_MAX: usize = 20;
/// How many values all files and all that is extended may be together.
const VALUES_MAX: usize = 100_000;
/// The longest chain of `extends`.
const EXTENDS_MAX: usize = 30;
/// Sections whose entries are taken over from an included file.
const SECTIONS: [&str; 6] = ["services", "volumes", "networks", "secrets", "configs", "models"];

/// One of the files of an application: its path, and its number in the report.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) file: u16,
}

/// What surrounds the files.
pub(crate) struct Loader<'a> {
    pub(crate) report: &'a Report,
    pub(crate) tree: &'a dyn Tree,
    /// Services whose builds and mounts are of another repository.
    elsewhere: &'a BTreeSet<String>,
    files: Cell<usize>,
    told: RefCell<BTreeSet<String>>,
    broken: RefCell<BTreeSet<String>>,
    /// How much text may still be put in.
    left: Cell<usize>,
    /// How many values may still be made.
    values: Cell<usize>,
}

/// Services of a file, some of which may have been extended already.
struct Shelf {
    /// As people name it.
    path: String,
    services: BTreeMap<String, Rc<Node>>,
    order: Vec<Key>,
    finished: BTreeSet<String>,
}

impl<'a> Loader<'a> {
    pub(crate) fn new(report: &'a Report, tree: &'a dyn Tree, elsewhere: &'a BTreeSet<String>) -> Self {
        Self {
            report,
            tree,
            elsewhere,
            files: Cell::new(0),
            told: RefCell::default(),
            broken: RefCell::default(),
            left: Cell::new(RESULTS_MAX),
            values: Cell::new(VALUES_MAX),
        }
    }

    /// Services that extend what can't be read, about which enough was said.
    pub(crate) fn broken(&self) -> BTreeSet<String> {
        self.broken.borrow().clone()
    }

    /// The tree of an application whose relative paths start from `folder`. Problems go to the report; `None` if there is
    /// nothing to go on with.
    pub(crate) fn load(&self, sources: &[Source], folder: &str, scope: &Scope) -> Option<Rc<Node>> {
        self.model(sources, folder, scope, &mut Vec::new())
    }

    fn model(&self, sources: &[Source], folder: &str, scope: &Scope, way: &mut Vec<String>) -> Option<Rc<Node>> {
        let mut whole: Option<Rc<Node>> = None;
        for source in sources {
            if !self.count(source) {
                return None;
            }
            for document in yaml::documents(self.report, source.file, true)? {
                if matches!(document.kind, NodeKind::Null) && (whole.is_some() || sources.len() > 1) {
                    continue;
                }
                read::map(self.report, &document, "a Compose file")?;
                if self.too_many(&document) {
                    return None;
                }
                let document = Rc::new(resolve(self.report, &document, scope, &self.told, &self.left));
                if !self.spend(&document) {
                    return None;
                }
                let document = paths::rooted(self.report, &document, folder, self.elsewhere);
                way.push(source.path.clone());
                let document = self.include(&document, folder, scope, way);
                way.pop();
                let document = self.extend_all(&document?, &source.path, scope);
                let merged = match &whole {
                    Some(earlier) => Merger::at(self.report, &[]).merge(earlier, &document),
                    None => document,
                };
                whole = Some(unique::enforce(&merge::settle(&merged)));
            }
        }
        let whole = whole.map(|whole| paths::with_contexts(&whole, folder, self.elsewhere));
        Some(whole.unwrap_or_else(|| {
            let file = sources.first().map_or(0, |source| source.file);
            Rc::new(Node::new(
                At {
                    file,
                    line: 1,
                    column: 1,
                },
                NodeKind::Null,
            ))
        }))
    }

    /// Counts a file; `false` if it is one too many, which is told.
    fn count(&self, source: &Source) -> bool {
        self.files.set(self.files.get() + 1);
        if self.files.get() > FILES_MAX {
            let at = At {
                file: source.file,
                line: 1,
                column: 1,
            };
            self.report
                .error(at, format!("more than {FILES_MAX} files are included or extended"));
            return false;
        }
        true
    }

    /// Counts what was made; `false` if it is too much, which is told.
    fn spend(&self, node: &Node) -> bool {
        let before = self.values.get();
        let after = before.saturating_sub(node.weight());
        self.values.set(after);
        if before > 0 && after == 0 {
            let message = format!("the files are too large together: at most {VALUES_MAX} values are read");
            self.report.error(node.at, message);
        }
        after > 0
    }

    fn too_many(&self, document: &Node) -> bool {
        let Some(services) = document.get("services") else {
            return false;
        };
        match &services.kind {
            NodeKind::Map(entries) if entries.len() > SERVICES_MAX => {
                let message = format!("there are {} services; at most {SERVICES_MAX} are run", entries.len());
                self.report.error(services.at, message);
                true
            }
            _ => false,
        }
    }

    /// Opens a further file, whose path starts from the root; `None` with a problem at `at` if it can't be read.
    fn open(&self, at: At, path: &str, note: &str) -> Option<Source> {
        let opened = tree::join("", path).and_then(|path| tree::text(self.tree, &path).map(|text| (path, text)));
        match opened {
            Ok((path, text)) => {
                let file = self.report.add(&path, text, note);
                Some(Source { path, file })
            }
            Err(error) => {
                let hint = if paths::is_address(path) || path.starts_with("oci:") {
                    "only files of this repository are read: add a copy of it"
                } else {
                    "paths start from the folder of the Compose file"
                };
                self.report.error_hint(at, format!("{} {error}", quoted(path)), hint);
                None
            }
        }
    }

    /// The document with what it includes. What it says itself wins.
    fn include(&self, document: &Rc<Node>, folder: &str, scope: &Scope, way: &mut Vec<String>) -> Option<Rc<Node>> {
        let Some(entries) = document.get("include") else {
            return Some(Rc::clone(document));
        };
        let mut whole = Rc::clone(document);
        let mut complete = true;
        for entry in read::list(self.report, entries, "`include`")? {
            match self.included(entry, folder, scope, way) {
                Some(included) => whole = self.adopt(&whole, &included),
                None => complete = false,
            }
            if self.files.get() > FILES_MAX {
                return None;
            }
        }
        complete.then_some(whole)
    }

    /// The application that one entry of `include` names.
    fn included(&self, entry: &Rc<Node>, folder: &str, scope: &Scope, way: &mut Vec<String>) -> Option<Rc<Node>> {
        let single = matches!(entry.kind, NodeKind::Scalar { .. });
        let paths = if single {
            read::texts(self.report, entry, "`include`", true)?
        } else {
            for (key, _) in read::map(self.report, entry, "an entry of `include`")? {
                if !["path", "project_directory", "env_file"].contains(&key.text.as_str()) {
                    let known = ["path", "project_directory", "env_file"];
                    read::unknown_key(self.report, key, "in `include`", &known);
                }
            }
            let Some(path) = entry.get("path") else {
                self.report.error_hint(
                    entry.at,
                    "an entry of `include` has no `path`",
                    "name the file to include",
                );
                return None;
            };
            read::texts(self.report, path, "`path` of `include`", true)?
        };
        let note = format!("included in {}", self.report.name(entry.at));
        let mut sources = Vec::new();
        for (at, path) in &paths {
            let full = self.below(folder, *at, path)?;
            if way.len() >= DEPTH_MAX {
                let message = format!("files are included more than {DEPTH_MAX} levels deep");
                self.report.error(*at, message);
                return None;
            }
            if way.contains(&full) {
                let mut circle: Vec<String> = way.iter().map(|step| quoted(step)).collect();
                circle.push(quoted(&full));
                let message = format!("files include each other in a circle: {}", circle.join(" → "));
                self.report
                    .error_hint(*at, message, "remove one of these entries of `include`");
                return None;
            }
            sources.push(self.open(*at, &full, &note)?);
        }
        let beside = sources
            .first()
            .map_or("", |source| tree::parent(&source.path))
            .to_owned();
        let folder_of_it = match entry.get("project_directory") {
            Some(node) => {
                let path = read::text(self.report, node, "`project_directory`")?;
                self.below(folder, node.at, path)?
            }
            None => beside,
        };
        let scope = self.scope_of(entry, folder, &folder_of_it, scope)?;
        self.model(&sources, &folder_of_it, &scope, way)
    }

    /// A path of the repository; a problem if it leads out of it.
    fn below(&self, folder: &str, at: At, path: &str) -> Option<String> {
        match tree::join(folder, path) {
            Ok(full) if !paths::is_address(path) && !path.starts_with("oci:") => Some(full),
            other => {
                let reason = match other {
                    Err(error) if !paths::is_address(path) => error.to_string(),
                    _ => "is no file of this repository".to_owned(),
                };
                self.report.error_hint(
                    at,
                    format!("{} {reason}", quoted(path)),
                    "only files of this repository are read: add a copy of it",
                );
                None
            }
        }
    }

    /// The values of an included application: those of the one that includes it, and those of its own files.
    fn scope_of(&self, entry: &Node, folder: &str, own: &str, scope: &Scope) -> Option<Scope> {
        let mut scope = scope.clone();
        let files: Vec<(At, String)> = match entry.get("env_file") {
            Some(node) => read::texts(self.report, node, "`env_file` of `include`", true)?
                .into_iter()
                .filter(|(_, path)| path != "/dev/null")
                .map(|(at, path)| Some((at, self.below(folder, at, &path)?)))
                .collect::<Option<_>>()?,
            None => {
                let path = tree::join(own, ".env").ok()?;
                let there = matches!(self.tree.kind(&path), Some(tree::Kind::File { .. }));
                there.then_some((entry.at, path)).into_iter().collect()
            }
        };
        let mut further = Scope::default();
        for (at, path) in files {
            let note = format!("read for {}", self.report.name(entry.at));
            let source = self.open(at, &path, &note)?;
            for line in dotenv::read(self.report, source.file, &scope, dotenv::Style::Compose) {
                further.0.remove(&line.name);
                further.add(&line.name, &line.value, Giver::File(self.report.name(line.at)));
            }
        }
        for (name, known) in further.0 {
            scope.0.entry(name).or_insert(known);
        }
        Some(scope)
    }

    /// The document with the sections of an included one.
    fn adopt(&self, document: &Rc<Node>, included: &Rc<Node>) -> Rc<Node> {
        let NodeKind::Map(entries) = &document.kind else {
            return Rc::clone(document);
        };
        let mut entries = entries.clone();
        for section in SECTIONS {
            let Some(theirs) = included.get(section) else { continue };
            let NodeKind::Map(new) = &theirs.kind else { continue };
            let place = entries.iter().position(|(key, _)| key.text == section);
            let Some(place) = place else {
                let key = Key {
                    at: theirs.at,
                    text: section.to_owned(),
                };
                entries.push((key, Rc::clone(theirs)));
                continue;
            };
            let ours = Rc::clone(&entries[place].1);
            let mut all = match &ours.kind {
                NodeKind::Map(all) => all.clone(),
                NodeKind::Null => Vec::new(),
                _ => continue,
            };
            for (key, node) in new {
                match all.iter_mut().find(|(known, _)| known.text == key.text) {
                    Some((_, there)) if merge::print(there) == merge::print(node) => {}
                    Some((_, there)) => {
                        *there = Merger::at(self.report, &[section, &key.text]).merge(node, there);
                    }
                    None => all.push((key.clone(), Rc::clone(node))),
                }
            }
            entries[place].1 = Rc::new(Node {
                kind: NodeKind::Map(all),
                ..(*ours).clone()
            });
        }
        Rc::new(Node {
            kind: NodeKind::Map(entries),
            ..(**document).clone()
        })
    }

    /// The document with every `extends` of its services carried out.
    fn extend_all(&self, document: &Rc<Node>, path: &str, scope: &Scope) -> Rc<Node> {
        let mut shelves: BTreeMap<String, Shelf> = BTreeMap::new();
        let Some(shelf) = shelf(document, path) else {
            return Rc::clone(document);
        };
        let order = shelf.order.clone();
        // A path that no file can have, so that a file may extend itself by name.
        shelves.insert(String::new(), shelf);
        for key in &order {
            self.extend(&mut shelves, "", &key.text, scope, &mut Vec::new());
        }
        let Some(shelf) = shelves.remove("") else {
            return Rc::clone(document);
        };
        unique::change(document, "services", |services| {
            let entries = shelf
                .order
                .iter()
                .filter_map(|key| Some((key.clone(), Rc::clone(shelf.services.get(&key.text)?))))
                .collect();
            Rc::new(Node {
                kind: NodeKind::Map(entries),
                ..(**services).clone()
            })
        })
    }

    /// Carries out `extends` of one service, whose shelf holds the result then.
    fn extend(
        &self,
        shelves: &mut BTreeMap<String, Shelf>,
        file: &str,
        name: &str,
        scope: &Scope,
        way: &mut Vec<(String, String)>,
    ) -> Option<Rc<Node>> {
        let shelf = shelves.get(file)?;
        let service = Rc::clone(shelf.services.get(name)?);
        if shelf.finished.contains(name) {
            return Some(service);
        }
        let extended = match service.get("extends") {
            None => Some(service),
            Some(extends) if matches!(extends.kind, NodeKind::Null) => Some(service),
            Some(extends) => {
                way.push((file.to_owned(), name.to_owned()));
                let base = self.base(shelves, file, name, &Rc::clone(extends), scope, way);
                way.pop();
                let own = without(&service, "extends");
                if base.is_none() {
                    self.broken.borrow_mut().insert(name.to_owned());
                }
                Some(match base {
                    Some(base) => {
                        let merged = Merger::at(self.report, &["services", name]).merge(&merge::settle(&base), &own);
                        if self.spend(&merged) { merged } else { own }
                    }
                    None => own,
                })
            }
        };
        if let (Some(extended), Some(shelf)) = (&extended, shelves.get_mut(file)) {
            shelf.services.insert(name.to_owned(), Rc::clone(extended));
            shelf.finished.insert(name.to_owned());
        }
        extended
    }

    /// The service that another one extends.
    fn base(
        &self,
        shelves: &mut BTreeMap<String, Shelf>,
        file: &str,
        name: &str,
        extends: &Node,
        scope: &Scope,
        way: &mut Vec<(String, String)>,
    ) -> Option<Rc<Node>> {
        let (wanted, other) = self.wanted(name, extends)?;
        let shelf_name = match other {
            Some((at, path)) => self.fetch(shelves, at, &path, scope)?,
            None => file.to_owned(),
        };
        let step = (shelf_name.clone(), wanted.clone());
        if way.len() >= EXTENDS_MAX {
            let message = format!("services extend each other more than {EXTENDS_MAX} times in a row");
            self.report.error(extends.at, message);
            return None;
        }
        if way.contains(&step) {
            let mut circle: Vec<String> = way.iter().map(|(_, name)| quoted(name)).collect();
            circle.push(quoted(&wanted));
            let message = format!("services extend each other in a circle: {}", circle.join(" → "));
            self.report
                .error_hint(extends.at, message, "remove one of these `extends`");
            return None;
        }
        let shelf = shelves.get(&shelf_name)?;
        if !shelf.services.contains_key(&wanted) {
            let names: Vec<&str> = shelf.services.keys().map(String::as_str).collect();
            let message = format!(
                "service {} extends {}, which does not exist in {}",
                quoted(name),
                quoted(&wanted),
                shelf.path
            );
            self.report
                .error_hint(extends.at, message, suggest::hint(&wanted, &names));
            return None;
        }
        self.extend(shelves, &shelf_name, &wanted, scope, way)
    }

    /// The name of the service that is extended, and the file that it stands in if that is another one.
    fn wanted(&self, name: &str, extends: &Node) -> Option<(String, Option<(At, String)>)> {
        if let NodeKind::Scalar { text, .. } = &extends.kind {
            return Some((text.clone(), None));
        }
        let place = format!("in `extends` of service {}", quoted(name));
        let (mut service, mut file) = (None, None);
        for (key, value) in read::map(self.report, extends, &format!("`extends` of service {}", quoted(name)))? {
            match key.text.as_str() {
                "service" => service = Some(read::text(self.report, value, "`service`")?.to_owned()),
                "file" => file = Some((value.at, read::text(self.report, value, "`file`")?.to_owned())),
                _ => read::unknown_key(self.report, key, &place, &["service", "file"]),
            }
        }
        if service.is_none() {
            self.report.error_hint(
                extends.at,
                format!("there is no `service` {place}"),
                "name the service that it extends",
            );
        }
        Some((service?, file))
    }

    /// Reads the services of another file, once. Tells the name of its shelf.
    fn fetch(&self, shelves: &mut BTreeMap<String, Shelf>, at: At, path: &str, scope: &Scope) -> Option<String> {
        let full = self.below("", at, path)?;
        if shelves.contains_key(&full) {
            return Some(full);
        }
        let source = self.open(at, &full, &format!("extended by {}", self.report.name(at)))?;
        if !self.count(&source) {
            return None;
        }
        let mut whole: Option<Rc<Node>> = None;
        for document in yaml::documents(self.report, source.file, true)? {
            read::map(self.report, &document, "a Compose file")?;
            if self.too_many(&document) {
                return None;
            }
            let document = Rc::new(resolve(self.report, &document, scope, &self.told, &self.left));
            if !self.spend(&document) {
                return None;
            }
            let document = paths::rooted(self.report, &document, tree::parent(&source.path), self.elsewhere);
            whole = Some(match &whole {
                Some(earlier) => Merger::at(self.report, &[]).merge(earlier, &document),
                None => document,
            });
        }
        let shelf = whole.as_ref().and_then(|whole| shelf(whole, &source.path));
        if shelf.is_none() {
            self.report
                .error(at, format!("there are no services in {}", quoted(&source.path)));
        }
        shelves.insert(full.clone(), shelf?);
        Some(full)
    }
}

fn shelf(document: &Node, path: &str) -> Option<Shelf> {
    let NodeKind::Map(entries) = &document.get("services")?.kind else {
        return None;
    };
    Some(Shelf {
        path: path.to_owned(),
        services: entries
            .iter()
            .map(|(key, node)| (key.text.clone(), Rc::clone(node)))
            .collect(),
        order: entries.iter().map(|(key, _)| key.clone()).collect(),
        finished: BTreeSet::new(),
    })
}

fn without(node: &Rc<Node>, unwanted: &str) -> Rc<Node> {
    let NodeKind::Map(entries) = &node.kind else {
        return Rc::clone(node);
    };
    let entries = entries
        .iter()
        .filter(|(key, _)| key.text != unwanted)
        .cloned()
        .collect();
    Rc::new(Node {
        kind: NodeKind::Map(entries),
        ..(**node).clone()
    })
}
