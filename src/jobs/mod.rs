//! Jobs: long work that the server does in the background for its API, one at a time per person.
//!
//! A job runs commands of this program; see `program`. Its outcome outlives a restart of the server.

pub mod job;
pub mod program;
pub mod queue;
pub mod received_file;
pub mod received_imports;
