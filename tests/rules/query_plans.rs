//! Query plans: every statement in the sources has the plan recorded in `tests/data/plans.txt`, without
//! statistics, with those of tables of one row, and with statistics that favour the wrong index.
//!
//! Statements on entries therefore name their index.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use coffee_tracker::db::schema;
use coffee_tracker::db::schema::Role;
use rusqlite::Connection;
use rusqlite::config::DbConfig;

/// The file of the recorded plans; see [`as_text`].
const RECORDED: &str = "tests/data/plans.txt";

/// Statements that may read a whole table or index, by their beginnings, each with its reason.
const WHOLE_TABLE: &[(&str, &str)] = &[
    ("select 'coffee_logs', count(*) from coffee_logs where not (", "verification reads every row"),
    ("select coalesce(sum(count), 0) from heart_rate_blocks", "verification adds up every count"),
    ("select coalesce(sum(count), 0) from heart_rate_days", "verification adds up every count"),
    ("select coalesce(sum(count), 0) from heart_rate_hours", "verification adds up every count"),
    ("select exists ( select 1 from heart_rate_packed_days", "verification looks at every packed day"),
    ("select (select count(*) from coffee_logs), (select", "verification and restore count all rows"),
    ("select count(*), min(timestamp), max(timestamp), (select count(*) from", "prune counts all rows"),
    ("select count(*) from (select id from coffee_logs not indexed limit 1)", "one row"),
    ("select id from coffee_logs not indexed limit 1", "one row"),
    (
        "select timestamp, caffeine_mg from coffee_logs indexed by coffee_logs_by_time \
         order by timestamp desc, id desc limit 1",
        "the last row of the index",
    ),
    (
        "select id, timestamp, bpm, context, notes from heart_rate_logs indexed by heart_rate_logs_by_time \
         order by timestamp desc, id desc limit 1",
        "the last row of the index",
    ),
];

/// Every statement on our tables, by file.
type StatementList = Vec<(String, Vec<String>)>;

/// A statement's plan, one line a step.
type Plans = BTreeMap<(String, String), Vec<String>>;

#[test]
fn no_plan_depends_on_statistics() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("coffee.db");
    let mut new = Connection::open(&path).unwrap();
    schema::migrate(&mut new, 0, schema::migrations()).unwrap();
    let statements = statements();
    let plain = plans(&new, &statements);
    let found = as_text(&statements, &plain);
    let recorded = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(RECORDED)).unwrap();
    assert!(found == recorded, "the plans differ from {RECORDED}; found:\n{found}");
    for (name, statistics) in hostile_statistics(&new) {
        new.execute_batch("analyze; delete from sqlite_stat1; delete from sqlite_stat4").unwrap();
        new.execute_batch(&statistics).unwrap();
        compare(&path, &name, &statements, &plain);
    }
    // The statistics that SQLite itself gathers of one row in each table.
    new.execute_batch(
        "insert into coffee_logs (timestamp, caffeine_mg) values (1, 95);
         insert into heart_rate_logs (timestamp, bpm) values (1, 60);
         insert into idempotency_keys values ('/coffee/', 'k', zeroblob(32), 1, '{}', 1);
         analyze",
    )
    .unwrap();
    compare(&path, "one row, analyzed", &statements, &plain);
}

#[test]
fn only_listed_statements_read_a_whole_table() {
    let mut connection = Connection::open_in_memory().unwrap();
    schema::migrate(&mut connection, 0, schema::migrations()).unwrap();
    let scans = |plan: &[String]| {
        plan.iter().any(|step| {
            step.strip_prefix("SCAN ").is_some_and(|of| {
                ["coffee_logs", "heart_rate_", "idempotency_keys", "profile"]
                    .iter()
                    .any(|table| of.starts_with(table))
            })
        })
    };
    let is_allowed = |statement: &str| WHOLE_TABLE.iter().any(|(allowed, _)| statement.starts_with(allowed));
    let scanning: Vec<_> = plans(&connection, &statements())
        .into_iter()
        .filter(|((_, statement), plan)| scans(plan) && !is_allowed(statement))
        .collect();
    assert!(scanning.is_empty(), "{scanning:#?}");
}

