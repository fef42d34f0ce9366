//! File-system building blocks: paths, locks, atomic replacement, temporary files, privileges, disk space.
//!
//! Nothing here depends on SQLite or on the content of the files.

pub mod disk_space;
pub mod failpoint;
pub mod freeze_marker;
pub mod lock;
pub mod paths;
pub mod privileges;
pub mod protected_paths;
pub mod refresher;
pub mod temp_file;
pub mod zip_file;
