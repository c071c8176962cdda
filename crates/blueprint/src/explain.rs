//! Where every value of a blueprint comes from.

use crate::problem::{At, Report, Whose};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Nobody said anything else.
    Default,
    /// A line of a file.
    File {
        /// Of which tree.
        whose: Whose,
        /// Its path.
        file: String,
        /// Counted from 1.
        line: u32,
    },
}

impl Place {
    pub(crate) fn at(report: &Report, at: At) -> Self {
        Self::File {
            whose: report.whose,
            file: report.path(at.file),
            line: at.line,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File {
                whose: Whose::Head,
                file,
                line,
            } => write!(f, "{file}:{line}"),
            Self::File {
                whose: Whose::Policy,
                file,
                line,
            } => write!(f, "{file}:{line} (policy branch)"),
        }
    }
}

/// One value and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    /// As people read it; safe to print.
    pub value: String,
    /// Where it comes from.
    pub from: Place,
}

/// All values, by dotted name: `stack.services.web.public`, `policy.sleep_after`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Explanation(pub BTreeMap<String, Explained>);

impl Explanation {
    pub(crate) fn set(&mut self, key: impl Into<String>, value: impl AsRef<str>, from: Place) {
        let value = crate::escape::escape(value.as_ref(), 200);
        self.0.insert(key.into(), Explained { value, from });
    }

    /// Notes a default unless the value is known to come from somewhere.
    pub(crate) fn fall_back(&mut self, key: impl Into<String>, value: impl AsRef<str>) {
        let value = crate::escape::escape(value.as_ref(), 200);
        self.0.entry(key.into()).or_insert(Explained {
            value,
            from: Place::Default,
        });
    }
}
