//! What is wrong with a blueprint, where, and what to do about it.

use crate::escape::{escape, is_hostile};
use serde::{Deserialize, Serialize};
use std::{
    cell::{Cell, RefCell},
    cmp::Ordering,
    collections::BTreeMap,
    fmt,
    rc::Rc,
};

/// More problems than this are not listed one by one.
const PROBLEMS_MAX: usize = 100;
/// How much of a source line is shown, in characters.
const EXCERPT_MAX: usize = 100;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Nothing is run.
    Error,
    /// It runs, but not all that is written there has an effect.
    Warning,
}

/// Which of the two trees something was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Whose {
    /// The commit that the environment is for.
    Head,
    /// The project's policy branch.
    Policy,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Problem {
    /// Which tree the file is in.
    pub whose: Whose,
    /// Path of the file.
    pub file: String,
    /// Line, counted from 1; absent if the problem concerns the file as a whole.
    pub line: Option<u32>,
    /// Column in characters, counted from 1.
    pub column: Option<u32>,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong; one line, safe to print.
    pub message: String,
    /// What to do about it; one line, safe to print.
    pub hint: Option<String>,
    /// The source line, shortened and safe to print.
    pub excerpt: Option<Excerpt>,
    /// How the value came there: by which interpolation, from which included file; one line, safe to print.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A source line as it is shown below a problem.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Excerpt {
    /// The text.
    pub text: String,
    /// How many characters stand before the place in question.
    pub caret: u32,
}

