//! Elections in virtual time: candidates with clocks of their own, an API server that keeps one lease, and everything
//! that may go wrong between them. At each second at most one fence is open.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use kube::client::Body;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Elector, Fence};
use crate::clock::Clock;
use crate::options::{Election, Timing};

/// What the tests turn: the one true time.
type Time = watch::Sender<Duration>;

/// What is the matter with a candidate's process or network.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Trouble {
    /// Its process does not run, though time passes for it.
    paused: bool,
    /// Its requests never arrive.
    cut: bool,
    /// Its requests arrive, and the answers get lost.
    deaf: bool,
}

#[derive(Clone)]
struct NodeClock {
    time: Time,
    trouble: watch::Sender<Trouble>,
    /// How wrong its wall clock is.
    skew: watch::Sender<SignedDuration>,
}

impl Clock for NodeClock {
    fn now(&self) -> Timestamp {
        let start = Timestamp::from_second(1_000_000_000).unwrap();
        start + *self.time.borrow() + *self.skew.borrow()
    }

    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        let wait = at.duration_since(self.now());
        self.rest(Duration::try_from(wait).unwrap_or_default())
    }

    fn uptime(&self) -> Duration {
        *self.time.borrow()
    }

    fn rest(&self, wait: Duration) -> BoxFuture<'static, ()> {
        let at = self.uptime() + wait;
        let (mut time, mut trouble) = (self.time.subscribe(), self.trouble.subscribe());
        async move {
            let _ = time.wait_for(|now| *now >= at).await;
            let _ = trouble.wait_for(|trouble| !trouble.paused).await;
        }
        .boxed()
    }
}

/// The API server: one lease, and its version.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<(Option<Value>, u64)>>);

impl Server {
    fn client(&self, trouble: &watch::Sender<Trouble>) -> Client {
        let (server, trouble) = (self.clone(), trouble.clone());
        let service = tower::service_fn(move |request: Request<Body>| {
            let (server, trouble) = (server.clone(), trouble.clone());
            async move {
                let mut seen = trouble.subscribe();
                if trouble.borrow().cut {
                    return Err(std::io::Error::other("no route"));
                }
                let (parts, body) = request.into_parts();
                let body = body
                    .collect()
                    .await
                    .map_err(std::io::Error::other)?
                    .to_bytes();
                let (code, answer) =
                    server.answer(&parts.method, serde_json::from_slice(&body).ok());
                if trouble.borrow().deaf {
                    let _ = seen.wait_for(|trouble| !trouble.deaf).await;
                    return Err(std::io::Error::other("the connection broke"));
                }
                let bytes = serde_json::to_vec(&answer).map_err(std::io::Error::other)?;
                Response::builder()
                    .status(code)
                    .body(Body::from(bytes))
                    .map_err(std::io::Error::other)
            }
        });
        Client::new(service, "volsync")
    }

    fn answer(&self, method: &Method, body: Option<Value>) -> (StatusCode, Value) {
        let mut kept = self.0.lock().unwrap();
        let version = kept
            .0
            .as_ref()
            .map(|lease| lease["metadata"]["resourceVersion"].clone());
        let refusal = |code: StatusCode| {
            let reason = if code == StatusCode::NOT_FOUND {
                "NotFound"
            } else {
                "Conflict"
            };
            let text = json!({"kind": "Status", "status": "Failure", "code": code.as_u16(), "message": reason, "reason": reason});
            (code, text)
        };
        match (method.as_str(), body, version) {
            ("GET", _, Some(_)) => (StatusCode::OK, kept.0.clone().unwrap()),
            ("GET" | "PUT", _, None) => refusal(StatusCode::NOT_FOUND),
            ("POST", _, Some(_)) => refusal(StatusCode::CONFLICT),
            ("PUT", Some(lease), Some(version))
                if lease["metadata"]["resourceVersion"] != version =>
            {
                refusal(StatusCode::CONFLICT)
            }
            ("POST" | "PUT", Some(mut lease), _) => {
                kept.1 += 1;
                lease["metadata"]["resourceVersion"] = json!(kept.1.to_string());
                kept.0 = Some(lease.clone());
                (StatusCode::OK, lease)
            }
            _ => refusal(StatusCode::BAD_REQUEST),
        }
    }

    fn holder(&self) -> Option<String> {
        let kept = self.0.lock().unwrap();
        Some(
            kept.0.as_ref()?["spec"]["holderIdentity"]
                .as_str()?
                .to_owned(),
        )
    }
}

