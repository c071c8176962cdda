//! YAML as a tree that remembers where everything stands. Depth, nodes and expanded aliases are bounded, duplicate keys are
//! refused, merge keys (`<<`) are resolved. The tags `!reset` and `!override` are kept: they say how files are put together.

use crate::{
    escape::quoted,
    problem::{At, Report},
};
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag};
use std::{
    collections::{BTreeMap, HashMap},
    rc::Rc,
};

/// How deep nodes may be nested, aliases expanded.
const DEPTH_MAX: usize = 40;
/// How many nodes there may be, aliases expanded.
const NODES_MAX: usize = 30_000;
/// How many bytes of text there may be, aliases expanded.
const TEXT_MAX: usize = 4 * 1024 * 1024;
/// How many documents a file may hold.
const DOCUMENTS_MAX: usize = 20;

/// A value and its place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) at: At,
    pub(crate) kind: NodeKind,
    pub(crate) mark: Mark,
}

/// What a tag says of a node that overrides another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mark {
    #[default]
    None,
    /// `!reset`: what was there is removed, and this with it.
    Reset,
    /// `!override`: what was there is replaced, not merged.
    Override,
}

/// What a node is.
#[derive(Clone, Debug)]
pub(crate) enum NodeKind {
    Null,
    /// `plain` says that it stands there without quotes, so that it may be a number or a truth value.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Rc<Node>>),
    Map(Vec<(Key, Rc<Node>)>),
}

/// A key and its place.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) at: At,
    pub(crate) text: String,
}

impl Node {
    /// A node without a tag.
    pub(crate) fn new(at: At, kind: NodeKind) -> Self {
        let mark = Mark::None;
        Self { at, kind, mark }
    }

    /// Text that stands for itself.
    pub(crate) fn text(at: At, text: impl Into<String>) -> Rc<Self> {
        let (text, plain) = (text.into(), false);
        Rc::new(Self::new(at, NodeKind::Scalar { text, plain }))
    }

    /// How many nodes it is made of.
    pub(crate) fn weight(&self) -> usize {
        1 + match &self.kind {
            NodeKind::List(items) => items.iter().map(|item| item.weight()).sum(),
            NodeKind::Map(entries) => entries.iter().map(|(_, node)| node.weight()).sum(),
            _ => 0,
        }
    }

    pub(crate) fn what(&self) -> &'static str {
        match &self.kind {
            NodeKind::Null => "nothing",
            NodeKind::Scalar { .. } => "a single value",
            NodeKind::List(_) => "a list",
            NodeKind::Map(_) => "a mapping",
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Rc<Node>> {
        match &self.kind {
            NodeKind::Map(entries) => entries.iter().find(|(k, _)| k.text == key).map(|(_, node)| node),
            _ => None,
        }
    }
}

/// Amounts by which bombs are recognised.
#[derive(Clone, Copy, Default)]
struct Weight {
    nodes: usize,
    bytes: usize,
    height: usize,
}

enum Inside {
    List(Vec<Rc<Node>>),
    Map {
        entries: Vec<(Key, Rc<Node>)>,
        lines: BTreeMap<String, u32>,
        key: Option<Option<Key>>,
        merges: Vec<Rc<Node>>,
    },
}

struct Frame {
    at: At,
    mark: Mark,
    anchor: usize,
    begun: Weight,
    height: usize,
    inside: Inside,
}

struct Loader<'a> {
    report: &'a Report,
    marks: bool,
    frames: Vec<Frame>,
    anchors: HashMap<usize, (Rc<Node>, Weight)>,
    total: Weight,
    root: Option<Rc<Node>>,
}

/// Loading can't go on; the problem is in the report.
struct Stop;

fn at(file: u16, marker: Marker) -> At {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    At {
        file,
        line: number(marker.line()),
        column: number(marker.col().saturating_add(1)),
    }
}

/// Loads the one document of a file. Problems go to the report; `None` if there is no tree to go on with.
pub(crate) fn load(report: &Report) -> Option<Rc<Node>> {
    let documents = documents(report, 0, false)?;
    if let Some(second) = documents.get(1) {
        report.error_hint(
            second.at,
            "there is a second YAML document in the file",
            "only one document is read: remove the `---` line and what follows",
        );
        return None;
    }
    let nothing = || {
        Rc::new(Node::new(
            At {
                file: 0,
                line: 1,
                column: 1,
            },
            NodeKind::Null,
        ))
    };
    Some(documents.into_iter().next().unwrap_or_else(nothing))
}

