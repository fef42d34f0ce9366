//! The payload parser of Health Auto Export.

#![no_main]

use coffee_tracker::transfer::push::health_auto_export;
use coffee_tracker_fuzz::check_push;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| check_push(body, |input, context| health_auto_export::read(input, context)));
