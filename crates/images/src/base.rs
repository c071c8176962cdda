//! An image as builders want it: that of Debian 12 refuses one whose history does not name each layer, as small tools make
//! them, and finds nothing in its cache that starts from one whose history has no times.

use crate::digest::BlobDigest;
use serde_json::{Value, json};

/// When a layer was made of which nobody has said when.
const BEGINNING: &str = "1970-01-01T00:00:00Z";

/// A manifest and a configuration of the same image with a complete history, and the digest of that configuration. As they are if
/// nothing is missing, or if they can not be read: then the builder says what is wrong with them.
#[must_use]
pub fn documented(manifest: &[u8], config: &[u8]) -> (Vec<u8>, Vec<u8>, BlobDigest) {
    completed(manifest, config).unwrap_or_else(|| (manifest.to_vec(), config.to_vec(), BlobDigest::of(config)))
}

fn completed(manifest: &[u8], config: &[u8]) -> Option<(Vec<u8>, Vec<u8>, BlobDigest)> {
    let mut manifest: Value = serde_json::from_slice(manifest).ok()?;
    let mut config: Value = serde_json::from_slice(config).ok()?;
    let layers = config["rootfs"]["diff_ids"].as_array()?.len();
    let whole = |step: &&Value| step["empty_layer"].as_bool() != Some(true);
    let told = config["history"]
        .as_array()
        .map_or(0, |h| h.iter().filter(whole).count());
    let timed = |history: &Vec<Value>| history.iter().all(|step| step["created"].is_string());
    if told == layers && config["history"].as_array().is_none_or(timed) {
        return None;
    }
    if told != layers {
        config["history"] = vec![json!({ "created_by": "unknown" }); layers].into();
    }
    for step in config["history"].as_array_mut()? {
        step.as_object_mut()?
            .entry("created")
            .or_insert_with(|| BEGINNING.into());
    }
    let config = serde_json::to_vec(&config).ok()?;
    let digest = BlobDigest::of(&config);
    let named = manifest.get_mut("config")?.as_object_mut()?;
    named.insert("digest".to_owned(), digest.to_string().into());
    named.insert("size".to_owned(), config.len().into());
    Some((serde_json::to_vec(&manifest).ok()?, config, digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_is_completed_and_the_manifest_names_the_new_configuration() {
        let diffs = ["a", "b"].map(|l| format!("sha256:{}", l.repeat(64)));
        let config = json!({ "config": { "User": "web" }, "rootfs": { "diff_ids": diffs } }).to_string();
        let manifest = json!({ "config": { "digest": "old", "size": 1 }, "layers": [1, 2] }).to_string();
        let (made, completed, digest) = documented(manifest.as_bytes(), config.as_bytes());
        let read: Value = serde_json::from_slice(&completed).unwrap();
        assert_eq!(read["history"].as_array().unwrap().len(), 2);
        assert_eq!(read["history"][1]["created"], BEGINNING);
        assert_eq!(read["config"]["User"], "web");
        let named: Value = serde_json::from_slice(&made).unwrap();
        assert_eq!(
            named["config"],
            json!({ "digest": digest.to_string(), "size": completed.len() })
        );
        assert_eq!(named["layers"], json!([1, 2]));

        assert_eq!(documented(&made, &completed), (made.clone(), completed.clone(), digest));
    }

    #[test]
    fn what_can_not_be_read_stays_as_it_is() {
        let (manifest, config, _) = documented(b"<html>", b"{}");
        assert_eq!((manifest.as_slice(), config.as_slice()), (&b"<html>"[..], &b"{}"[..]));
    }
}
