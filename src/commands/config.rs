//! `config`: prints the settings in effect and where each comes from.

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command};
use serde_json::{Map, Value, json};

use crate::commands::table::print_table;
use crate::commands::{Failure, print};
use crate::config::{EnvFile, KeySource, Settings, SettingsArgs, default_value};

#[derive(Args, Debug)]
pub struct ConfigArgs {
    /// Print only the value of this setting, such as PORT
    name: Option<String>,

    /// Print a JSON object
    #[arg(long, conflicts_with = "name")]
    json: bool,

    /// Print nothing; only fail if a setting is invalid
    #[arg(short, long, conflicts_with_all = ["name", "json", "show_secrets"])]
    quiet: bool,

    /// Print the API key in clear text
    #[arg(long)]
    show_secrets: bool,

    #[command(flatten)]
    settings: SettingsArgs,
}

/// Name, value and source of a setting.
type Row = [String; 3];

/// Prints the settings. Their sources come from `matches` and `file`.
pub fn run(args: &ConfigArgs, matches: &ArgMatches, file: &EnvFile) -> Result<(), Failure> {
    let settings = args.settings.validate(|name| std::env::var(name).ok())?;
    if args.quiet {
        return Ok(());
    }
    let rows = rows(args, &settings, matches, file);
    if let Some(wanted) = &args.name {
        let row = rows.iter().find(|[name, ..]| name.eq_ignore_ascii_case(wanted));
        let unknown = || {
            Failure::Usage(format!(
                "there is no setting {wanted}: `coffee-tracker config` lists all settings"
            ))
        };
        let [_, value, _] = row.ok_or_else(unknown)?;
        return print(value);
    }
    if args.json {
        let object: Map<String, Value> = rows
            .into_iter()
            .map(|[name, value, source]| (name, json!({"value": value, "source": source})))
            .collect();
        return print(&Value::from(object).to_string());
    }
    print_table(["SETTING", "VALUE", "SOURCE"], rows)
}

fn rows(args: &ConfigArgs, settings: &Settings, matches: &ArgMatches, file: &EnvFile) -> Vec<Row> {
    let definition = SettingsArgs::augment_args(Command::new("settings"));
    let settings_with_flags = definition.get_arguments().map(|arg| {
        let id = arg.get_id().as_str();
        let name = id.to_ascii_uppercase();
        let text = match id {
            "debug" => settings.initial.debug.to_string(),
            id => matches.get_one::<String>(id).map(|text| text.trim().to_owned()).unwrap_or_default(),
        };
        let source = match matches.value_source(id) {
            Some(ValueSource::CommandLine) if !text.is_empty() => "flag".to_owned(),
            Some(ValueSource::EnvVariable) if !text.is_empty() => variable_source(&name, file),
            _ => "default".to_owned(),
        };
        let path = |path: &std::path::Path| path.display().to_string();
        match (id, &settings.initial.key) {
            ("api_key_file", KeySource::Given(_)) => [name, String::new(), "default".to_owned()],
            ("api_key_file", KeySource::File(file)) if text.is_empty() => {
                [name, path(file), "credential".to_owned()]
            }
            ("api_key_file", KeySource::Generated(file)) => [name, path(file), source],
            _ if text.is_empty() => {
                let value = default_value(&definition, &name);
                [name, value, source]
            }
            _ => [name, text, source],
        }
    });
    std::iter::once(api_key(args, settings, file)).chain(settings_with_flags).collect()
}

fn api_key(args: &ConfigArgs, settings: &Settings, file: &EnvFile) -> Row {
    let [value, source] = match &settings.initial.key {
        KeySource::Given(key) if args.show_secrets => [key.clone(), variable_source("API_KEY", file)],
        KeySource::Given(_) => ["(redacted)".to_owned(), variable_source("API_KEY", file)],
        KeySource::File(_) | KeySource::Generated(_) => [String::new(), "default".to_owned()],
    };
    ["API_KEY".to_owned(), value, source]
}

fn variable_source(name: &str, file: &EnvFile) -> String {
    if file.has_set(name) { file.path.display().to_string() } else { "environment".to_owned() }
}
