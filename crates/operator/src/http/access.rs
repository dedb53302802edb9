//! Who may read metrics: whoever the API server says may `get` the path `/metrics`, as in every controller of this kind.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::Client;
use kube::api::{Api, PostParams};
use sha2::{Digest, Sha256};

use crate::clock::Clock;
use crate::reconcile::chain;

/// The path that a reader must be allowed to get.
const PATH: &str = "/metrics";
/// How long an answer of the API server is believed: as long as Kubernetes' own components believe it.
const ALLOWED_FOR: Duration = Duration::from_secs(60);
const DENIED_FOR: Duration = Duration::from_secs(10);
/// Answers that are kept at most; whoever sends more tokens than that pays with a question for each.
const KEPT: usize = 1024;

type Token = [u8; 32];

/// Asks the API server, and remembers its answers for a moment. Tokens are kept as their hashes only.
#[derive(Clone)]
pub struct Access {
    client: Client,
    clock: Arc<dyn Clock>,
    answers: Arc<Mutex<HashMap<Token, Answer>>>,
}

#[derive(Clone, Copy, Debug)]
struct Answer {
    status: StatusCode,
    until: Duration,
}

impl Access {
    /// Nobody has asked yet.
    pub fn new(client: Client, clock: Arc<dyn Clock>) -> Self {
        Self {
            client,
            clock,
            answers: Arc::default(),
        }
    }

    /// Whether a request may go on: 200, 401 without a valid token, 403 without the right, 500 when nobody can tell.
    pub(super) async fn of(&self, headers: &HeaderMap) -> StatusCode {
        let Some(token) = bearer(headers) else {
            return StatusCode::UNAUTHORIZED;
        };
        let key: Token = Sha256::digest(token.as_bytes()).into();
        if let Some(known) = self.known(&key) {
            return known;
        }
        match self.ask(token).await {
            Ok(status) => {
                self.remember(key, status);
                status
            }
            Err(error) => {
                tracing::warn!(
                    error = chain(&error),
                    "who asks for metrics cannot be found out; see that the operator may create tokenreviews and \
                     subjectaccessreviews"
                );
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }

    async fn ask(&self, token: &str) -> Result<StatusCode, kube::Error> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: Some(token.to_owned()),
                ..TokenReviewSpec::default()
            },
            ..TokenReview::default()
        };
        let reviews: Api<TokenReview> = Api::all(self.client.clone());
        let reviewed = reviews.create(&PostParams::default(), &review).await?;
        let status = reviewed.status.unwrap_or_default();
        let Some(user) = status.user.filter(|_| status.authenticated == Some(true)) else {
            return Ok(StatusCode::UNAUTHORIZED);
        };
        let reviews: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let answer = reviews
            .create(&PostParams::default(), &question(user))
            .await?;
        Ok(if answer.status.is_some_and(|status| status.allowed) {
            StatusCode::OK
        } else {
            StatusCode::FORBIDDEN
        })
    }

    fn known(&self, key: &Token) -> Option<StatusCode> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = answers.get(key)?;
        (self.clock.uptime() < answer.until).then_some(answer.status)
    }

    fn remember(&self, key: Token, status: StatusCode) {
        let now = self.clock.uptime();
        let lasts = if status == StatusCode::OK {
            ALLOWED_FOR
        } else {
            DENIED_FOR
        };
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.retain(|_, answer| now < answer.until);
        if answers.len() < KEPT {
            answers.insert(
                key,
                Answer {
                    status,
                    until: now + lasts,
                },
            );
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn question(user: UserInfo) -> SubjectAccessReview {
    SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: user.username,
            groups: user.groups,
            uid: user.uid,
            extra: user.extra,
            non_resource_attributes: Some(NonResourceAttributes {
                path: Some(PATH.to_owned()),
                verb: Some("get".to_owned()),
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http_body_util::BodyExt;
    use kube::client::Body;
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::clock::SystemClock;

    /// An API server that knows the tokens `reader` and `stranger`.
    fn access(asked: &Arc<AtomicUsize>) -> Access {
        let asked = Arc::clone(asked);
        let service = tower::service_fn(move |request: http::Request<Body>| {
            asked.fetch_add(1, Ordering::SeqCst);
            async move {
                let path = request.uri().path().to_owned();
                let bytes = request.into_body().collect().await.unwrap().to_bytes();
                let mut review: Value = serde_json::from_slice(&bytes).unwrap();
                review["status"] = if path.ends_with("/tokenreviews") {
                    let name = review["spec"]["token"].clone();
                    let known = ["reader", "stranger"].contains(&name.as_str().unwrap());
                    json!({"authenticated": known, "user": {"username": name}})
                } else {
                    assert_eq!(
                        review["spec"]["nonResourceAttributes"],
                        json!({"path": "/metrics", "verb": "get"})
                    );
                    json!({"allowed": review["spec"]["user"] == "reader"})
                };
                let answer = Body::from(serde_json::to_vec(&review).unwrap());
                Ok::<_, std::convert::Infallible>(
                    http::Response::builder().status(201).body(answer).unwrap(),
                )
            }
        });
        Access::new(Client::new(service, "default"), Arc::new(SystemClock))
    }

    fn with(value: Option<&str>) -> HeaderMap {
        let values = value.map(|value| (header::AUTHORIZATION, value.parse().unwrap()));
        values.into_iter().collect()
    }

    #[rstest]
    #[case(None, StatusCode::UNAUTHORIZED)]
    #[case(Some("Basic reader"), StatusCode::UNAUTHORIZED)]
    #[case(Some("Bearer forged"), StatusCode::UNAUTHORIZED)]
    #[case(Some("Bearer stranger"), StatusCode::FORBIDDEN)]
    #[case(Some("bearer reader"), StatusCode::OK)]
    #[tokio::test]
    async fn metrics_are_for_whom_the_api_server_allows_them(
        #[case] header: Option<&str>,
        #[case] expected: StatusCode,
    ) {
        assert_eq!(access(&Arc::default()).of(&with(header)).await, expected);
    }

    #[tokio::test]
    async fn the_same_reader_is_asked_about_once_a_minute() {
        let asked = Arc::default();
        let access = access(&asked);
        for _ in 0..5 {
            assert_eq!(
                access.of(&with(Some("Bearer reader"))).await,
                StatusCode::OK
            );
        }
        assert_eq!(
            asked.load(Ordering::SeqCst),
            2,
            "one review of the token, one of the right"
        );
    }
}
