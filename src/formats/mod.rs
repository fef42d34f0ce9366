//! Entries as text: what `import` reads and `export` writes. No SQLite, no HTTP; memory
//! does not grow with the file.

pub mod table;
pub mod write;

/// The columns of our own CSV and the names in our own JSON Lines, coffees.
pub const COFFEE_COLUMNS: [&str; 6] = ["id", "timestamp", "caffeine_mg", "coffee_type", "notes", "source"];
/// The same, heart rates.
pub const HEART_RATE_COLUMNS: [&str; 6] = ["id", "timestamp", "bpm", "context", "notes", "source"];

mod apple_health;
mod delimited;
mod dump;
mod input;
mod json_lines;
mod lines;
mod lossy;
mod recognise;
mod rejects;
mod rows;
mod sql_tokens;
mod sql_values;

pub use delimited::Mapping;
pub use input::{Input, Meter, Reading};
pub use recognise::Format;
pub use rejects::Rejects;
pub use rows::{ReadError, Rejection, Row, Sink, Stopped, one_line};
