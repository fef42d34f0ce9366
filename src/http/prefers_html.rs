//! Content negotiation between HTML and JSON.

use rocket::request::Request;

/// Reports whether the client prefers HTML, as browsers do: `Accept` names it, with at least the weight of JSON.
pub fn prefers_html(request: &Request<'_>) -> bool {
    let Some(accept) = request.accept() else { return false };
    let weight = |sub: &str| {
        let named = accept.iter().filter(|kind| kind.sub() == sub);
        named.map(|kind| kind.weight_or(1.0)).fold(0.0, f32::max)
    };
    let html = weight("html");
    html > 0.0 && html >= weight("json")
}
