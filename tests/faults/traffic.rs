//! Eight clients that write at full speed, and a record of every request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use crate::client::Client;
use crate::helpers::wait_until;
use crate::trace::Trace;

const CLIENTS: usize = 8;

/// A request that changes a coffee.
#[derive(Clone, Debug)]
pub struct WriteStep {
    /// Request id, also in the response.
    pub request: String,
    /// Notes and dose of the coffee afterwards; `None` when it is deleted.
    pub result: Option<(String, f64)>,
    /// Position of the response in the trace.
    pub response_at: usize,
}

/// A coffee and the requests that changed it.
#[derive(Clone, Debug)]
pub struct Coffee {
    /// Unique prefix of its notes.
    pub name: String,
    /// The coffee was sent with an `Idempotency-Key`, its name.
    pub keyed: bool,
    /// In order; each was sent after the response to the previous one.
    pub steps: Vec<WriteStep>,
}

/// Readings sent in one request.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Notes of every reading.
    pub name: String,
    pub readings: usize,
    pub request: String,
    /// See [`WriteStep::response_at`].
    pub response_at: usize,
}

/// All requests.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub coffees: Vec<Coffee>,
    pub batches: Vec<Batch>,
}

impl History {
    /// Finds the position of every response in a trace.
    pub fn locate_responses(&mut self, trace: &Trace) {
        let responses = trace.responses();
        for step in self.coffees.iter_mut().flat_map(|coffee| &mut coffee.steps) {
            step.response_at = responses[&step.request];
        }
        for batch in &mut self.batches {
            batch.response_at = responses[&batch.request];
        }
    }

    fn response_positions(&self) -> impl Iterator<Item = usize> {
        self.coffees.iter().flat_map(|coffee| &coffee.steps).map(|step| step.response_at)
    }

    /// Returns the position of the first response about a coffee.
    pub fn first_response(&self) -> usize {
        self.response_positions().min().expect("there are responses")
    }

    /// Returns the position of the last response about a coffee.
    pub fn last_response(&self) -> usize {
        self.response_positions().max().expect("there are responses")
    }
}

/// Kinds of requests that the clients send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// Inserts, updates and deletions.
    Mixed,
    /// Inserts only: after a restore, the id of a coffee may belong to another one.
    InsertsOnly,
}

/// Clients that send requests until they are stopped.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    logged: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Vec<Coffee>>>,
}

impl Traffic {
    /// Starts the clients; their notes begin with `name`.
    pub fn start(address: SocketAddr, name: &str, workload: Workload) -> Self {
        let (stop, logged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let client = |n: usize| {
            let (stop, logged, name) = (Arc::clone(&stop), Arc::clone(&logged), format!("{name}{n}"));
            std::thread::spawn(move || {
                let mut client = Client::connect(address);
                let mut coffees = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    coffees.push(write_coffee(&mut client, &name, coffees.len(), workload));
                    logged.fetch_add(1, Ordering::Relaxed);
                }
                coffees
            })
        };
        let clients = (0..CLIENTS).map(client).collect();
        Self { stop, logged, clients }
    }

    /// Waits until `more` further coffees are complete.
    pub fn wait_for(&self, more: usize) {
        let until = self.logged.load(Ordering::Relaxed) + more;
        wait_until("the clients have written enough", || self.logged.load(Ordering::Relaxed) >= until);
    }

    /// Stops the clients after their current coffee.
    pub fn stop(self) -> Vec<Coffee> {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.into_iter().flat_map(|client| client.join().expect("every client succeeds")).collect()
    }
}

/// Logs a coffee and, depending on the workload, updates or deletes it.
fn write_coffee(client: &mut Client, client_name: &str, n: usize, workload: Workload) -> Coffee {
    let name = format!("{client_name}-{n:05}.");
    let keyed = n.is_multiple_of(4);
    let mut steps = Vec::new();
    let mut send = |method: &str, path: &str, suffix: &str, result: Option<(String, f64)>| {
        let request = format!("{name}{suffix}");
        let key =
            if keyed && method == "POST" { format!("Idempotency-Key: {name}\r\n") } else { String::new() };
        let body = result.as_ref().map_or(String::new(), |(notes, mg)| {
            format!(r#"{{"caffeine_mg": {mg}, "coffee_type": "espresso", "notes": "{notes}"}}"#)
        });
        let headers = format!("X-Request-ID: {request}\r\n{key}");
        let response = client.try_request(method, path, &headers, &body).expect("the server responds");
        assert!(matches!(response.status, 200 | 201), "{response:?}");
        steps.push(WriteStep { request, result, response_at: usize::MAX });
        response.json()["id"].as_i64().expect("an id")
    };
    let id = send("POST", "/coffee/", "post", Some((format!("{name} first"), 42.0)));
    if workload == Workload::Mixed && n % 3 == 1 {
        send("PATCH", &format!("/coffee/{id}"), "patch", Some((format!("{name} again"), 77.0)));
    }
    if workload == Workload::Mixed && n % 5 == 2 {
        send("DELETE", &format!("/coffee/{id}"), "delete", None);
    }
    Coffee { name, keyed, steps }
}

/// Sends a batch of readings with the unique notes `name`.
pub fn send_batch(client: &mut Client, name: &str, readings: usize) -> Batch {
    // Spread over 20 years, so that every batch changes many pages.
    let reading = |n: usize| {
        let (year, month, day) = (2000 + n % 20, n % 12 + 1, n % 28 + 1);
        format!(
            r#"{{"bpm": {}, "timestamp": "{year}-{month:02}-{day:02}T07:00:00Z", "notes": "{name}"}}"#,
            60 + n % 60
        )
    };
    let body = format!(r#"{{"readings": [{}]}}"#, (0..readings).map(reading).collect::<Vec<_>>().join(","));
    let request = format!("{name}batch");
    let response =
        client.try_request("POST", "/heartrate/batch", &format!("X-Request-ID: {request}\r\n"), &body);
    let response = response.expect("the server responds");
    assert_eq!(response.status, 201, "{response:?}");
    let inserted = response.json()["inserted"].as_u64().and_then(|n| n.try_into().ok()).expect("a number");
    Batch { name: name.to_owned(), readings: inserted, request, response_at: usize::MAX }
}
