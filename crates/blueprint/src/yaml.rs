//! YAML as a tree that remembers where everything stands. Depth, nodes and expanded aliases are bounded, duplicate keys are
//! refused, merge keys (`<<`) are resolved.

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

/// A value and its place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) at: At,
    pub(crate) kind: NodeKind,
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
    anchor: usize,
    begun: Weight,
    height: usize,
    inside: Inside,
}

struct Loader<'a> {
    report: &'a Report,
    frames: Vec<Frame>,
    anchors: HashMap<usize, (Rc<Node>, Weight)>,
    total: Weight,
    root: Option<Rc<Node>>,
}

/// Loading can't go on; the problem is in the report.
struct Stop;

fn at(marker: Marker) -> At {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    At {
        line: number(marker.line()),
        column: number(marker.col().saturating_add(1)),
    }
}

/// Loads the one document of a file. Problems go to the report; `None` if there is no tree to go on with.
pub(crate) fn load(report: &Report) -> Option<Rc<Node>> {
    if let Some((line, column)) = position_of(&report.text, '\0') {
        report.error(At { line, column }, "there is a NUL character in the file");
        return None;
    }
    let mut loader = Loader {
        report,
        frames: Vec::new(),
        anchors: HashMap::new(),
        total: Weight::default(),
        root: None,
    };
    let mut documents = 0;
    for event in Parser::new_from_str(&report.text) {
        let (event, span) = match event {
            Ok(event) => event,
            Err(error) => {
                report.error(at(*error.marker()), format!("not valid YAML: {}", error.info()));
                return None;
            }
        };
        if matches!(event, Event::DocumentStart(_)) {
            documents += 1;
            if documents > 1 {
                report.error_hint(
                    at(span.start),
                    "there is a second YAML document in the file",
                    "only one document is read: remove the `---` line and what follows",
                );
                return None;
            }
            continue;
        }
        loader.event(event, at(span.start)).ok()?;
    }
    Some(loader.root.unwrap_or_else(|| {
        Rc::new(Node {
            at: At { line: 1, column: 1 },
            kind: NodeKind::Null,
        })
    }))
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
                let plain = self.tag(at, tag.as_deref(), style == ScalarStyle::Plain);
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
                self.place(Rc::new(Node { at, kind }), anchor, weight)
            }
            Event::SequenceStart(anchor, tag) => {
                self.tag(at, tag.as_deref(), false);
                self.open(at, anchor, Inside::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                self.tag(at, tag.as_deref(), false);
                let inside = Inside::Map {
                    entries: Vec::new(),
                    lines: BTreeMap::new(),
                    key: None,
                    merges: Vec::new(),
                };
                self.open(at, anchor, inside)
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

    /// Whether a scalar with that tag may be more than text. Tags that change how files are put together are refused.
    fn tag(&self, at: At, tag: Option<&Tag>, plain: bool) -> bool {
        match tag {
            None => plain,
            Some(tag) if tag.is_yaml_core_schema() => plain && tag.suffix != "str",
            Some(tag) if tag.handle.is_empty() && tag.suffix == "!" => false,
            Some(tag) => {
                self.report.error_hint(
                    at,
                    format!("the tag {} is not supported", quoted(&tag.to_string())),
                    "write the value without it",
                );
                plain
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

    fn open(&mut self, at: At, anchor: usize, inside: Inside) -> Result<(), Stop> {
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
        self.place(Rc::new(Node { at: frame.at, kind }), frame.anchor, weight)
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
