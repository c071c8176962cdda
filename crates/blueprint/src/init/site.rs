//! Pages that need no program: a folder with an `index.html`.

use super::detect::{Application, Folder};

pub(super) fn find(folder: &Folder<'_>) -> Option<Application> {
    let place = ["", "public", "site", "docs", "www"].iter().find(|place| {
        let index = if place.is_empty() {
            "index.html".to_owned()
        } else {
            format!("{place}/index.html")
        };
        folder.has(&index) && (place.is_empty() || folder.has_folder(place))
    })?;
    let mut found = folder.application("static pages", "nginx:stable".to_owned(), 80);
    found.folder = folder.at(place).trim_end_matches('/').to_owned();
    found.mounted_at = Some("/usr/share/nginx/html");
    Some(found)
}
