//! Pairing of devices: a code, or six digits, that can be exchanged for a key once.
//!
//! Pairings are in memory only, and their codes and digits only as digests.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::auth::key::{KeyDigest, KeyRequest};
use crate::clock::Clock;
use crate::domain::person::PersonName;
use crate::domain::time::Timestamp;

/// Time in which a pairing can be used.
const LIFETIME: Duration = Duration::from_secs(300);
/// Time after which a pairing is forgotten.
const RETENTION: Duration = Duration::from_secs(3600);
/// Maximum number of waiting pairings of a person.
const MAX_WAITING: usize = 5;
/// Maximum number of pairings of a person, in any state.
const MAX_KEPT: usize = 50;
/// Wrong digits after which the digits of all waiting pairings end: five guesses at a million.
const MAX_WRONG_DIGITS: u32 = 5;

/// Pairing of a device with a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pairing {
    pub id: String,
    pub person: PersonName,
    /// Key that the device gets.
    pub request: KeyRequest,
    pub expires_at: Timestamp,
    pub state: PairingState,
}

/// State of a pairing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairingState {
    Waiting,
    /// The key is being created.
    Claimed,
    Paired(Timestamp),
    Expired,
}

/// New pairing with its secrets, which cannot be looked up later.
pub struct StartedPairing {
    pub pairing: Pairing,
    /// 128 random bits in base64url.
    pub code: String,
    /// Six digits.
    pub digits: String,
}

/// Secret that a device presents.
#[derive(Clone, PartialEq, Eq)]
pub enum PairingSecret {
    Code(String),
    /// Six digits, without spaces.
    Digits(String),
}

/// Pairings of everyone.
#[derive(Debug)]
pub struct Pairings {
    clock: Clock,
    book: Mutex<PairingBook>,
}

#[derive(Debug, Default)]
struct PairingBook {
    /// Oldest first.
    entries: Vec<PairingEntry>,
    /// Wrong digits since the digits last ended.
    wrong_digits: u32,
}

#[derive(Debug)]
struct PairingEntry {
    pairing: Pairing,
    code: KeyDigest,
    /// `None` when the digits have ended.
    digits: Option<KeyDigest>,
    started: Duration,
}

impl PairingEntry {
    fn is_waiting(&self) -> bool {
        self.pairing.state == PairingState::Waiting
    }

    fn is_of(&self, person: &PersonName) -> bool {
        self.pairing.person == *person
    }
}

impl Pairings {
    /// Creates a collection without pairings.
    pub fn new(clock: Clock) -> Self {
        Self { clock, book: Mutex::default() }
    }

    /// Starts a pairing. When there are too many, the oldest one of the person ends.
    ///
    /// # Errors
    /// The reason why the system has no random numbers.
    pub fn start(&self, person: &PersonName, request: KeyRequest) -> Result<StartedPairing, String> {
        let (id, code) = (random_id()?, random_code()?);
        let mut book = self.book();
        let digits = loop {
            let digits = random_digits()?;
            let digest = Some(KeyDigest::of(&digits));
            if !book.entries.iter().any(|entry| entry.is_waiting() && entry.digits == digest) {
                break digits;
            }
        };
        if !book.has_digits() {
            book.wrong_digits = 0;
        }
        let lifetime = i64::try_from(LIFETIME.as_micros()).unwrap_or(i64::MAX);
        let pairing = Pairing {
            id,
            person: person.clone(),
            request,
            expires_at: self.clock.now().plus(lifetime),
            state: PairingState::Waiting,
        };
        book.entries.push(PairingEntry {
            pairing: pairing.clone(),
            code: KeyDigest::of(&code),
            digits: Some(KeyDigest::of(&digits)),
            started: self.clock.elapsed(),
        });
        book.enforce_limits(person);
        Ok(StartedPairing { pairing, code, digits })
    }

    /// Returns a pairing of a person.
    pub fn find(&self, person: &PersonName, id: &str) -> Option<Pairing> {
        let book = self.book();
        let found = book.entries.iter().find(|entry| entry.is_of(person) && entry.pairing.id == id)?;
        Some(found.pairing.clone())
    }

    /// Ends and forgets a pairing of a person. Returns whether there was one.
    pub fn remove(&self, person: &PersonName, id: &str) -> bool {
        let mut book = self.book();
        let before = book.entries.len();
        book.entries.retain(|entry| !(entry.is_of(person) && entry.pairing.id == id));
        book.entries.len() < before
    }

    /// Ends and forgets all pairings of a person.
    pub fn remove_all(&self, person: &PersonName) {
        self.book().entries.retain(|entry| !entry.is_of(person));
    }

    /// Returns the waiting pairing that has this secret, which nobody else gets until it is released.
    pub fn claim(&self, secret: &PairingSecret) -> Option<Pairing> {
        let mut book = self.book();
        let mut waiting = book.entries.iter_mut().filter(|entry| entry.is_waiting());
        let found = match secret {
            PairingSecret::Code(code) => {
                let code = KeyDigest::of(code);
                waiting.find(|entry| entry.code == code)
            }
            PairingSecret::Digits(digits) => {
                let digits = Some(KeyDigest::of(digits));
                waiting.find(|entry| entry.digits == digits)
            }
        };
        if let Some(entry) = found {
            entry.pairing.state = PairingState::Claimed;
            return Some(entry.pairing.clone());
        }
        if matches!(secret, PairingSecret::Digits(_)) {
            book.count_wrong_digits();
        }
        None
    }

