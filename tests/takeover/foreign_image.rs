//! A mover image that is not Syncline's.

use std::time::Instant;

use anyhow::Result;
use serde_json::{Value, json};
use syncline_operator::options::{MoverImages, Options};
use syncline_testkit::{Site, scenario};
use syncline_tests::parts::{condition, destination, text};

use crate::operators::{Operator, STRANGER, cluster, options};

async fn refused(site: &Site, name: &str) -> Result<String> {
    site.wait(
        "ReplicationDestination",
        name,
        "the image refused",
        |object: &Value| {
            let message = text(condition(object, "Synchronizing")?, "/message")?;
            message
                .starts_with("MoverImageNotSyncline")
                .then(|| message.to_owned())
        },
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_image_is_refused_by_name_after_one_pod_and_for_all() -> Result<()> {
    scenario(cluster().await?, "image", |stage| async move {
        let site = stage.site("west").await?;
        let images = MoverImages::all(STRANGER);
        let begun = Instant::now();
        let operator = Operator::start(
            &stage.cluster,
            Options {
                images,
                ..options()
            },
        )
        .await?;
        site.apply(destination("one", json!({}))).await?;
        let message = refused(&site, "one").await?;
        assert!(
            message.contains(STRANGER) && message.contains("--rsync-container-image"),
            "{message}"
        );
        site.wait_gone("Job", "volsync-rsync-dst-one").await?;
        for name in ["two", "three"] {
            site.apply(destination(name, json!({}))).await?;
            refused(&site, name).await?;
        }
        let of_jobs = |write: &String| write.starts_with("PATCH") && write.contains("/jobs/");
        let jobs = operator
            .sent
            .writes()
            .iter()
            .filter(|write| of_jobs(write))
            .count();
        // One finds out; after that one in five seconds or more tries again, whoever that is.
        let most = 1 + begun.elapsed().as_secs() / 5;
        assert!(
            u64::try_from(jobs)? <= most,
            "{jobs} Jobs were made: {:?}",
            operator.sent.writes()
        );
        operator.stop().await
    })
    .await
}
