//! One behaviour table for two clusters: what a Kubernetes API is asked, and what a real one answered.
//!
//! The embedded cluster is asked always, a real one too when `SYNCLINE_E2E_KUBECONFIG` names it. A difference fails,
//! but for what `left-out.yaml` names; what it names and is met fails too.

#[cfg(test)]
mod compare;
#[cfg(test)]
mod kubectl;
#[cfg(test)]
mod lives;
#[cfg(test)]
mod rows;
#[cfg(test)]
mod site;
#[cfg(test)]
mod stage;
#[cfg(test)]
mod states;

/// A name of its own for each word, so that two runs on one cluster do not meet.
#[cfg(test)]
fn own_words(words: &[String]) -> Vec<(String, String)> {
    let suffix: String = (0..5).map(|_| rand::random_range('a'..='z')).collect();
    let own = |word: &String| (word.clone(), format!("{word}-{suffix}"));
    words.iter().map(own).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::kubectl::Session;
    use super::lives::Play;
    use super::own_words;
    use super::rows::{self, LeftOut, Story};
    use super::site::Site;
    use super::stage::Stage;

    /// Plays a story on every cluster of this run.
    async fn play(name: &str) {
        let story = Story::read(name);
        let mut surprises = Vec::new();
        for mut site in Site::all().await {
            if story.aged {
                site = site.aged().await;
            }
            if site.is_recorded() {
                record(name, &story, &site).await;
            } else {
                let found = play_on(name, &story, &site).await;
                surprises.extend(titled(&site, found));
            }
            site.stop().await;
        }
        must_be_none(name, &surprises);
    }

    /// Runs a session of kubectl on every cluster of this run.
    async fn run(name: &'static str) {
        let mut surprises = Vec::new();
        for site in Site::all().await {
            let played = tokio::task::spawn_blocking(move || {
                let session = Session::read(name);
                if site.is_recorded() {
                    session.record(name, &site);
                    return (site, Vec::new());
                }
                let left_out = left_out_at(&site, name);
                let found = session.play(name, &site, &left_out);
                (site, found)
            });
            let (site, found) = played.await.unwrap();
            surprises.extend(titled(&site, found));
            site.stop().await;
        }
        must_be_none(name, &surprises);
    }

    async fn play_on(name: &str, story: &Story, site: &Site) -> Vec<String> {
        let recorded = rows::recorded(name);
        let left_out = if site.is_embedded() {
            left_out_of(name)
        } else {
            Vec::new()
        };
        let mut stage = Stage::new(site, own_words(&story.names));
        let mut surprises = Vec::new();
        for row in &story.rows {
            let Some(title) = &row.name else {
                stage.prepare(row).await;
                continue;
            };
            let Some(line) = recorded.get(title) else {
                surprises.push(format!("«{title}» has no recorded answer"));
                continue;
            };
            let expected = left_out.contains(title);
            match stage.compare(row, &line["response"]).await {
                Ok(()) if expected => {
                    surprises.push(format!("«{title}» is met: take it off left-out.yaml"));
                }
                Err(difference) if !expected => surprises.push(format!("«{title}»\n{difference}")),
                _ => {}
            }
        }
        stage.clean_up(&story.clean_up).await;
        surprises
    }

    /// Writes the answers of a real cluster down.
    async fn record(name: &str, story: &Story, site: &Site) {
        let mut stage = Stage::new(site, []);
        let mut lines = Vec::new();
        for row in &story.rows {
            match &row.name {
                None => stage.prepare(row).await,
                Some(title) => {
                    lines.push(json!({ "name": title, "response": stage.record(row).await }));
                }
            }
        }
        stage.clean_up(&story.clean_up).await;
        rows::record(name, &lines);
    }

    /// What was found at a site, with its title.
    fn titled(site: &Site, found: Vec<String>) -> impl Iterator<Item = String> {
        found
            .into_iter()
            .map(move |text| format!("{}: {text}", site.title()))
    }

    fn must_be_none(name: &str, surprises: &[String]) {
        let count = surprises.len();
        assert!(
            surprises.is_empty(),
            "{count} rows of {name}:\n\n{}",
            surprises.join("\n\n")
        );
    }

    fn left_out_at(site: &Site, story: &str) -> Vec<String> {
        if site.is_embedded() {
            left_out_of(story)
        } else {
            Vec::new()
        }
    }

    fn left_out_of(story: &str) -> Vec<String> {
        let of_story = |entry: &LeftOut| entry.story == story;
        rows::left_out()
            .into_iter()
            .filter(of_story)
            .flat_map(|entry| entry.rows)
            .collect()
    }

    /// Plays scenes on every cluster of this run.
    async fn live(name: &str) {
        let play = Play::read(name);
        let mut surprises = Vec::new();
        for site in Site::all().await {
            if site.is_recorded() {
                play.record(name, &site).await;
            } else {
                let left_out = left_out_at(&site, name);
                let found = play.play(name, &site, &left_out).await;
                surprises.extend(titled(&site, found));
            }
            site.stop().await;
        }
        must_be_none(name, &surprises);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn things_live_and_end_as_on_a_real_cluster() {
        live("lifecycles").await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_recorded_behaviours_of_a_real_api_server_are_met() {
        play("behaviours").await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn objects_are_made_changed_checked_and_deleted() {
        play("objects").await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn lists_and_watches_select_page_and_keep_their_versions() {
        play("lists").await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn patches_merge_and_applying_keeps_owners() {
        play("patches").await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn custom_resources_follow_their_definitions() {
        play("custom").await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_deleted_takes_along_what_it_owns() {
        play("deletion").await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_forgotten_is_said_and_read_anew() {
        play("watches").await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn stock_kubectl_prints_the_same_of_what_runs() {
        run("kubectl-pods").await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn stock_kubectl_prints_the_same() {
        run("kubectl").await;
    }

    #[test]
    fn what_is_left_out_has_a_reason_and_is_a_row() {
        for entry in rows::left_out() {
            assert!(entry.reason.len() > 20, "{}: {}", entry.story, entry.reason);
            let names: Vec<String> = rows::recorded(&entry.story).into_keys().collect();
            for row in &entry.rows {
                assert!(names.contains(row), "no row «{row}» in {}", entry.story);
            }
        }
    }
}