/// Plans the statements with the statistics in the database, as a writer and as a reader.
fn compare(path: &Path, name: &str, statements: &StatementList, plain: &Plans) {
    for role in [Role::Writer, Role::Reader] {
        let connection = schema::connect(path, role).unwrap();
        assert_same_plans(name, plain, &plans(&connection, statements));
    }
}

/// Asserts that the plans are those without statistics.
#[track_caller]
fn assert_same_plans(name: &str, plain: &Plans, found: &Plans) {
    // These tables have no index that a statement could name. The program drops all statistics.
    let without_index = ["from heart_rate_hours", "from heart_rate_packed_days not indexed"];
    let named =
        plain.iter().filter(|((_, statement), _)| !without_index.iter().any(|of| statement.contains(of)));
    for (statement, plan) in named {
        let (plan, of_triggers) = without_triggers(plan);
        let (found, found_of_triggers) = without_triggers(&found[statement]);
        assert_eq!(found, plan, "with statistics {name}: {statement:?}");
        // The schema cannot name an index there any more. Another index must still serve the search.
        let are_searches = found_of_triggers.iter().all(|step| !step.starts_with("SCAN"));
        assert!(
            are_searches && found_of_triggers.len() == of_triggers.len(),
            "with statistics {name}: {statement:?}: {found_of_triggers:?}"
        );
    }
}

/// Splits a plan into the statement's own statements and those of the triggers that it fires.
fn without_triggers(plan: &[String]) -> (&[String], &[String]) {
    plan.split_at(plan.iter().position(|step| step.starts_with("-- TRIGGER")).unwrap_or(plan.len()))
}

/// Contents of `sqlite_stat1` that favour the wrong index, by name.
fn hostile_statistics(connection: &Connection) -> Vec<(String, String)> {
    const USELESS: &str = "1000000 1000000 1000000 1000000 1000000 1000000";
    const PERFECT: &str = "1000000 1 1 1 1 1";
    const ONE_ROW: &str = "1 1 1 1 1 1";
    let indexes: Vec<(String, String)> = connection
        .prepare(
            "select tables.name, indexes.name from pragma_table_list tables, pragma_index_list(tables.name) indexes
             where tables.type = 'table' and tables.name not like 'sqlite@_%' escape '@'",
        )
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert!(indexes.len() >= 5, "{indexes:?}");
    let all = |of: &dyn Fn(usize) -> String| -> String {
        let rows = indexes.iter().enumerate().map(|(n, (table, index))| {
            // The key of a table without rowid has the table's name here.
            let index = if index.starts_with("sqlite_autoindex") { table } else { index };
            format!("insert into sqlite_stat1 values ('{table}', '{index}', '{}');", of(n))
        });
        rows.collect()
    };
    let mut found = vec![
        ("of one row".to_owned(), all(&|_| ONE_ROW.to_owned())),
        ("that make every index useless".to_owned(), all(&|_| USELESS.to_owned())),
    ];
    for (best, (_, name)) in indexes.iter().enumerate() {
        for rest in [USELESS, ONE_ROW] {
            let of = |n| if n == best { PERFECT } else { rest }.to_owned();
            found.push((format!("that favour {name} over {rest}"), all(&of)));
            let of = |n| if n == best { rest } else { PERFECT }.to_owned();
            found.push((format!("that favour all but {name}, which has {rest}"), all(&of)));
        }
    }
    for seed in 0..100 {
        let random = std::cell::RefCell::new(fastrand::Rng::with_seed(seed));
        let of = |_: usize| {
            let mut rows = 10_u64.pow(random.borrow_mut().u32(0..8));
            let mut numbers = vec![rows.to_string()];
            for _ in 0..5 {
                rows = random.borrow_mut().u64(1..=rows);
                numbers.push(rows.to_string());
            }
            numbers.join(" ")
        };
        found.push((format!("drawn with seed {seed}"), all(&of)));
    }
    found
}