    /// Records that the key of a claimed pairing was created.
    pub fn complete(&self, id: &str) {
        self.set_state(id, PairingState::Paired(self.clock.now()));
    }

    /// Lets a claimed pairing wait again, because its key could not be created.
    pub fn release(&self, id: &str) {
        self.set_state(id, PairingState::Waiting);
    }

    fn set_state(&self, id: &str, state: PairingState) {
        let mut book = self.book();
        let entry = book.entries.iter_mut().find(|entry| entry.pairing.id == id);
        if let Some(entry) = entry {
            entry.pairing.state = state;
        }
    }

    /// Locks the pairings, and brings their states up to date.
    fn book(&self) -> MutexGuard<'_, PairingBook> {
        let (now, elapsed) = (self.clock.now(), self.clock.elapsed());
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        book.entries.retain(|entry| elapsed < entry.started + RETENTION);
        for entry in book.entries.iter_mut().filter(|entry| entry.is_waiting()) {
            let has_key_expired = entry.pairing.request.expires.is_some_and(|end| end <= now);
            if has_key_expired || elapsed >= entry.started + LIFETIME {
                entry.pairing.state = PairingState::Expired;
            }
        }
        book
    }
}

impl PairingBook {
    fn has_digits(&self) -> bool {
        self.entries.iter().any(|entry| entry.is_waiting() && entry.digits.is_some())
    }

    /// Counts wrong digits, if there are any that could have been right.
    fn count_wrong_digits(&mut self) {
        if !self.has_digits() {
            return;
        }
        self.wrong_digits += 1;
        if self.wrong_digits >= MAX_WRONG_DIGITS {
            self.entries.iter_mut().for_each(|entry| entry.digits = None);
            self.wrong_digits = 0;
        }
    }

    /// Ends the oldest waiting pairings of a person, and forgets the oldest of all, when there are too many.
    fn enforce_limits(&mut self, person: &PersonName) {
        let of_person = || self.entries.iter().filter(|entry| entry.is_of(person));
        let too_many_waiting =
            of_person().filter(|entry| entry.is_waiting()).count().saturating_sub(MAX_WAITING);
        let mut too_many = of_person().count().saturating_sub(MAX_KEPT);
        let waiting = self.entries.iter_mut().filter(|entry| entry.is_of(person) && entry.is_waiting());
        waiting.take(too_many_waiting).for_each(|entry| entry.pairing.state = PairingState::Expired);
        self.entries.retain(|entry| {
            let is_kept = too_many == 0 || !entry.is_of(person);
            too_many -= usize::from(!is_kept);
            is_kept
        });
    }
}

fn random_id() -> Result<String, String> {
    let mut random = [0_u8; 8];
    getrandom::fill(&mut random).map_err(|e| e.to_string())?;
    Ok(hex::encode(random))
}

fn random_code() -> Result<String, String> {
    let mut random = [0_u8; 16];
    getrandom::fill(&mut random).map_err(|e| e.to_string())?;
    Ok(base64url(u128::from_be_bytes(random)))
}

/// Returns six digits, all of which are equally likely.
fn random_digits() -> Result<String, String> {
    const CHOICES: u32 = 1_000_000;
    // Beyond this multiple, the remainder would favour small numbers.
    const LIMIT: u32 = u32::MAX - u32::MAX % CHOICES;
    loop {
        let random = getrandom::u32().map_err(|e| e.to_string())?;
        if random < LIMIT {
            return Ok(format!("{:06}", random % CHOICES));
        }
    }
}

