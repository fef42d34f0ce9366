//! Eight clients at full speed, and the account of what each of them sent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use crate::client::Client;
use crate::helpers::wait_until;
use crate::trace::Trace;

const CLIENTS: usize = 8;

/// Something sent about a coffee.
#[derive(Clone, Debug)]
pub struct Step {
    /// The request's id, which its answer carries.
    pub request: String,
    /// The notes and the dose of the coffee afterwards; `None` when it is deleted.
    pub leaves: Option<(String, f64)>,
    /// Where its answer stands in the trace: after so many events.
    pub answered: usize,
}

/// One coffee's life.
#[derive(Clone, Debug)]
pub struct Coffee {
    /// Like no other; its notes begin with it.
    pub name: String,
    /// Was it sent under an Idempotency-Key, its name?
    pub keyed: bool,
    /// In order; each was sent when the one before was answered.
    pub steps: Vec<Step>,
}

/// Readings sent together.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The notes of each of them.
    pub name: String,
    pub readings: usize,
    pub request: String,
    /// See [`Step::answered`].
    pub answered: usize,
}

/// Everything that was sent.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub coffees: Vec<Coffee>,
    pub batches: Vec<Batch>,
}

impl History {
    /// Learns from a trace where each answer stands.
    pub fn find_answers(&mut self, trace: &Trace) {
        let answers = trace.answers();
        for step in self.coffees.iter_mut().flat_map(|coffee| &mut coffee.steps) {
            step.answered = answers[&step.request];
        }
        for batch in &mut self.batches {
            batch.answered = answers[&batch.request];
        }
    }

    fn answers(&self) -> impl Iterator<Item = usize> {
        self.coffees.iter().flat_map(|coffee| &coffee.steps).map(|step| step.answered)
    }

    /// Where the first answer about a coffee stands.
    pub fn first_answer(&self) -> usize {
        self.answers().min().expect("there are answers")
    }

    /// Where the last one does.
    pub fn last_answer(&self) -> usize {
        self.answers().max().expect("there are answers")
    }
}

/// What the clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habits {
    /// Some coffees are corrected, some deleted.
    Changing,
    /// Nothing but new coffees: a restore may give their ids to others.
    OnlyNew,
}

/// Clients at work.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    logged: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Vec<Coffee>>>,
}

impl Traffic {
    /// Starts them; what they write begins with `name`.
    pub fn start(address: SocketAddr, name: &str, habits: Habits) -> Self {
        let (stop, logged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let client = |n: usize| {
            let (stop, logged, name) = (Arc::clone(&stop), Arc::clone(&logged), format!("{name}{n}"));
            std::thread::spawn(move || {
                let mut client = Client::connect(address);
                let mut coffees = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    coffees.push(live(&mut client, &name, coffees.len(), habits));
                    logged.fetch_add(1, Ordering::Relaxed);
                }
                coffees
            })
        };
        let clients = (0..CLIENTS).map(client).collect();
        Self { stop, logged, clients }
    }

    /// Waits until so many more coffees have lived their life.
    pub fn wait_for(&self, more: usize) {
        let until = self.logged.load(Ordering::Relaxed) + more;
        wait_until("the clients got so far", || self.logged.load(Ordering::Relaxed) >= until);
    }

    /// Lets them finish.
    pub fn stop(self) -> Vec<Coffee> {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.into_iter().flat_map(|client| client.join().expect("a client went on")).collect()
    }
}

/// One coffee: logged, perhaps corrected, perhaps deleted.
fn live(client: &mut Client, client_name: &str, n: usize, habits: Habits) -> Coffee {
    let name = format!("{client_name}-{n:05}.");
    let keyed = n.is_multiple_of(4);
    let mut steps = Vec::new();
    let mut send = |method: &str, path: &str, what: &str, leaves: Option<(String, f64)>| {
        let request = format!("{name}{what}");
        let key =
            if keyed && method == "POST" { format!("Idempotency-Key: {name}\r\n") } else { String::new() };
        let body = leaves.as_ref().map_or(String::new(), |(notes, mg)| {
            format!(r#"{{"caffeine_mg": {mg}, "coffee_type": "espresso", "notes": "{notes}"}}"#)
        });
        let more = format!("X-Request-ID: {request}\r\n{key}");
        let answer = client.try_request(method, path, &more, &body).expect("the server answers");
        assert!(matches!(answer.status, 200 | 201), "{answer:?}");
        steps.push(Step { request, leaves, answered: usize::MAX });
        answer.json()["id"].as_i64().expect("an id")
    };
    let id = send("POST", "/coffee/", "post", Some((format!("{name} first"), 42.0)));
    if habits == Habits::Changing && n % 3 == 1 {
        send("PATCH", &format!("/coffee/{id}"), "patch", Some((format!("{name} again"), 77.0)));
    }
    if habits == Habits::Changing && n % 5 == 2 {
        send("DELETE", &format!("/coffee/{id}"), "delete", None);
    }
    Coffee { name, keyed, steps }
}

/// Sends a batch of readings; `name` is like no other.
pub fn send_batch(client: &mut Client, name: &str, readings: usize) -> Batch {
    // Scattered over the years, so that every batch touches many pages.
    let reading = |n: usize| {
        let (year, month, day) = (2000 + n % 20, n % 12 + 1, n % 28 + 1);
        format!(
            r#"{{"bpm": {}, "timestamp": "{year}-{month:02}-{day:02}T07:00:00Z", "notes": "{name}"}}"#,
            60 + n % 60
        )
    };
    let body = format!(r#"{{"readings": [{}]}}"#, (0..readings).map(reading).collect::<Vec<_>>().join(","));
    let request = format!("{name}batch");
    let answer =
        client.try_request("POST", "/heartrate/batch", &format!("X-Request-ID: {request}\r\n"), &body);
    let answer = answer.expect("the server answers");
    assert_eq!(answer.status, 201, "{answer:?}");
    let inserted = answer.json()["inserted"].as_u64().and_then(|n| n.try_into().ok()).expect("a number");
    Batch { name: name.to_owned(), readings: inserted, request, answered: usize::MAX }
}
