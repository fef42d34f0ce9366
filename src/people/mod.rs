//! People whose data the server stores, and their folders.

pub mod folder;