/// Loads all documents of one of the files of a report. `marks` says whether the tags that put files together have a meaning.
pub(crate) fn documents(report: &Report, file: u16, marks: bool) -> Option<Vec<Rc<Node>>> {
    let text = report.text(file);
    if let Some((line, column)) = position_of(&text, '\0') {
        report.error(At { file, line, column }, "there is a NUL character in the file");
        return None;
    }
    let mut loader = Loader {
        report,
        marks,
        frames: Vec::new(),
        anchors: HashMap::new(),
        total: Weight::default(),
        root: None,
    };
    let mut documents = Vec::new();
    for event in Parser::new_from_str(&text) {
        let (event, span) = match event {
            Ok(event) => event,
            Err(error) => {
                let message = format!("not valid YAML: {}", error.info());
                report.error(at(file, *error.marker()), message);
                return None;
            }
        };
        if matches!(event, Event::DocumentStart(_)) {
            loader.anchors.clear();
            if documents.len() >= DOCUMENTS_MAX {
                let message = format!("there are more than {DOCUMENTS_MAX} YAML documents in the file");
                report.error(at(file, span.start), message);
                return None;
            }
            continue;
        }
        loader.event(event, at(file, span.start)).ok()?;
        documents.extend(loader.root.take());
    }
    Some(documents)
}

fn position_of(text: &str, wanted: char) -> Option<(u32, u32)> {
    let (index, line) = text.lines().enumerate().find(|(_, line)| line.contains(wanted))?;
    let column = line.chars().position(|c| c == wanted)?;
    Some((u32::try_from(index + 1).ok()?, u32::try_from(column + 1).ok()?))
}

