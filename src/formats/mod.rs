//! Entries as text: what `import` reads and `export` writes. No SQLite, no HTTP; memory
//! does not grow with the file.

pub mod write;

/// The columns of our own CSV and the names in our own JSON Lines, coffees.
pub const COFFEE_COLUMNS: [&str; 6] = ["id", "timestamp", "caffeine_mg", "coffee_type", "notes", "source"];
/// The same, heart rates.
pub const HEART_RATE_COLUMNS: [&str; 6] = ["id", "timestamp", "bpm", "context", "notes", "source"];
