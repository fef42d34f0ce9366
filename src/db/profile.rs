//! The stored profile of the person.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use serde_json::json;

use crate::db::error::StoreError;
use crate::db::store::{Cost, Store};
use crate::db::writer::Savepoint;
use crate::domain::calendar::LocalTime;
use crate::domain::profile::{OwnProfile, ProfileChange};
use crate::fs::freeze_marker::is_frozen;

impl Store {
    /// Returns the values that the person has set.
    pub async fn own_profile(&self) -> Result<OwnProfile, StoreError> {
        self.read("profile", Cost::Quick, read_profile).await
    }

    /// Changes the profile and returns it.
    pub async fn change_profile(&self, change: ProfileChange) -> Result<OwnProfile, StoreError> {
        self.write("change_profile", Savepoint::Unneeded, move |c| change_profile(c, &change)).await
    }
}

/// Reads the values that the person has set.
pub fn read_profile(connection: &Connection) -> rusqlite::Result<OwnProfile> {
    connection
        .prepare_cached(
            "select bedtime, bedtime_by_weekday, half_life_hours, sleep_threshold_mg, usual_dose_mg, daily_limit_mg
             from profile where id = 1",
        )?
        .query_row([], |row| {
            Ok(OwnProfile {
                bedtime: row.get::<_, Option<String>>(0)?.and_then(|text| LocalTime::parse(&text).ok()),
                bedtime_by_weekday: row
                    .get::<_, Option<String>>(1)?
                    .and_then(|json| serde_json::from_str(&json).ok())
                    .unwrap_or_default(),
                half_life_hours: row.get(2)?,
                sleep_threshold_mg: row.get(3)?,
                usual_dose_mg: row.get(4)?,
                daily_limit_mg: row.get(5)?,
            })
        })
        .optional()
        .map(Option::unwrap_or_default)
}

/// Changes the profile, in the transaction of the caller, and returns it.
fn change_profile(connection: &Connection, change: &ProfileChange) -> rusqlite::Result<OwnProfile> {
    let profile = read_profile(connection)?.changed(change);
    connection
        .prepare_cached(
            "insert or replace into profile
             (id, bedtime, bedtime_by_weekday, half_life_hours, sleep_threshold_mg, usual_dose_mg, daily_limit_mg)
             values (1, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            profile.bedtime.map(|time| time.to_string()),
            (!profile.bedtime_by_weekday.is_empty()).then(|| json!(profile.bedtime_by_weekday).to_string()),
            profile.half_life_hours,
            profile.sleep_threshold_mg,
            profile.usual_dose_mg,
            profile.daily_limit_mg
        ])?;
    Ok(profile)
}

/// Changes the profile in `database` in a transaction of its own, and returns it.
pub fn commit_change(
    connection: &mut Connection,
    database: &Path,
    change: &ProfileChange,
) -> Result<OwnProfile, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if is_frozen(database) {
        return Err(StoreError::Frozen);
    }
    let profile = change_profile(&transaction, change)?;
    transaction.commit()?;
    Ok(profile)
}
