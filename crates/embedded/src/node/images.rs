//! Images are not pulled: a name stands for a program of the host.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The program of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Image<'a> {
    /// Its name without tag and digest; the program appears as `/<name>`.
    pub(crate) name: &'a str,
    /// The program on the host.
    pub(crate) executable: &'a Path,
}

/// Finds an image by its exact name; whatever tag or digest follows is of no matter, since there is one version only.
pub(crate) fn find<'a>(images: &'a BTreeMap<String, PathBuf>, image: &str) -> Option<Image<'a>> {
    let bare = image.split_once('@').map_or(image, |(bare, _)| bare);
    let name = match bare.rsplit_once(':') {
        // A colon before the last slash belongs to a registry's port.
        Some((name, tag)) if !tag.contains('/') => name,
        _ => bare,
    };
    images
        .get_key_value(name)
        .map(|(name, executable)| Image { name, executable })
}

/// What the status of a container with another image says.
pub(crate) fn refusal(images: &BTreeMap<String, PathBuf>, image: &str) -> String {
    let known: Vec<&str> = images.keys().map(String::as_str).collect();
    format!(
        "Container image \"{image}\" is not present with pull policy of Never: the embedded cluster pulls no images; use one of its own: {}",
        known.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_found_by_its_name_whatever_its_tag() {
        let images = BTreeMap::from([("syncline".to_owned(), PathBuf::from("/usr/bin/syncline"))]);
        for name in [
            "syncline",
            "syncline:latest",
            "syncline@sha256:00",
            "syncline:1@sha256:00",
        ] {
            assert_eq!(
                find(&images, name).map(|image| image.name),
                Some("syncline"),
                "{name}"
            );
        }
        for name in ["quay.io/syncline", "localhost:5000/syncline", "busybox", ""] {
            assert_eq!(find(&images, name), None, "{name}");
        }
        assert!(refusal(&images, "busybox").contains("use one of its own: syncline"));
    }
}
