//! The whole API as one table: every route with the limit it is charged to and who may
//! ask. What is not in this table is not mounted.

use std::sync::LazyLock;

use rocket::http::Method;
use rocket::route::Route;
use rocket::routes;

use crate::auth::key::Scope;
use crate::config::LimitClass;
use crate::config::LimitClass::{
    CoffeeChange, CoffeeWrite, Health, HeartrateBatch, HeartrateChange, HeartrateWrite, Info, Open, Read,
    Static,
};
use crate::http::handlers::{assets, caffeine, coffee, export, health, heart_rate, metrics, pages};
use crate::http::middleware::guard::{Access, Guarded};

/// For keys that may look.
const READERS: Access = Access::Key(Scope::Read);
/// For keys that may log and change.
const WRITERS: Access = Access::Key(Scope::Write);

/// A route, its limit, who may ask.
#[derive(Clone, Debug)]
pub struct Entry {
    pub route: Route,
    /// Its path as people write it: `/coffee/`, `/coffee/<id>`.
    pub template: &'static str,
    pub class: LimitClass,
    pub access: Access,
}

/// Every route.
pub fn table() -> &'static [Entry] {
    static TABLE: LazyLock<Vec<Entry>> = LazyLock::new(|| {
        [
            group(
                routes![pages::root, pages::docs, pages::redoc, crate::http::openapi::document],
                Open,
                Access::Public,
            ),
            group(routes![health::health], Health, Access::Public),
            group(routes![health::info], Info, Access::Public),
            group(
                routes![assets::asset, assets::service_worker, assets::manifest, assets::icon],
                Static,
                Access::Public,
            ),
            group(routes![metrics::metrics], Read, Access::Metrics),
            group(
                routes![
                    coffee::list,
                    coffee::show,
                    coffee::today,
                    coffee::week,
                    coffee::days,
                    coffee::stats,
                    coffee::types,
                    caffeine::active,
                    caffeine::summary
                ],
                Read,
                READERS,
            ),
            group(routes![coffee::add], CoffeeWrite, WRITERS),
            group(routes![coffee::replace, coffee::change, coffee::delete], CoffeeChange, WRITERS),
            group(
                routes![
                    heart_rate::list,
                    heart_rate::show,
                    heart_rate::current,
                    heart_rate::range,
                    heart_rate::stats,
                    heart_rate::correlate
                ],
                Read,
                READERS,
            ),
            group(routes![export::coffee, export::heart_rate], Read, READERS),
            group(routes![heart_rate::add], HeartrateWrite, WRITERS),
            group(routes![heart_rate::add_batch], HeartrateBatch, WRITERS),
            group(
                routes![heart_rate::replace, heart_rate::change, heart_rate::delete],
                HeartrateChange,
                WRITERS,
            ),
        ]
        .into_iter()
        .flatten()
        .collect()
    });
    &TABLE
}

/// The table's routes, each behind its gate.
pub fn guarded() -> Vec<Route> {
    let guard = |entry: &Entry| {
        let mut route = entry.route.clone();
        route.handler = Box::new(Guarded {
            inner: route.handler,
            template: entry.template,
            class: entry.class,
            access: entry.access,
        });
        route
    };
    table().iter().map(guard).collect()
}

/// The template of the routes at `path`, and their methods; `None` when there are none.
pub fn methods_at(path: &str) -> Option<(&'static str, Vec<Method>)> {
    let matching = |entry: &&Entry| matches(entry.template, path);
    // A name beats a placeholder: /coffee/today is not /coffee/<id>.
    let best = table().iter().filter(matching).min_by_key(|entry| entry.template.contains('<'))?;
    let methods =
        table().iter().filter(|entry| entry.template == best.template).map(|entry| entry.route.method);
    Some((best.template, methods.collect()))
}

/// Do the routes of `template` speak for `path`? `PUT /coffee/today` is not for `/coffee/<id>`: that
/// name has routes of its own, even though none of them is a PUT.
pub fn is_best(template: &str, path: &str) -> bool {
    !template.contains('<') || methods_at(path).is_none_or(|(best, _)| best == template)
}

fn matches(template: &str, path: &str) -> bool {
    let mut expected = template.split('/').filter(|s| !s.is_empty());
    let mut given = path.split('/').filter(|s| !s.is_empty());
    loop {
        match (expected.next(), given.next()) {
            (None, None) => return true,
            (Some(rest), Some(_)) if rest.ends_with("..>") => return true,
            (Some(name), Some(segment)) if name == segment || name.starts_with('<') => {}
            _ => return false,
        }
    }
}

fn group(routes: Vec<Route>, class: LimitClass, access: Access) -> Vec<Entry> {
    routes.into_iter().map(|route| Entry { template: template(&route), route, class, access }).collect()
}

/// Collections are written with a slash at their end.
fn template(route: &Route) -> &'static str {
    match route.uri.path() {
        "/coffee" => "/coffee/",
        "/heartrate" => "/heartrate/",
        // The table is built once and lives as long as the program.
        other => Box::leak(other.to_owned().into_boxed_str()),
    }
}