impl Excerpt {
    /// Cuts a window out of a line so that the column (counted from 1) is inside it.
    fn of(line: &str, column: u32) -> Self {
        let column = column.max(1) as usize - 1;
        let from = if column > EXCERPT_MAX * 3 / 4 {
            column - EXCERPT_MAX / 2
        } else {
            0
        };
        let mut text = String::new();
        let mut caret = 0;
        if from > 0 {
            text.push('…');
        }
        for (index, c) in line.chars().enumerate().skip(from) {
            if index == column {
                caret = text.chars().count();
            }
            match c {
                _ if index == from + EXCERPT_MAX => {
                    text.push('…');
                    break;
                }
                '\t' => text.push(' '),
                c if is_hostile(c) => text.extend(c.escape_unicode()),
                c => text.push(c),
            }
        }
        let text = text.trim_end().to_owned();
        if column >= line.chars().count() {
            caret = text.chars().count();
        }
        Self {
            text,
            caret: u32::try_from(caret).unwrap_or(0),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
            if let Some(column) = self.column {
                write!(f, ":{column}")?;
            }
        }
        if self.whose == Whose::Policy {
            f.write_str(" (policy branch)")?;
        }
        f.write_str(": ")?;
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        f.write_str(&self.message)?;
        if let (Some(excerpt), Some(line)) = (&self.excerpt, self.line) {
            write!(
                f,
                "\n{line:>5} | {}\n      | {:caret$}^",
                excerpt.text,
                "",
                caret = excerpt.caret as usize
            )?;
        }
        if let Some(note) = &self.note {
            write!(f, "\n  note: {note}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

/// Why there is no blueprint: at least one error, and the warnings that were found beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(transparent)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

/// The most notes that are kept on how values came where they are.
const NOTES_MAX: usize = 20_000;
/// The most files that are read on account of another one, and their bytes together.
const FURTHER_MAX: usize = 5_000;
const FURTHER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A place in one of the files of a report: line and column, counted from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct At {
    /// Which file; 0 is the first one.
    pub(crate) file: u16,
    pub(crate) line: u32,
    pub(crate) column: u32,
}

/// Collects the problems of a file, and of those that are read on its account.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) whose: Whose,
    pub(crate) file: String,
    pub(crate) text: String,
    /// Files that were read on account of the first one.
    further: RefCell<Vec<Rc<Further>>>,
    /// How large they are together.
    bytes: Cell<usize>,
    /// How values came to their places.
    notes: RefCell<BTreeMap<At, String>>,
    problems: RefCell<Vec<Problem>>,
}

/// A further file of a report.
#[derive(Debug)]
struct Further {
    path: String,
    text: Rc<str>,
    /// Why it is read.
    note: String,
}

impl Report {
    pub(crate) fn new(whose: Whose, file: &str, text: String) -> Self {
        Self {
            whose,
            file: escape(file, 300),
            text,
            further: RefCell::default(),
            bytes: Cell::default(),
            notes: RefCell::default(),
            problems: RefCell::default(),
        }
    }

    /// Adds a file that is read on account of this one; `note` says why. Places in it carry the number that is returned.
    pub(crate) fn add(&self, path: &str, text: String, note: &str) -> u16 {
        let (path, note) = (escape(path, 300), escape(note, 300));
        let number = |index: usize| u16::try_from(index + 1).unwrap_or(u16::MAX);
        let mut further = self.further.borrow_mut();
        let known = further.iter().position(|one| one.path == path && *one.text == *text);
        let text: Rc<str> = match known {
            Some(index) if further[index].note == note => return number(index),
            Some(index) => Rc::clone(&further[index].text),
            None => text.into(),
        };
        let fresh = if known.is_none() { text.len() } else { 0 };
        let whole = self.bytes.get() + fresh;
        if whole > FURTHER_BYTES_MAX || further.len() >= FURTHER_MAX {
            drop(further);
            self.error(
                None,
                format!("the files that {} names are too many or too large", self.file),
            );
            return u16::MAX;
        }
        self.bytes.set(whole);
        further.push(Rc::new(Further { path, text, note }));
        number(further.len() - 1)
    }

    fn further(&self, file: u16) -> Option<Rc<Further>> {
        let index = usize::from(file).checked_sub(1)?;
        self.further.borrow().get(index).cloned()
    }

    /// The path of one of the files.
    pub(crate) fn path(&self, file: u16) -> String {
        self.further(file)
            .map_or_else(|| self.file.clone(), |further| further.path.clone())
    }

    /// The text of one of the files; nothing for one that was too much.
    pub(crate) fn text(&self, file: u16) -> Rc<str> {
        if file == u16::MAX {
            return "".into();
        }
        self.further(file)
            .map_or_else(|| self.text.as_str().into(), |further| Rc::clone(&further.text))
    }

    /// A place as it is named within a sentence: `compose.yaml:12`.
    pub(crate) fn name(&self, at: At) -> String {
        format!("{}:{}", self.path(at.file), at.line)
    }

    /// Says how the value at a place came there, for the problems that it may have.
    pub(crate) fn note(&self, at: At, note: &str) {
        let mut notes = self.notes.borrow_mut();
        if notes.len() < NOTES_MAX {
            notes.insert(at, escape(note, 300));
        }
    }

    fn note_of(&self, at: At) -> Option<String> {
        let own = self.notes.borrow().get(&at).cloned();
        let file = self.further(at.file).map(|further| further.note.clone());
        let parts: Vec<String> = [own, file]
            .into_iter()
            .flatten()
            .filter(|part| !part.is_empty())
            .collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    fn push(&self, severity: Severity, at: Option<At>, message: &str, hint: Option<&str>) {
        let mut problems = self.problems.borrow_mut();
        let (severity, at, message, hint) = match problems.len().cmp(&PROBLEMS_MAX) {
            Ordering::Less => (severity, at, message, hint),
            Ordering::Equal => (
                Severity::Error,
                None,
                "there are more problems in this file than are shown",
                None,
            ),
            Ordering::Greater => return,
        };
        let excerpt = at.and_then(|at| {
            let line = at.line.checked_sub(1)? as usize;
            match self.further(at.file) {
                Some(further) => further.text.lines().nth(line).map(|text| Excerpt::of(text, at.column)),
                None => self.text.lines().nth(line).map(|text| Excerpt::of(text, at.column)),
            }
        });
        let problem = Problem {
            whose: self.whose,
            file: at.map_or_else(|| self.file.clone(), |at| self.path(at.file)),
            line: at.map(|at| at.line).filter(|line| *line > 0),
            column: at.map(|at| at.column).filter(|column| *column > 0),
            severity,
            message: escape(message, 500),
            hint: hint.map(|hint| escape(hint, 500)),
            excerpt,
            note: at.and_then(|at| self.note_of(at)),
        };
        // An anchor that is used ten times is wrong once.
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }

    pub(crate) fn error(&self, at: impl Into<Option<At>>, message: impl AsRef<str>) {
        self.push(Severity::Error, at.into(), message.as_ref(), None);
    }

    pub(crate) fn error_hint(&self, at: impl Into<Option<At>>, message: impl AsRef<str>, hint: impl AsRef<str>) {
        self.push(Severity::Error, at.into(), message.as_ref(), Some(hint.as_ref()));
    }

    pub(crate) fn warn(&self, at: impl Into<Option<At>>, message: impl AsRef<str>) {
        self.push(Severity::Warning, at.into(), message.as_ref(), None);
    }

    pub(crate) fn warn_hint(&self, at: impl Into<Option<At>>, message: impl AsRef<str>, hint: impl AsRef<str>) {
        self.push(Severity::Warning, at.into(), message.as_ref(), Some(hint.as_ref()));
    }

    /// The same file for a second look whose problems nobody reads.
    pub(crate) fn silent(&self) -> Self {
        Self {
            whose: self.whose,
            file: self.file.clone(),
            text: String::new(),
            further: RefCell::default(),
            bytes: Cell::default(),
            notes: RefCell::default(),
            problems: RefCell::default(),
        }
    }

    /// Takes over what another report of the same file found.
    pub(crate) fn adopt(&self, other: &Self) {
        self.problems.borrow_mut().append(&mut other.take());
    }

    /// Whether further problems are dropped, so that looking for their places is of no use.
    pub(crate) fn is_full(&self) -> bool {
        self.problems.borrow().len() > PROBLEMS_MAX
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.problems.borrow().iter().any(|p| p.severity == Severity::Error)
    }

    pub(crate) fn take(&self) -> Vec<Problem> {
        std::mem::take(&mut self.problems.borrow_mut())
    }
}

/// Puts the problems of several files in an order for people: errors and warnings together, by file and line.
pub(crate) fn sorted(reports: &[&Report]) -> Vec<Problem> {
    let mut all: Vec<Problem> = reports.iter().flat_map(|report| report.take()).collect();
    all.sort();
    all.dedup();
    all
}
