//! The payload parser of HC Webhook.

#![no_main]

use coffee_tracker::transfer::push::hc_webhook;
use coffee_tracker_fuzz::check_push;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| check_push(body, |input, context| hc_webhook::read(input, context)));
