use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::SignedDuration;
use proptest::prelude::*;
use tokio::sync::watch;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// A clock that a test turns.
#[derive(Clone)]
struct HandClock(watch::Sender<Timestamp>);

impl HandClock {
    fn new() -> Self {
        Self(watch::Sender::new(at(0)))
    }

    fn turn(&self, seconds: i64) {
        self.0
            .send_modify(|now| *now += SignedDuration::from_secs(seconds));
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        *self.0.borrow()
    }

    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        let mut seen = self.0.subscribe();
        async move {
            let _ = seen.wait_for(|now| *now >= at).await;
        }
        .boxed()
    }
}

#[test]
fn a_key_waits_once_at_its_earliest_time() {
    let mut agenda = Agenda::new();
    agenda.add("a", at(10));
    agenda.add("a", at(5));
    agenda.add("a", at(7));
    assert_eq!(agenda.take(at(4)), Next::WaitUntil(at(5)));
    assert_eq!(agenda.take(at(5)), Next::Run("a"));
    assert_eq!(agenda.take(at(99)), Next::Nothing);
}

#[test]
fn what_happens_to_a_key_at_work_is_looked_at_right_after() {
    let mut agenda = Agenda::new();
    agenda.add("a", at(1));
    assert_eq!(agenda.take(at(1)), Next::Run("a"));
    agenda.add("a", at(2));
    assert_eq!(agenda.take(at(9)), Next::Nothing);
    agenda.done("a", Some(at(100)));
    assert_eq!(agenda.take(at(9)), Next::Run("a"));
}

#[test]
fn due_keys_come_in_the_order_of_their_times() {
    let mut agenda = Agenda::new();
    agenda.add("late", at(3));
    agenda.add("early", at(1));
    agenda.add("middle", at(2));
    let order: Vec<_> = std::iter::from_fn(|| match agenda.take(at(3)) {
        Next::Run(key) => Some(key),
        _ => None,
    })
    .collect();
    assert_eq!(order, ["early", "middle", "late"]);
}

proptest! {
    #[test]
    fn no_key_runs_twice_at_once_and_none_is_forgotten(steps in prop::collection::vec((0u8..4, 0u8..3, 0i64..20), 0..200)) {
        let mut agenda = Agenda::new();
        let mut running = std::collections::HashSet::new();
        let mut wanted = std::collections::HashSet::new();
        for (step, key, time) in steps {
            match step {
                0 | 1 => { agenda.add(key, at(time)); wanted.insert(key); }
                2 => if let Next::Run(key) = agenda.take(at(time)) {
                    prop_assert!(running.insert(key));
                    wanted.remove(&key);
                },
                _ => if running.remove(&key) { agenda.done(key, None); },
            }
        }
        for key in running { agenda.done(key, None); }
        while let Next::Run(key) = agenda.take(at(1000)) { wanted.remove(&key); agenda.done(key, None); }
        prop_assert!(wanted.is_empty());
        prop_assert!(agenda.place.is_empty() && agenda.waiting.is_empty());
    }
}

#[tokio::test]
async fn work_starts_when_the_clock_says_so_and_repeats_as_it_asks() {
    let clock = HandClock::new();
    let queue: Queue<&'static str> = Queue::default();
    let stop = CancellationToken::new();
    let (ran, mut seen) = watch::channel(Vec::new());
    queue.add("a", at(10));
    let inner = clock.clone();
    let worker = tokio::spawn(queue.clone().run(
        Arc::new(clock.clone()),
        4,
        stop.clone(),
        move |key| {
            let (ran, now) = (ran.clone(), inner.now());
            async move {
                ran.send_modify(|list| list.push((key, now)));
                (now < at(30)).then(|| now + SignedDuration::from_secs(20))
            }
        },
    ));
    clock.turn(9);
    tokio::task::yield_now().await;
    assert!(seen.borrow().is_empty());
    clock.turn(1);
    seen.wait_for(|list| list.len() == 1).await.unwrap();
    clock.turn(20);
    seen.wait_for(|list| *list == [("a", at(10)), ("a", at(30))])
        .await
        .unwrap();
    stop.cancel();
    worker.await.unwrap();
}

#[tokio::test]
async fn no_more_than_the_limit_work_at_once() {
    let clock = HandClock::new();
    let queue: Queue<u32> = Queue::default();
    let stop = CancellationToken::new();
    let (busy, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (finished, mut seen) = watch::channel(0);
    for key in 0..20 {
        queue.add(key, at(0));
    }
    let shown = Arc::clone(&peak);
    let worker = tokio::spawn(queue.run(Arc::new(clock), 3, stop.clone(), move |_| {
        let (busy, peak, finished) = (Arc::clone(&busy), Arc::clone(&peak), finished.clone());
        async move {
            peak.fetch_max(busy.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            busy.fetch_sub(1, Ordering::SeqCst);
            finished.send_modify(|count| *count += 1);
            None
        }
    }));
    seen.wait_for(|count| *count == 20).await.unwrap();
    assert_eq!(shown.load(Ordering::SeqCst), 3);
    stop.cancel();
    worker.await.unwrap();
}

#[tokio::test]
async fn a_key_whose_work_panicked_can_be_worked_on_again() {
    let clock = HandClock::new();
    let queue: Queue<&'static str> = Queue::default();
    let stop = CancellationToken::new();
    let (runs, mut seen) = watch::channel(0);
    queue.add("a", at(0));
    let worker = tokio::spawn(
        queue
            .clone()
            .run(Arc::new(clock), 1, stop.clone(), move |_| {
                let runs = runs.clone();
                async move {
                    runs.send_modify(|count| *count += 1);
                    assert!(*runs.borrow() > 1, "the first run panics");
                    None
                }
            }),
    );
    seen.wait_for(|count| *count == 1).await.unwrap();
    queue.add("a", at(0));
    seen.wait_for(|count| *count == 2).await.unwrap();
    stop.cancel();
    worker.await.unwrap();
}