/// The plan of each statement, those of the triggers that it fires included.
fn plans(connection: &Connection, statements: &StatementList) -> Plans {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRIGGER_EQP, true).unwrap();
    let mut plans = Plans::new();
    for (file, of_file) in statements {
        for statement in of_file {
            let explained = format!("explain query plan {statement}");
            let mut query =
                connection.prepare(&explained).unwrap_or_else(|e| panic!("{file}: {statement}: {e}"));
            let mut rows = query.raw_query();
            let mut plan = Vec::new();
            while let Some(row) = rows.next().unwrap() {
                plan.push(row.get::<_, String>(3).unwrap());
            }
            plans.insert((file.clone(), statement.clone()), plan);
        }
    }
    plans
}

/// One paragraph a statement: the statement, then its plan, indented.
fn as_text(statements: &StatementList, plans: &Plans) -> String {
    let mut text = String::new();
    for (file, of_file) in statements {
        text.push_str(&format!("-- {file}\n"));
        for statement in of_file {
            text.push_str(&format!("{statement}\n"));
            for step in &plans[&(file.clone(), statement.clone())] {
                text.push_str(&format!("    {step}\n"));
            }
        }
        text.push('\n');
    }
    text
}

/// Every statement on one of our tables in the sources and in `sql/`, migrations left out.
fn statements() -> StatementList {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = files_below(&root.join("src"), "rs");
    files.extend(files_below(&root.join("sql"), "sql"));
    files.sort();
    let mut found = StatementList::new();
    for file in files {
        let name = file.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&file).unwrap();
        let mut of_file = Vec::new();
        if name.ends_with(".rs") {
            let code = text.split("\nmod tests {").next().unwrap();
            // These statements read the tables of another program.
            if !name.ends_with("docker_stack.rs") {
                literals(code).iter().for_each(|literal| split(literal, &mut of_file));
            }
        } else if !name.starts_with("sql/000") {
            let lines = text.lines().filter(|line| !line.starts_with("--"));
            split(&lines.collect::<Vec<_>>().join("\n"), &mut of_file);
        }
        of_file.dedup();
        if !of_file.is_empty() {
            found.push((name, of_file));
        }
    }
    found
}

fn files_below(folder: &Path, end: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path, end));
        } else if path.extension().is_some_and(|own| own == end) {
            files.push(path);
        }
    }
    files
}

/// Adds the statements on our tables among those of `text`, with single spaces.
fn split(text: &str, into: &mut Vec<String>) {
    for statement in text.split(';') {
        let words: Vec<&str> = statement.split_whitespace().collect();
        let is_statement =
            words.first().is_some_and(|word| ["select", "insert", "update", "delete", "with"].contains(word));
        let is_ours = words.iter().any(|word| {
            let word = word.trim_matches(|c: char| !c.is_ascii_alphabetic());
            ["coffee_logs", "idempotency_keys", "profile", "coffees", "heart_rates"].contains(&word)
                || word.starts_with("heart_rate_")
        });
        if is_statement && is_ours && words.len() > 2 {
            into.push(words.join(" "));
        }
    }
}

/// The contents of the string literals of a Rust file.
fn literals(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = code.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '/' if rest.peek() == Some(&'/') => {
                rest.by_ref().find(|c| *c == '\n');
            }
            // A quote as a character is no string; any other one begins a character or a lifetime.
            '\'' if rest.peek() == Some(&'"') => drop(rest.next()),
            '\'' if rest.peek() == Some(&'\\') => drop(rest.nth(1)),
            '"' => {
                let mut text = String::new();
                while let Some(c) = rest.next() {
                    match c {
                        '"' => break,
                        '\\' => match rest.next() {
                            Some('\n') | None => text.push(' '),
                            Some('n') => text.push('\n'),
                            Some(c) => text.push(c),
                        },
                        c => text.push(c),
                    }
                }
                found.push(text);
            }
            _ => {}
        }
    }
    found
}
