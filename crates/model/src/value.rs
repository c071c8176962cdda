//! Values of settings, which may be secrets by reference.

use serde::{Deserialize, Serialize};

/// The name of a secret. The value is known to the `secrets` crate alone and is resolved last.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretRef(pub String);

/// A setting: plain text, or a reference to a secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// Text that anyone who may read the plan may see.
    Plain(String),
    /// The secret of that name.
    Secret(SecretRef),
    /// These, one after the other: text around a secret.
    Joined(Vec<Value>),
}

impl Value {
    /// The text, unless it is a secret.
    #[must_use]
    pub fn plain(&self) -> Option<&str> {
        match self {
            Self::Plain(text) => Some(text),
            Self::Secret(_) | Self::Joined(_) => None,
        }
    }

    /// The secrets that it is made of.
    #[must_use]
    pub fn secrets(&self) -> Vec<&SecretRef> {
        match self {
            Self::Plain(_) => Vec::new(),
            Self::Secret(name) => vec![name],
            Self::Joined(parts) => parts.iter().flat_map(Self::secrets).collect(),
        }
    }

    /// What it stands for, its secrets looked up: bytes, since a secret may hold any.
    ///
    /// # Errors
    /// The name of a secret that is not known.
    pub fn reveal<'a>(&self, known: &dyn Fn(&SecretRef) -> Option<&'a [u8]>) -> Result<Vec<u8>, SecretRef> {
        match self {
            Self::Plain(text) => Ok(text.clone().into_bytes()),
            Self::Secret(name) => known(name).map(<[u8]>::to_vec).ok_or_else(|| name.clone()),
            Self::Joined(parts) => {
                let parts: Result<Vec<_>, _> = parts.iter().map(|part| part.reveal(known)).collect();
                Ok(parts?.concat())
            }
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Plain(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Plain(text)
    }
}
