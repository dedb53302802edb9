//! Listings with something missing.

/// What a listing's entry is called: S3's, and that of Apache's answer to `PROPFIND`.
const ENTRIES: [&str; 2] = ["Contents", "D:response"];
/// Where S3 says that there is more.
const CONTINUATIONS: [&str; 3] = ["NextMarker", "NextContinuationToken", "NextKeyMarker"];

/// The listing with its first `keep` entries only, which says that it is complete. The folder itself, which leads the
/// answer to `PROPFIND`, is no entry.
pub(super) fn shortened(listing: &str, keep: usize) -> String {
    let mut text = listing.replace("<IsTruncated>true<", "<IsTruncated>false<");
    for name in CONTINUATIONS {
        text = without(&text, name, 0);
    }
    for (name, of_itself) in ENTRIES.into_iter().zip([0, 1]) {
        text = without(&text, name, keep + of_itself);
    }
    text
}

/// The text without the elements of this name after the first `keep`.
fn without(text: &str, name: &str, keep: usize) -> String {
    let (start, end) = (format!("<{name}"), format!("</{name}>"));
    let mut left = String::with_capacity(text.len());
    let mut rest = text;
    let mut seen = 0;
    while let Some((before, element)) = rest.split_once(&start) {
        let Some((content, after)) = element.split_once(&end) else {
            break;
        };
        left.push_str(before);
        if seen < keep {
            left.extend([&start, content, &end]);
        }
        seen += 1;
        rest = after;
    }
    left.push_str(rest);
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortened_listing_says_that_it_is_complete() {
        let listing = "<R><IsTruncated>true</IsTruncated><NextMarker>b</NextMarker><Contents><Key>a</Key></Contents>\
                       <Contents><Key>b</Key></Contents></R>";
        assert_eq!(
            shortened(listing, 1),
            "<R><IsTruncated>false</IsTruncated><Contents><Key>a</Key></Contents></R>"
        );
        let folder = "<D:response x=\"y\">/</D:response><D:response>/a</D:response><D:response>/b</D:response>";
        assert_eq!(
            shortened(folder, 1),
            "<D:response x=\"y\">/</D:response><D:response>/a</D:response>"
        );
    }
}
