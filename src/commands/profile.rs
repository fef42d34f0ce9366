//! `profile`: shows and changes the profile of the person.

use clap::Args;
use serde_json::{Value, json};

use crate::commands::table::print_table;
use crate::commands::{Failure, act_as_owner, print};
use crate::config::{PersonArgs, ProfileDefaultArgs};
use crate::db::error::StoreError;
use crate::db::open::open_to_write;
use crate::db::profile::{commit_change, read_profile};
use crate::db::schema;
use crate::domain::profile::{FIELDS, Profile, ProfileChange};

#[derive(Args, Debug)]
pub struct ProfileArgs {
    /// Set a value, such as bedtime=22:30 or, for one weekday, bedtime.friday=00:30; an empty value resets it to the default
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,

    /// Print a JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    defaults: ProfileDefaultArgs,

    #[command(flatten)]
    common: PersonArgs,
}

/// Changes the fields that `--set` names, and prints the profile.
pub fn run(args: &ProfileArgs) -> Result<(), Failure> {
    let change = change_of(&args.set)?;
    let (settings, defaults) = args.defaults.validate_with(&args.common)?;
    act_as_owner(&settings.database)?;
    let (mut connection, version) = open_to_write(&settings.database)?;
    if version != schema::newest() {
        return Err(Failure::Failed(format!(
            "{} has schema {version}, older than {}: start the server to migrate it",
            settings.database.display(),
            schema::newest()
        )));
    }
    let own = if args.set.is_empty() {
        read_profile(&connection).map_err(StoreError::from)?
    } else {
        commit_change(&mut connection, &settings.database, &change)?
    };
    print_profile(&Profile::of(&own, &defaults), args.json)
}

fn change_of(assignments: &[String]) -> Result<ProfileChange, Failure> {
    let mut change = ProfileChange::default();
    for assignment in assignments {
        let (name, value) = assignment.split_once('=').ok_or_else(|| {
            let names = ProfileChange::field_names();
            Failure::Usage(format!("--set {assignment}: must be NAME=VALUE, where NAME is one of {names}"))
        })?;
        let value = Some(value.trim()).filter(|value| !value.is_empty());
        change.set(name.trim(), value).map_err(|e| Failure::Usage(format!("--set {assignment}: {e}")))?;
    }
    Ok(change)
}

fn print_profile(profile: &Profile, as_json: bool) -> Result<(), Failure> {
    let fields = json!(profile);
    if as_json {
        return print(&fields.to_string());
    }
    let rows = FIELDS.iter().flat_map(|name| {
        let field = &fields[*name];
        let source = if field["is_default"] == true { "default" } else { "set" };
        let values = match field["value"].as_object() {
            Some(days) => {
                days.iter().map(|(day, time)| (format!("bedtime.{day}"), value_text(time))).collect()
            }
            None => vec![((*name).to_owned(), value_text(&field["value"]))],
        };
        values.into_iter().map(move |(name, value)| [name, value, source.to_owned()])
    });
    print_table(["NAME", "VALUE", "SOURCE"], rows)
}

fn value_text(value: &Value) -> String {
    match value {
        Value::Null => "median of the latest 50 coffees".to_owned(),
        Value::String(text) => text.clone(),
        other => other.as_f64().map_or_else(|| other.to_string(), |number| number.to_string()),
    }
}
