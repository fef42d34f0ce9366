//! Coffee Tracker: one Rocket binary, one SQLite file.
//!
//! Who may know whom: `http` → `store`, `model`; `commands` → `store`, `model`;
//! `store` → `model`; `model` knows none of them. Rocket appears under `http` and where it
//! is launched, rusqlite under `store` alone. A test holds this rule.

pub mod model;
