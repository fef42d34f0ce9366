//! The readers of files of other programs: databases, archives and text.

#![no_main]

use coffee_tracker_fuzz::check_file;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|content: &[u8]| check_file(content));