struct Node {
    name: String,
    clock: NodeClock,
    fence: Arc<Mutex<Option<Fence>>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Node {
    fn start(name: &str, server: &Server, time: &Time) -> Self {
        let clock = NodeClock {
            time: time.clone(),
            trouble: watch::Sender::new(Trouble::default()),
            skew: watch::Sender::new(SignedDuration::ZERO),
        };
        let election = Election {
            namespace: "volsync".to_owned(),
            name: Election::VOLSYNC_LEASE.to_owned(),
            identity: name.to_owned(),
            timing: Timing::default(),
        };
        let client = server.client(&clock.trouble);
        let mut elector = Elector::new(&client, election, Arc::new(clock.clone()));
        let (fence, stop) = (Arc::new(Mutex::new(None)), CancellationToken::new());
        let (slot, until) = (Arc::clone(&fence), stop.clone());
        let task = tokio::spawn(async move {
            while let Some(held) = elector.acquire(&until, || {}).await {
                *slot.lock().unwrap() = Some(held.clone());
                tokio::select! {
                    () = until.cancelled() => elector.release(&held).await,
                    () = elector.keep(&held) => {}
                }
            }
        });
        Self {
            name: name.to_owned(),
            clock,
            fence,
            stop,
            task,
        }
    }

    fn leads(&self) -> bool {
        self.fence
            .lock()
            .unwrap()
            .as_ref()
            .is_some_and(Fence::is_open)
    }
}

struct World {
    time: Time,
    server: Server,
    nodes: Vec<Node>,
}

impl World {
    fn of(count: usize) -> Self {
        let (time, server) = (Time::new(Duration::from_secs(5)), Server::default());
        let nodes = (0..count)
            .map(|number| Node::start(&format!("node-{number}"), &server, &time))
            .collect();
        Self {
            time,
            server,
            nodes,
        }
    }

    /// Lets time pass second by second; in each, everything that can happen does.
    async fn pass(&self, seconds: u64) -> Result<(), TestCaseError> {
        for _ in 0..seconds {
            self.settle().await;
            self.time
                .send_modify(|time| *time += Duration::from_secs(1));
            self.settle().await;
            let leaders = self.leaders();
            prop_assert!(
                leaders.len() <= 1,
                "{leaders:?} lead at once at {:?}",
                self.time.borrow()
            );
        }
        Ok(())
    }

    async fn settle(&self) {
        for _ in 0..48 {
            tokio::task::yield_now().await;
        }
    }

    fn leaders(&self) -> Vec<&str> {
        let leading = self.nodes.iter().filter(|node| node.leads());
        leading.map(|node| node.name.as_str()).collect()
    }

    fn trouble(&self, node: usize, change: impl FnOnce(&mut Trouble)) {
        self.nodes[node].clock.trouble.send_modify(change);
    }
}

#[tokio::test]
async fn one_of_two_leads_and_goes_on_leading() {
    let world = World::of(2);
    world.pass(1).await.unwrap();
    let first = world.leaders().concat();
    assert!(first.starts_with("node-"));
    world.pass(1000).await.unwrap();
    assert_eq!(world.leaders().concat(), first);
}

#[tokio::test]
async fn a_leader_that_is_killed_is_followed_when_its_lease_has_run_out() {
    let world = World::of(2);
    world.pass(1).await.unwrap();
    let dead = world.nodes.iter().position(Node::leads).unwrap();
    world.nodes[dead].task.abort();
    world.nodes[dead].fence.lock().unwrap().take();
    world.pass(130).await.unwrap();
    assert!(world.leaders().is_empty());
    world.pass(20).await.unwrap();
    assert!(world.nodes[1 - dead].leads());
}

#[tokio::test]
async fn a_leader_that_ends_in_good_order_is_followed_at_once() {
    let world = World::of(2);
    world.pass(40).await.unwrap();
    let old = world.nodes.iter().position(Node::leads).unwrap();
    world.nodes[old].stop.cancel();
    world.pass(5).await.unwrap();
    assert!(world.nodes[1 - old].leads());
    assert_eq!(
        world.server.holder(),
        Some(world.nodes[1 - old].name.clone())
    );
}

#[tokio::test]
async fn a_leader_without_a_way_to_the_server_stops_before_anybody_follows() {
    let world = World::of(2);
    world.pass(1).await.unwrap();
    let old = world.nodes.iter().position(Node::leads).unwrap();
    world.trouble(old, |trouble| trouble.cut = true);
    world.pass(100).await.unwrap();
    assert!(world.nodes[old].leads());
    world.pass(10).await.unwrap();
    assert!(world.leaders().is_empty());
    world.pass(45).await.unwrap();
    assert!(world.nodes[1 - old].leads());
}

#[tokio::test]
async fn clocks_that_are_wrong_or_set_never_steal_a_lease() {
    let world = World::of(2);
    world.pass(1).await.unwrap();
    let leader = world.nodes.iter().position(Node::leads).unwrap();
    for (node, minutes) in [
        (1 - leader, 10),
        (1 - leader, -10),
        (leader, -10),
        (leader, 10),
    ] {
        world.nodes[node]
            .clock
            .skew
            .send_replace(SignedDuration::from_mins(minutes));
        world.pass(300).await.unwrap();
        assert!(world.nodes[leader].leads(), "after a skew of {minutes} min");
    }
}

#[tokio::test]
async fn volsync_in_the_same_lease_is_waited_for() {
    let world = World::of(1);
    let of_volsync = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": Election::VOLSYNC_LEASE, "namespace": "volsync", "resourceVersion": "x"},
        "spec": {"holderIdentity": "volsync-7f_c0ffee", "leaseDurationSeconds": 137, "leaseTransitions": 3,
                 "acquireTime": "2026-01-01T00:00:00.000000Z", "renewTime": "2026-01-01T00:00:00.000000Z"},
    });
    world.server.0.lock().unwrap().0 = Some(of_volsync);
    for round in 0..5 {
        world.server.0.lock().unwrap().0.as_mut().unwrap()["spec"]["renewTime"] =
            json!(format!("2026-01-01T00:0{round}:00.000000Z"));
        world.pass(100).await.unwrap();
        assert!(world.leaders().is_empty());
    }
    world.server.0.lock().unwrap().0.as_mut().unwrap()["spec"]["holderIdentity"] = json!("");
    world.pass(5).await.unwrap();
    assert_eq!(world.leaders(), ["node-0"]);
    let spec = world.server.0.lock().unwrap().0.as_ref().unwrap()["spec"].clone();
    assert_eq!(spec["leaseTransitions"], 4);
    assert_eq!(spec["leaseDurationSeconds"], 137);
}

