//! People whose data the server stores: their folders, and the operations that create, move and remove them.

pub mod add;
pub mod archive;
pub mod database;
pub mod error;
pub mod folder;
pub mod keys;
pub mod moving;
pub mod person;
pub mod registry;
pub mod relocate;
pub mod removed;
