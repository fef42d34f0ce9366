//! Route table: every route with its rate limit and the authorization that it requires.
//!
//! Every route is mounted, guarded and added to the API document from this table only (`rocket` in `server/mod.rs`).
//! Pages and their files are not part of the API, so the document omits them.

use std::sync::LazyLock;

use rocket::http::Method;
use rocket::route::Route;
use utoipa::OpenApi;

use crate::auth::key::Scope;
use crate::config::LimitClass;
use crate::http::handlers::{
    assets, backup_file, backups, caffeine, check, coffee, coffee_rename, coffee_totals, export, health,
    heart_rate, heart_rate_batch, heart_rate_stats, imports, info, ingest, jobs, keys, me, metrics, pages,
    pairings, people, profile, sources,
};
use crate::http::middleware::guard::{Access, RouteEntry};

const READ: Access = Access::Key(Scope::Read);
const WRITE: Access = Access::Key(Scope::Write);
const MANAGE: Access = Access::Key(Scope::Manage);
const ADMIN: Access = Access::Key(Scope::Admin);

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
        Open => pages::docs pages::redoc pages::settings pages::settings_section;
        Static => assets::asset assets::service_worker assets::manifest assets::icon;
    }
    api {
        Open, Access::Public => pages::root pages::openapi;
        Health, Access::Public => health::health;
        Info, Access::Public => info::info;
        Read, Access::Metrics => metrics::metrics;
        Read, Access::AnyKey => me::me;
        Read, READ => coffee::list coffee::get coffee_totals::today coffee_totals::week
            coffee_totals::days coffee_totals::stats coffee_totals::types caffeine::active caffeine::summary;
        CoffeeWrite, WRITE => coffee::add;
        CoffeeChange, WRITE => coffee::put coffee::delete coffee_rename::rename;
        Read, READ => heart_rate::list heart_rate::get heart_rate_stats::current heart_rate_stats::range
            heart_rate_stats::stats heart_rate_stats::correlation;
        Read, READ => profile::get;
        CoffeeChange, WRITE => profile::change;
        Read, READ => export::coffee export::heart_rate;
        Manage, MANAGE => keys::list keys::add keys::revoke keys::undo_revoke keys::rotate pairings::start
            pairings::get pairings::end;
        Pair, Access::Public => pairings::pair;
        Manage, MANAGE => jobs::list jobs::get;
        Manage, MANAGE => backups::list backups::create backup_file::download backups::verify backups::restore
            backups::upload backups::prune;
        Manage, MANAGE => imports::preview imports::import imports::discard;
        Manage, ADMIN => people::list people::add people::get people::change people::remove people::backups
            people::create_backup people::keys people::add_key_of people::revoke_key_of check::check;
        HeartrateWrite, WRITE => heart_rate::add;
        HeartrateBatch, WRITE => heart_rate_batch::add_batch;
        Read, READ => sources::list;
        Ingest, WRITE => ingest::push_health_auto_export ingest::push_hc_webhook;
        HeartrateChange, WRITE => heart_rate::put heart_rate::delete;
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
