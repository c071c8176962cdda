//! What `doctor` says of images: the server that uses the configuration is asked, if it runs.

use super::spares::ask;
use crate::render::ago;
use api::{ImageList, ImageView};
use model::Timestamp;
use runtime_cell::doctor::{Finding, Status};
use server::config::ServerConfig;

/// One finding for all; nothing if there is no server to ask, which is said of the spares.
pub(super) fn findings(config: &ServerConfig, now: Timestamp) -> Vec<Finding> {
    let Ok(list) = ask::<ImageList>(config, "/images") else {
        return Vec::new();
    };
    let one = |image: &ImageView| {
        let used = ago(image.last_used, now);
        let megabytes = image.bytes.div_ceil(1_000_000);
        format!(
            "{} {}, {megabytes} MB, wanted {used} ago",
            image.digest.short(),
            image.reference
        )
    };
    let parts: Vec<String> = list.images.iter().map(one).collect();
    vec![Finding {
        check: "images".to_owned(),
        status: Status::Ok,
        meaning: match parts.as_slice() {
            [] => "none".to_owned(),
            parts => parts.join("; "),
        },
        mend: None,
    }]
}