/// Encodes 128 bits in 22 characters (RFC 4648, section 5), without padding.
fn base64url(bits: u128) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    // 21 characters have 6 bits each, and the last one has 2, followed by zeros.
    let six_bits = (0..21).map(|n| bits >> (122 - 6 * n)).chain([bits << 4]);
    six_bits.map(|bits| char::from(ALPHABET[(bits & 63) as usize])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::key::{KeyName, Scopes};

    type TestResult = Result<(), Box<dyn std::error::Error>>;

    fn pairings() -> Pairings {
        Pairings::new(Clock::manual(Timestamp::clamped(0)))
    }

    fn start(pairings: &Pairings, person: &str) -> Result<StartedPairing, Box<dyn std::error::Error>> {
        let request = KeyRequest { name: KeyName::parse("phone")?, scopes: Scopes::default(), expires: None };
        Ok(pairings.start(&person.parse()?, request)?)
    }

    fn state(pairings: &Pairings, started: &StartedPairing) -> Option<PairingState> {
        pairings.find(&started.pairing.person, &started.pairing.id).map(|pairing| pairing.state)
    }

    fn claim_code(pairings: &Pairings, started: &StartedPairing) -> bool {
        pairings.claim(&PairingSecret::Code(started.code.clone())).is_some()
    }

    fn claim_digits(pairings: &Pairings, started: &StartedPairing) -> bool {
        pairings.claim(&PairingSecret::Digits(started.digits.clone())).is_some()
    }

    /// Returns digits that none of these pairings has.
    fn wrong_digits(all: &[&StartedPairing]) -> PairingSecret {
        let mut candidates = (0..).map(|n| format!("{n:06}"));
        let wrong = candidates.find(|digits| all.iter().all(|started| started.digits != *digits));
        PairingSecret::Digits(wrong.unwrap_or_default())
    }

    #[test]
    fn a_code_has_128_bits_in_base64url() {
        let bytes: [u8; 16] = std::array::from_fn(|n| n as u8);
        assert_eq!(base64url(u128::from_be_bytes(bytes)), "AAECAwQFBgcICQoLDA0ODw");
        assert_eq!(base64url(u128::MAX), "_____________________w");
    }

    #[test]
    fn a_pairing_is_claimed_once_by_its_code_or_its_digits() -> TestResult {
        let pairings = pairings();
        let (one, other) = (start(&pairings, "anna")?, start(&pairings, "anna")?);
        assert!(one.digits.len() == 6 && one.digits != other.digits && one.code != other.code);
        assert!(claim_code(&pairings, &one));
        assert!(!claim_code(&pairings, &one) && !claim_digits(&pairings, &one));
        pairings.release(&one.pairing.id);
        assert!(claim_digits(&pairings, &one));
        pairings.complete(&one.pairing.id);
        assert_eq!(state(&pairings, &one), Some(PairingState::Paired(Timestamp::clamped(0))));
        assert!(!claim_code(&pairings, &one) && !claim_digits(&pairings, &one));
        assert_eq!(state(&pairings, &other), Some(PairingState::Waiting));
        Ok(())
    }

    #[test]
    fn a_pairing_expires_after_5_minutes_and_is_forgotten_after_an_hour() -> TestResult {
        let pairings = pairings();
        let started = start(&pairings, "anna")?;
        pairings.clock.advance(Duration::from_secs(299));
        assert_eq!(state(&pairings, &started), Some(PairingState::Waiting));
        pairings.clock.advance(Duration::from_secs(1));
        assert_eq!(state(&pairings, &started), Some(PairingState::Expired));
        assert!(!claim_code(&pairings, &started) && !claim_digits(&pairings, &started));
        pairings.clock.advance(Duration::from_secs(3300));
        assert_eq!(state(&pairings, &started), None);
        Ok(())
    }

    #[test]
    fn five_wrong_digits_end_the_digits_of_everyone_but_not_their_codes() -> TestResult {
        let pairings = pairings();
        let (anna, ben) = (start(&pairings, "anna")?, start(&pairings, "ben")?);
        let wrong = wrong_digits(&[&anna, &ben]);
        for _ in 0..5 {
            assert!(pairings.claim(&wrong).is_none());
        }
        assert!(!claim_digits(&pairings, &anna) && !claim_digits(&pairings, &ben));
        assert!(claim_code(&pairings, &anna) && claim_code(&pairings, &ben));
        // Guesses without any digits to guess do not count.
        for _ in 0..5 {
            assert!(pairings.claim(&wrong).is_none());
        }
        let later = start(&pairings, "anna")?;
        for _ in 0..4 {
            assert!(pairings.claim(&wrong_digits(&[&later])).is_none());
        }
        assert!(claim_digits(&pairings, &later));
        Ok(())
    }

    #[test]
    fn the_sixth_waiting_pairing_of_a_person_ends_the_oldest() -> TestResult {
        let pairings = pairings();
        let (first, of_ben) = (start(&pairings, "anna")?, start(&pairings, "ben")?);
        let more = (0..5).map(|_| start(&pairings, "anna")).collect::<Result<Vec<_>, _>>()?;
        assert_eq!(state(&pairings, &first), Some(PairingState::Expired));
        for waiting in more.iter().chain([&of_ben]) {
            assert_eq!(state(&pairings, waiting), Some(PairingState::Waiting));
        }
        for _ in 0..50 {
            start(&pairings, "anna")?;
        }
        assert_eq!((state(&pairings, &first), state(&pairings, &more[4])), (None, None));
        assert_eq!(state(&pairings, &of_ben), Some(PairingState::Waiting));
        Ok(())
    }

    #[test]
    fn a_pairing_belongs_to_its_person() -> TestResult {
        let pairings = pairings();
        let (anna, ben) = ("anna".parse()?, "ben".parse()?);
        let started = start(&pairings, "anna")?;
        assert_eq!(pairings.find(&ben, &started.pairing.id), None);
        assert!(!pairings.remove(&ben, &started.pairing.id));
        pairings.remove_all(&ben);
        assert_eq!(pairings.find(&anna, &started.pairing.id), Some(started.pairing.clone()));
        pairings.remove_all(&anna);
        assert!(!claim_code(&pairings, &started));
        Ok(())
    }
}
