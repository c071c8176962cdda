//! Tokens: made from 256 random bits, shown once, kept as hashes.

use gateway::Secret;
use model::Timestamp;
use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};
use store::{SecretHash, Store, StoreError};

/// The longest file that can be a token, in bytes.
const FILE_MAX: u64 = 1024;

/// The operator's token could not be seen to.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file can not be read or written.
    #[error("{} can not be read or written", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file holds something else.
    #[error("{} does not hold a token; remove it and a new one is made", path.display())]
    NoToken {
        /// Its path.
        path: PathBuf,
    },
    /// The kernel has no randomness to give.
    #[error("no randomness for a token")]
    Randomness {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The store failed.
    #[error("the token can not be stored")]
    Store {
        /// Why.
        #[source]
        source: StoreError,
    },
}

/// The hash under which a secret is kept.
pub(crate) fn hash(secret: &Secret) -> SecretHash {
    SecretHash(*secret.hash().as_bytes())
}

pub(crate) fn generate() -> Result<Secret, TokenError> {
    Secret::generate().map_err(|error| TokenError::Randomness {
        source: io::Error::other(error.to_string()),
    })
}

/// Sees to it that the file holds a token that the store knows as an operator's: makes both at the first start, and makes the
/// store know the file's token again when the store was lost.
///
/// # Errors
/// [`TokenError`].
pub async fn operator_token(store: &Store, path: &Path, at: Timestamp) -> Result<(), TokenError> {
    let file = |source| TokenError::File {
        path: path.to_owned(),
        source,
    };
    let secret = match fs::metadata(path) {
        Ok(metadata) if metadata.len() > FILE_MAX => return Err(TokenError::NoToken { path: path.to_owned() }),
        Ok(_) => {
            let text = fs::read_to_string(path).map_err(file)?;
            Secret::parse(text.trim().as_bytes()).ok_or_else(|| TokenError::NoToken { path: path.to_owned() })?
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let secret = generate()?;
            write_private(path, &secret).map_err(file)?;
            secret
        }
        Err(error) => return Err(file(error)),
    };
    let known = store
        .token_find(&hash(&secret))
        .await
        .map_err(|source| TokenError::Store { source })?;
    if known.is_none() {
        let role = crate::access::Role::Operator.word();
        store
            .token_create("operator", role, &hash(&secret), at, None)
            .await
            .map_err(|source| TokenError::Store { source })?;
    }
    Ok(())
}

/// The file appears whole or not at all, and is never readable by others.
fn write_private(path: &Path, secret: &Secret) -> io::Result<()> {
    let temporary = path.with_extension("new");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    writeln!(file, "{}", secret.expose())?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[tokio::test]
    async fn the_token_is_made_once_private_and_valid_again_after_a_lost_store() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("operator.token");
        let store = Store::in_memory().await.unwrap();
        operator_token(&store, &path, Timestamp(1)).await.unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        operator_token(&store, &path, Timestamp(2)).await.unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        assert_eq!(store.token_list().await.unwrap().len(), 1);

        let fresh = Store::in_memory().await.unwrap();
        operator_token(&fresh, &path, Timestamp(3)).await.unwrap();
        let secret = Secret::parse(text.trim().as_bytes()).unwrap();
        assert_eq!(
            fresh.token_find(&hash(&secret)).await.unwrap().unwrap().role,
            "operator"
        );
    }

    #[tokio::test]
    async fn a_file_that_holds_no_token_is_not_taken_for_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("operator.token");
        let store = Store::in_memory().await.unwrap();
        for bad in [String::new(), "short".to_owned(), "x".repeat(5_000)] {
            fs::write(&path, bad).unwrap();
            let error = operator_token(&store, &path, Timestamp(1)).await.unwrap_err();
            assert!(matches!(error, TokenError::NoToken { .. }));
        }
    }
}
