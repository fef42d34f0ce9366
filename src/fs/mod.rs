//! File-system building blocks: atomic replacement, temporary files, lock files, privileges, disk space.
//!
//! Nothing here depends on SQLite or on what the files contain.

pub mod disk_space;
pub mod failpoint;
pub mod paths;
pub mod privileges;
pub mod protected_paths;
pub mod refresher;
pub mod temp_file;
