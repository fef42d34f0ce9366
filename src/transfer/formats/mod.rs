//! Entries as text: what `import` reads and `export` writes. No SQLite, no HTTP; memory
//! does not grow with the file.

/// The columns of our own CSV and the names in our own JSON Lines, coffees.
pub const COFFEE_COLUMNS: [&str; 6] = ["id", "timestamp", "caffeine_mg", "coffee_type", "notes", "source"];
/// The same, heart rates.
pub const HEART_RATE_COLUMNS: [&str; 6] = ["id", "timestamp", "bpm", "context", "notes", "source"];

pub mod apple_health;
pub mod delimited;
pub mod detect;
pub mod docker_stack;
pub mod import_row;
pub mod input;
pub mod json_lines;
pub mod lines;
pub mod lossy;
pub mod postgres_dump;
pub mod rejects;
pub mod rows;
pub mod sql_tokens;
pub mod sql_values;
pub mod writer;
