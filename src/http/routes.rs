//! Route table: every route with its rate limit and the authorization that it requires.
//!
//! The table is the only place that mounts a route, puts it behind the guard and adds it to the API document.
//! Pages and their files are not part of the API, so the document omits them.

use std::sync::LazyLock;

use rocket::http::Method;
use rocket::route::Route;
use utoipa::OpenApi;

use crate::auth::key::Scope;
use crate::config::LimitClass;
use crate::http::handlers::{
    assets, caffeine, coffee, export, health, heart_rate, info, me, metrics, openapi_document, pages,
};
use crate::http::middleware::guard::{Access, GuardedHandler};

const READ: Access = Access::Key(Scope::Read);
const WRITE: Access = Access::Key(Scope::Write);

/// Route with its rate limit and authorization.
#[derive(Clone, Debug)]
pub struct RouteEntry {
    pub route: Route,
    /// Path with placeholders, as people write it: `/coffee/`, `/coffee/<id>`.
    pub template: &'static str,
    pub class: LimitClass,
    pub access: Access,
}

macro_rules! route_table {
    (
        pages { $($page_class:ident => $($page_module:ident::$page:ident)+;)+ }
        api { $($class:ident, $access:expr => $($module:ident::$handler:ident)+;)+ }
    ) => {
        /// Returns every route.
        pub fn table() -> &'static [RouteEntry] {
            static TABLE: LazyLock<Vec<RouteEntry>> = LazyLock::new(|| {
                let groups = [
                    $((rocket::routes![$($page_module::$page),+], LimitClass::$page_class, Access::Public),)+
                    $((rocket::routes![$($module::$handler),+], LimitClass::$class, $access)),+
                ];
                groups.into_iter().flat_map(|(routes, class, access)| entries(routes, class, access)).collect()
            });
            &TABLE
        }

        /// OpenAPI operations of every route of the API.
        #[derive(OpenApi)]
        #[openapi(paths($($($module::$handler),+),+))]
        pub struct Operations;
    };
}

route_table! {
    pages {
        Open => pages::docs pages::redoc;
        Static => assets::asset assets::service_worker assets::manifest assets::icon;
    }
    api {
        Open, Access::Public => pages::root openapi_document::openapi;
        Health, Access::Public => health::health;
        Info, Access::Public => info::info;
        Read, Access::Metrics => metrics::metrics;
        Read, Access::AnyKey => me::me;
        Read, READ => coffee::list coffee::get coffee::today coffee::week coffee::days coffee::stats
            coffee::types caffeine::active caffeine::summary;
        CoffeeWrite, WRITE => coffee::add;
        CoffeeChange, WRITE => coffee::put coffee::delete;
        Read, READ => heart_rate::list heart_rate::get heart_rate::current heart_rate::range
            heart_rate::stats heart_rate::correlation;
        Read, READ => export::coffee export::heart_rate;
        HeartrateWrite, WRITE => heart_rate::add;
        HeartrateBatch, WRITE => heart_rate::add_batch;
        HeartrateChange, WRITE => heart_rate::put heart_rate::delete;
    }
}

/// Returns the routes of the table, each behind the guard.
pub fn guarded() -> Vec<Route> {
    let guard = |entry: &RouteEntry| {
        let mut route = entry.route.clone();
        route.handler = Box::new(GuardedHandler {
            inner: route.handler,
            template: entry.template,
            class: entry.class,
            access: entry.access,
            is_best_match,
        });
        route
    };
    table().iter().map(guard).collect()
}

/// Returns method, path and authorization of every route.
pub fn endpoints() -> Vec<(String, &'static str, Access)> {
    table().iter().map(|entry| (entry.route.method.to_string(), entry.template, entry.access)).collect()
}

/// Returns the template of the routes at `path` and their methods; `None` when there are none.
pub fn methods_at(path: &str) -> Option<(&'static str, Vec<Method>)> {
    let matching = |entry: &&RouteEntry| matches(entry.template, path);
    // A literal segment takes precedence over a placeholder.
    let best = table().iter().filter(matching).min_by_key(|entry| entry.template.contains('<'))?;
    let methods =
        table().iter().filter(|entry| entry.template == best.template).map(|entry| entry.route.method);
    Some((best.template, methods.collect()))
}

/// Reports whether no other template fits `path` better than `template`.
fn is_best_match(template: &str, path: &str) -> bool {
    !template.contains('<') || methods_at(path).is_none_or(|(best, _)| best == template)
}

fn matches(template: &str, path: &str) -> bool {
    let mut expected = template.split('/').filter(|s| !s.is_empty());
    let mut segments = path.split('/').filter(|s| !s.is_empty());
    loop {
        match (expected.next(), segments.next()) {
            (None, None) => return true,
            (Some(rest), Some(_)) if rest.ends_with("..>") => return true,
            (Some(name), Some(segment)) if name == segment || name.starts_with('<') => {}
            _ => return false,
        }
    }
}

/// Creates the entries of a group. Every `PUT` changes only the fields that are sent, so it is mounted as
/// `PATCH`, too.
fn entries(routes: Vec<Route>, class: LimitClass, access: Access) -> impl Iterator<Item = RouteEntry> {
    let with_patch = routes.into_iter().flat_map(|route| {
        let mut patch = (route.method == Method::Put).then(|| route.clone());
        patch.iter_mut().for_each(|patch| patch.method = Method::Patch);
        [Some(route), patch].into_iter().flatten()
    });
    with_patch.map(move |route| RouteEntry { template: template(&route), route, class, access })
}

fn template(route: &Route) -> &'static str {
    match route.uri.path() {
        // Collections are written with a trailing slash.
        "/coffee" => "/coffee/",
        "/heartrate" => "/heartrate/",
        // The table is built once and lives as long as the program.
        other => Box::leak(other.to_owned().into_boxed_str()),
    }
}
