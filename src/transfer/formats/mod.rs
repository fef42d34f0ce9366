//! File formats of entries: the readers behind `import` and the writer behind `export`. Memory does not grow
//! with the file. Storing entries is left to the parent module.

pub mod apple_health;
pub mod archive;
pub mod columns;
pub mod database_file;
pub mod database_values;
pub mod delimited;
pub mod detect;
pub mod docker_stack;
pub mod fitbit;
pub mod foreign_database;
pub mod gadgetbridge;
pub mod health_connect;
pub mod import_row;
pub mod input;
pub mod json_lines;
pub mod json_list;
pub mod lines;
pub mod parts;
pub mod postgres_dump;
pub mod progress;
pub mod sink;
pub mod temp_copy;
pub mod writer;