impl Loader<'_> {
    fn event(&mut self, event: Event<'_>, at: At) -> Result<(), Stop> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let (plain, mark) = self.tag(at, tag.as_deref(), style == ScalarStyle::Plain);
                if text.contains('\0') {
                    self.report.error(at, "a value holds a NUL character");
                    return Err(Stop);
                }
                self.count(
                    at,
                    Weight {
                        nodes: 1,
                        bytes: text.len(),
                        height: 0,
                    },
                )?;
                let null = plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let weight = Weight {
                    nodes: 1,
                    bytes: text.len(),
                    height: 1,
                };
                let kind = if null {
                    NodeKind::Null
                } else {
                    NodeKind::Scalar {
                        text: text.into_owned(),
                        plain,
                    }
                };
                self.place(Rc::new(Node { at, kind, mark }), anchor, weight)
            }
            Event::SequenceStart(anchor, tag) => {
                let (_, mark) = self.tag(at, tag.as_deref(), false);
                self.open(at, mark, anchor, Inside::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                let (_, mark) = self.tag(at, tag.as_deref(), false);
                let inside = Inside::Map {
                    entries: Vec::new(),
                    lines: BTreeMap::new(),
                    key: None,
                    merges: Vec::new(),
                };
                self.open(at, mark, anchor, inside)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(id) => {
                let Some((node, weight)) = self.anchors.get(&id).cloned() else {
                    self.report.error(at, "an alias stands inside of what it stands for");
                    return Err(Stop);
                };
                self.count(at, weight)?;
                if self.frames.len() + weight.height > DEPTH_MAX {
                    return self.too_deep(at);
                }
                self.place(node, 0, weight)
            }
            _ => Ok(()),
        }
    }

    /// Whether a scalar with that tag may be more than text, and what the tag says of putting files together.
    fn tag(&self, at: At, tag: Option<&Tag>, plain: bool) -> (bool, Mark) {
        match tag {
            None => (plain, Mark::None),
            Some(tag) if tag.is_yaml_core_schema() => (plain && tag.suffix != "str", Mark::None),
            Some(tag) if tag.handle.is_empty() && tag.suffix == "!" => (false, Mark::None),
            Some(tag) if self.marks && tag.handle == "!" && tag.suffix == "reset" => (plain, Mark::Reset),
            Some(tag) if self.marks && tag.handle == "!" && tag.suffix == "override" => (plain, Mark::Override),
            Some(tag) => {
                let hint = if self.marks {
                    "known are `!reset` and `!override`, in a file that overrides another one"
                } else {
                    "write the value without it"
                };
                self.report.error_hint(
                    at,
                    format!("the tag {} is not supported", quoted(&tag.to_string())),
                    hint,
                );
                (plain, Mark::None)
            }
        }
    }

    fn count(&mut self, at: At, weight: Weight) -> Result<(), Stop> {
        self.total.nodes += weight.nodes;
        self.total.bytes += weight.bytes;
        if self.total.nodes > NODES_MAX || self.total.bytes > TEXT_MAX {
            let message =
                format!("the file is too large: at most {NODES_MAX} values are read, and aliases count each time");
            self.report.error(at, message);
            return Err(Stop);
        }
        Ok(())
    }

    fn too_deep(&self, at: At) -> Result<(), Stop> {
        self.report
            .error(at, format!("nested too deeply: at most {DEPTH_MAX} levels are read"));
        Err(Stop)
    }

    fn open(&mut self, at: At, mark: Mark, anchor: usize, inside: Inside) -> Result<(), Stop> {
        let begun = self.total;
        self.count(
            at,
            Weight {
                nodes: 1,
                bytes: 0,
                height: 0,
            },
        )?;
        if self.frames.len() >= DEPTH_MAX {
            return self.too_deep(at);
        }
        self.frames.push(Frame {
            at,
            mark,
            anchor,
            begun,
            height: 0,
            inside,
        });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Stop> {
        let Some(frame) = self.frames.pop() else { return Ok(()) };
        let kind = match frame.inside {
            Inside::List(items) => NodeKind::List(items),
            Inside::Map {
                mut entries,
                mut lines,
                merges,
                ..
            } => {
                for merged in merges {
                    self.merge(&merged, &mut entries, &mut lines);
                }
                NodeKind::Map(entries)
            }
        };
        let weight = Weight {
            nodes: self.total.nodes - frame.begun.nodes,
            bytes: self.total.bytes - frame.begun.bytes,
            height: frame.height + 1,
        };
        let (at, mark) = (frame.at, frame.mark);
        self.place(Rc::new(Node { at, kind, mark }), frame.anchor, weight)
    }

    /// What is there already wins over what is merged (<https://yaml.org/type/merge.html>).
    fn merge(&self, merged: &Node, entries: &mut Vec<(Key, Rc<Node>)>, lines: &mut BTreeMap<String, u32>) {
        match &merged.kind {
            NodeKind::Map(more) => {
                for (key, node) in more {
                    if !lines.contains_key(&key.text) {
                        lines.insert(key.text.clone(), key.at.line);
                        entries.push((key.clone(), Rc::clone(node)));
                    }
                }
            }
            NodeKind::List(items) if items.iter().all(|item| matches!(item.kind, NodeKind::Map(_))) => {
                for item in items {
                    self.merge(item, entries, lines);
                }
            }
            _ => {
                let message = format!("`<<` merges mappings, and this is {}", merged.what());
                self.report
                    .error_hint(merged.at, message, "write `<<: *name` or `<<: [*one, *two]`");
            }
        }
    }

    /// Puts a finished node where it belongs: as key, as value, as item, as the root.
    fn place(&mut self, node: Rc<Node>, anchor: usize, weight: Weight) -> Result<(), Stop> {
        if anchor > 0 {
            self.anchors.insert(anchor, (Rc::clone(&node), weight));
        }
        let Some(frame) = self.frames.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        frame.height = frame.height.max(weight.height);
        match &mut frame.inside {
            Inside::List(items) => items.push(node),
            Inside::Map {
                entries,
                lines,
                key: slot,
                merges,
            } => match slot.take() {
                None => *slot = Some(key_of(self.report, &node)),
                Some(Some(key)) if key.text == "<<" => merges.push(node),
                Some(Some(key)) => {
                    if let Some(line) = lines.get(&key.text) {
                        let message = format!("the key {} is there twice", quoted(&key.text));
                        self.report
                            .error_hint(key.at, message, format!("it was given first in line {line}"));
                    } else {
                        lines.insert(key.text.clone(), key.at.line);
                        entries.push((key, node));
                    }
                }
                Some(None) => {}
            },
        }
        Ok(())
    }
}

fn key_of(report: &Report, node: &Node) -> Option<Key> {
    if let NodeKind::Scalar { text, .. } = &node.kind {
        return Some(Key {
            at: node.at,
            text: text.clone(),
        });
    }
    report.error(node.at, format!("a key must be text, and this is {}", node.what()));
    None
}