#[tokio::test]
async fn a_closed_fence_lets_reads_through_and_no_write() {
    let world = World::of(1);
    world.pass(1).await.unwrap();
    let fence = world.nodes[0].fence.lock().unwrap().clone().unwrap();
    let client = fence.around(&world.server.client(&world.nodes[0].clock.trouble));
    let request = |method: &str| {
        let body = Body::from(serde_json::to_vec(&json!({"metadata": {}})).unwrap());
        Request::builder()
            .method(method)
            .uri("/x")
            .body(body)
            .unwrap()
    };
    assert_ne!(
        client.send(request("PUT")).await.unwrap().status(),
        StatusCode::OK
    );
    fence.close();
    let refused = client.send(request("PUT")).await.unwrap_err();
    assert!(
        crate::reconcile::chain(&refused).contains("does not hold the lease"),
        "{refused}"
    );
    assert_eq!(
        client.send(request("GET")).await.unwrap().status(),
        StatusCode::OK
    );
}

/// Something happens to one of three candidates.
#[derive(Clone, Copy, Debug)]
enum Event {
    Trouble(usize, Trouble),
    Skew(usize, i64),
    Kill(usize),
    Stop(usize),
}

fn events() -> impl Strategy<Value = Vec<(Event, u64)>> {
    let trouble = (any::<bool>(), any::<bool>(), any::<bool>())
        .prop_map(|(paused, cut, deaf)| Trouble { paused, cut, deaf });
    let event = prop_oneof![
        6 => (0..3_usize, trouble).prop_map(|(node, trouble)| Event::Trouble(node, trouble)),
        3 => (0..3_usize, -600..600_i64).prop_map(|(node, seconds)| Event::Skew(node, seconds)),
        1 => (0..2_usize).prop_map(Event::Kill),
        1 => (0..2_usize).prop_map(Event::Stop),
    ];
    proptest::collection::vec((event, 1..200_u64), 1..8)
}

async fn play(events: Vec<(Event, u64)>) -> Result<(), TestCaseError> {
    let world = World::of(3);
    for (event, seconds) in events {
        match event {
            Event::Trouble(node, trouble) => world.trouble(node, |present| *present = trouble),
            Event::Skew(node, seconds) => {
                let skew = SignedDuration::from_secs(seconds);
                world.nodes[node].clock.skew.send_replace(skew);
            }
            // A process that is gone cannot write, whatever its fence would say.
            Event::Kill(node) => {
                world.nodes[node].task.abort();
                world.nodes[node].fence.lock().unwrap().take();
            }
            Event::Stop(node) => world.nodes[node].stop.cancel(),
        }
        world.pass(seconds).await?;
    }
    for node in 0..3 {
        world.trouble(node, |trouble| *trouble = Trouble::default());
    }
    world.pass(137 + 30 + 26 * 2).await?;
    prop_assert_eq!(
        world.leaders().len(),
        1,
        "nobody leads after all troubles have ended"
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn at_no_time_do_two_lead_and_in_the_end_one_does(events in events()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(play(events))?;
    }
}
