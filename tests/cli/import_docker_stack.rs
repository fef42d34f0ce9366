//! `import` of databases of the Docker stack: its SQLite file and its PostgreSQL dumps. Both give the same rows.

use rusqlite::Connection;

use crate::helpers::{Process, program, temporary_folder, wait_until};
use crate::import::{coffees, import, import_file, readings, summary};

/// Statements that create the stack's SQLite file as SQLAlchemy does: indexes on every column, and timestamps as text.
const STACK: &str = "
create table coffee_logs (id INTEGER NOT NULL, timestamp DATETIME, caffeine_mg FLOAT NOT NULL,
    coffee_type VARCHAR(100), notes TEXT, PRIMARY KEY (id));
create table heart_rate_logs (id INTEGER NOT NULL, timestamp DATETIME, bpm INTEGER NOT NULL,
    context VARCHAR(50), notes TEXT, PRIMARY KEY (id));
create index ix_coffee_logs_timestamp on coffee_logs (timestamp);
create index idx_type_timestamp on coffee_logs (coffee_type, timestamp);
create index ix_heart_rate_logs_bpm on heart_rate_logs (bpm);
insert into coffee_logs values (1, '2025-10-02 10:30:15.123456', 95, 'espresso', 'why at 11pm' || char(10) || 'again');
insert into coffee_logs values (2, '2025-10-02 14:05:00', 62.5, null, null);
insert into coffee_logs values (3, '2025-10-02 14:05:00', 62.5, null, null);
insert into coffee_logs values (7, '2025-10-03 14:05:00', 0.001, 'tab' || char(9) || 'here', 'back\\slash it''s \"q\"; -- x');
insert into heart_rate_logs values (1, '2025-10-02 10:30:15', 72, 'resting', null);
insert into heart_rate_logs values (4, '2025-10-02 10:31:15.500000', 180, null, 'stairs');
";

const STACK_COFFEES: [&str; 4] = [
    r#"Integer(1)|Integer(1759401015123456)|Real(95.0)|Text("espresso")|Text("why at 11pm\nagain")|Text("docker-stack")"#,
    r#"Integer(2)|Integer(1759413900000000)|Real(62.5)|Null|Null|Text("docker-stack")"#,
    r#"Integer(3)|Integer(1759413900000000)|Real(62.5)|Null|Null|Text("docker-stack")"#,
    r#"Integer(7)|Integer(1759500300000000)|Real(0.001)|Text("tab\there")|Text("back\\slash it's \"q\"; -- x")|Text("docker-stack")"#,
];
const STACK_READINGS: [&str; 2] = [
    r#"Integer(1)|Integer(1759401015000000)|Integer(72)|Text("resting")|Null|Text("docker-stack")"#,
    r#"Integer(4)|Integer(1759401075500000)|Integer(180)|Null|Text("stairs")|Text("docker-stack")"#,
];

/// Text that pg_dump 15 writes before the rows, with parts that look like rows.
const PREAMBLE: &str = r#"--
-- PostgreSQL database dump
--

\restrict Sjd6e287hZQmo11xvQTAx0T90giYWKoxqq5flZVxnPLsw2rweH9uev9SVhUogIh

-- Dumped from database version 15.18 (Debian 15.18-0+deb12u1)

SET statement_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);

CREATE FUNCTION public.f() RETURNS void
    LANGUAGE plpgsql
    AS $$ begin -- it's;
 insert into coffee_logs values (99, '2025-10-02', 1, null, null); end $$;

SET default_table_access_method = heap;

CREATE TABLE public.coffee_logs (
    id integer NOT NULL,
    "timestamp" timestamp with time zone,
    caffeine_mg double precision NOT NULL,
    coffee_type character varying(100),
    notes text,
    CONSTRAINT plausible CHECK ((caffeine_mg >= (0)::double precision))
);

COMMENT ON TABLE public.coffee_logs IS 'it''s
INSERT INTO public.coffee_logs VALUES (7, ''2025-01-01'', 1, null, null);';

CREATE SEQUENCE public.coffee_logs_id_seq
    AS integer
    START WITH 1
    CACHE 1;

ALTER SEQUENCE public.coffee_logs_id_seq OWNED BY public.coffee_logs.id;

"#;

const COPIED: &str = r#"COPY public.coffee_logs (id, "timestamp", caffeine_mg, coffee_type, notes) FROM stdin;
1	2025-10-02 12:30:15.123456+02	95	espresso	why at 11pm\nagain
2	2025-10-02 16:05:00+02	62.5	\N	\N
3	2025-10-02 16:05:00+02	62.5	\N	\N
7	2025-10-03 09:05:00-05	0.001	tab\there	back\\slash it's "q"; -- x
\.

--
-- Data for Name: heart_rate_logs; Type: TABLE DATA; Schema: public; Owner: coffee
--

COPY public.heart_rate_logs (context, bpm, notes, id, "timestamp") FROM stdin;
resting	72	\N	1	2025-10-02 10:30:15+00
\N	180	stairs	4	2025-10-02 16:01:15.5+05:30
\.

COPY public.other (a, b) FROM stdin;
1	INSERT INTO public.coffee_logs VALUES (8, '2025-01-01', 1, null, null);
\.

SELECT pg_catalog.setval('public.coffee_logs_id_seq', 7, true);

ALTER TABLE ONLY public.coffee_logs
    ADD CONSTRAINT coffee_logs_pkey PRIMARY KEY (id);

\unrestrict Sjd6e287hZQmo11xvQTAx0T90giYWKoxqq5flZVxnPLsw2rweH9uev9SVhUogIh
"#;

#[test]
fn a_stack_database_and_its_dumps_give_the_same_rows_once() {
    let copied = format!("{PREAMBLE}{COPIED}");
    let windows = copied.replace('\n', "\r\n");
    let forms = ["sqlite", &copied, COPIED, &windows];
    for first in forms {
        let folder = temporary_folder();
        Connection::open(folder.path().join("sqlite")).unwrap().execute_batch(STACK).unwrap();
        for (round, form) in std::iter::once(&first).chain(&forms).enumerate() {
            let result = match *form {
                "sqlite" => import_file(folder.path(), "sqlite", &[]),
                dump => import(folder.path(), dump, &[]),
            };
            let expected = if round == 0 {
                "4 coffees and 2 readings added, 0 duplicates skipped, 0 rows rejected"
            } else {
                "0 coffees and 0 readings added, 6 duplicates skipped, 0 rows rejected"
            };
            assert!(summary(&result).contains(expected), "{result:?}");
        }
        assert_eq!(coffees(folder.path()), STACK_COFFEES);
        assert_eq!(readings(folder.path()), STACK_READINGS);
    }
}

#[test]
fn a_stack_database_is_not_changed_and_no_file_is_created_beside_it() {
    for journal_mode in ["delete", "wal"] {
        let folder = temporary_folder();
        let stack = folder.path().join("stack");
        std::fs::create_dir(&stack).unwrap();
        let file = stack.join("what? 100%.db");
        let connection = Connection::open(&file).unwrap();
        connection.pragma_update(None, "journal_mode", journal_mode).unwrap();
        connection.execute_batch(STACK).unwrap();
        drop(connection);
        let before = std::fs::read(&file).unwrap();
        let result = import_file(folder.path(), "stack/what? 100%.db", &[]);
        assert!(summary(&result).contains("4 coffees and 2 readings added"), "{result:?}");
        assert!(std::fs::read(&file).unwrap() == before, "the file has changed");
        assert_eq!(std::fs::read_dir(&stack).unwrap().count(), 1, "{journal_mode}");
    }
}

#[test]
fn rows_in_the_wal_of_a_stack_database_are_imported() {
    let folder = temporary_folder();
    let connection = Connection::open(folder.path().join("stack.db")).unwrap();
    connection.pragma_update(None, "journal_mode", "wal").unwrap();
    connection.execute_batch(STACK).unwrap();
    let result = import_file(folder.path(), "stack.db", &[]);
    assert!(summary(&result).contains("4 coffees and 2 readings added"), "{result:?}");
}

#[test]
fn invalid_rows_of_a_stack_database_are_rejected_alone() {
    let folder = temporary_folder();
    let connection = Connection::open(folder.path().join("stack.db")).unwrap();
    connection.execute_batch(STACK).unwrap();
    connection
        .execute_batch(
            "insert into coffee_logs values (8, null, 5, null, null), (9, 'soon', 5, null, null),
             (10, '2025-10-02 10:30:15', 'lots', null, null), (11, x'00', 5, null, null);
             insert into heart_rate_logs values (5, '2025-10-02 10:30:15', 0, null, null)",
        )
        .unwrap();
    let result = import_file(folder.path(), "stack.db", &["--rejects", "rejects.csv"]);
    assert!(
        summary(&result).contains("4 coffees and 2 readings added, 0 duplicates skipped, 5 rows rejected")
    );
    let rejects = std::fs::read_to_string(folder.path().join("rejects.csv")).unwrap();
    assert_eq!(
        rejects.lines().nth(1),
        Some(r#"8,"coffee_logs, id 8: timestamp is missing",8||5||"#),
        "{rejects}"
    );
    let reasons: Vec<&str> = result.err.lines().collect();
    assert_eq!(
        reasons,
        [
            "coffee_logs, id 8: timestamp is missing: 8||5||",
            r#"coffee_logs, id 9: timestamp: must be a date and time such as 2025-07-23T14:30:00Z (got "soon"): 9|soon|5||"#,
            r#"coffee_logs, id 10: caffeine_mg: must be a number (got "lots"): 10|2025-10-02 10:30:15|lots||"#,
            "coffee_logs, id 11: timestamp: must not be a blob: 11|(blob)|5||",
            r#"heart_rate_logs, id 5: bpm: must be between 1 and 1000 (got "0"): 5|2025-10-02 10:30:15|0||"#,
        ]
    );
}

#[test]
fn a_rejected_row_without_an_id_is_reported_by_its_position() {
    let folder = temporary_folder();
    let stack = Connection::open(folder.path().join("stack.db")).unwrap();
    stack
        .execute_batch(
            "create table coffee_logs (timestamp, caffeine_mg);
             insert into coffee_logs values ('2025-10-02 14:05:00', 1), ('soon', 2)",
        )
        .unwrap();
    let result = import_file(folder.path(), "stack.db", &[]);
    assert!(summary(&result).contains("1 coffee and 0 readings added"), "{result:?}");
    assert!(result.err.starts_with("coffee_logs, row 2: timestamp: "), "{result:?}");
}

#[test]
fn both_tables_of_a_stack_database_are_read_from_one_snapshot() {
    let folder = temporary_folder();
    import(folder.path(), "timestamp,caffeine_mg\n2025-07-23T14:30:00Z,1\n", &[]);
    let stack = Connection::open(folder.path().join("stack.db")).unwrap();
    stack.pragma_update(None, "journal_mode", "wal").unwrap();
    stack.execute_batch(STACK).unwrap();
    // More coffees than the import reads before it stores the first ones.
    stack
        .execute_batch(
            "with recursive n(n) as (select 100 union all select n + 1 from n where n < 50000)
             insert into coffee_logs select n, '2025-10-04 10:30:15', 5, null, null from n",
        )
        .unwrap();
    let holder = Connection::open(folder.path().join("coffee.db")).unwrap();
    holder.execute_batch("begin immediate").unwrap();
    // The import creates it before it stores the first rows.
    let lock = folder.path().join("coffee.db.maintenance.lock");
    std::fs::remove_file(&lock).unwrap();
    let mut command = program(folder.path());
    let running = Process::spawn(command.args(["import", "stack.db", "--database-url", "coffee.db"]));
    wait_until("the first coffees are read", || lock.exists());
    stack.execute_batch("delete from coffee_logs; delete from heart_rate_logs").unwrap();
    holder.execute_batch("rollback").unwrap();
    let result = running.wait();
    assert!(summary(&result).contains("49,905 coffees and 2 readings added"), "{result:?}");
}

#[test]
fn invalid_rows_of_a_dump_are_rejected_alone() {
    let folder = temporary_folder();
    let dump = r"COPY public.coffee_logs (id, timestamp, caffeine_mg, coffee_type, notes) FROM stdin;
5	\N	5	no time	\N
6	2025-10-04 02:00:00+02	-5	negative	\N
7	infinity	5	\N	\N
8	0044-03-15 12:53:28+00:53:28 BC	5	\N	\N
10	1890-01-01 00:53:28+00:53:28	NaN	\N	\N
11	1880-01-01 00:53:28+00:53:28	7	\x4c\115T	\b
12	1880-01-01 00:53:28+00:53:28	7
\.
";
    let result = import(folder.path(), dump, &[]);
    assert!(
        summary(&result).contains("1 coffee and 0 readings added, 0 duplicates skipped, 6 rows rejected")
    );
    assert_eq!(
        coffees(folder.path()),
        [r#"Integer(11)|Integer(-2840140800000000)|Real(7.0)|Text("LMT")|Null|Text("docker-stack")"#]
    );
    let reasons = result.err.lines().map(|line| line.split(": ").take(2).collect::<Vec<_>>().join(": "));
    assert_eq!(
        reasons.collect::<Vec<_>>(),
        [
            "line 2: timestamp is missing",
            "line 3: caffeine_mg",
            "line 4: timestamp",
            "line 5: timestamp",
            "line 6: caffeine_mg",
            "line 8: has 3 values where the table has 5 columns",
        ]
    );
}

#[test]
fn a_truncated_dump_is_reported_with_the_line_and_imported_up_to_there() {
    let folder = temporary_folder();
    let whole = format!("{PREAMBLE}{COPIED}");
    let cut = &whole[..whole.find("3\t2025-10-02").unwrap()];
    let result = import(folder.path(), cut, &[]);
    assert_eq!(result.code, Some(1), "{result:?}");
    assert!(result.out.contains("2 coffees and 0 readings added"), "{result:?}");
    assert!(
        result.err.contains("file: reading stopped at line 43: the COPY block is not terminated"),
        "{result:?}"
    );
    let rest = import(folder.path(), whole, &[]);
    assert!(summary(&rest).contains("2 coffees and 2 readings added, 2 duplicates skipped"), "{rest:?}");
    assert_eq!(coffees(folder.path()), STACK_COFFEES);
}

#[test]
fn a_dump_with_inserts_is_rejected_with_the_right_command() {
    let values = "(1, '2025-10-02 12:30:15+02', 95, 'espresso', NULL);\n";
    for insert in [
        "INSERT INTO public.coffee_logs VALUES ",
        "INSERT INTO \"public\".\"coffee_logs\" (id, \"timestamp\", caffeine_mg, coffee_type, notes) VALUES\n\t",
        "insert or ignore into coffee_logs values ",
        "REPLACE INTO coffee_logs VALUES ",
    ] {
        let folder = temporary_folder();
        let result = import(folder.path(), format!("{PREAMBLE}{insert}{values}"), &[]);
        let line = PREAMBLE.lines().count() + 1;
        assert_eq!((result.code, &*result.out), (Some(1), ""), "{result:?}");
        assert_eq!(
            result.err,
            format!(
                "coffee-tracker: file: line {line} is an INSERT statement, but only COPY blocks can be imported: make \
                 the dump with `pg_dump -U coffee coffee_db`, without --inserts; of an SQLite database, import the \
                 file itself\n"
            )
        );
        assert!(!folder.path().join("coffee.db").exists());
    }
}

#[test]
fn inserts_after_the_rows_of_a_dump_are_reported_and_the_rows_are_imported() {
    let folder = temporary_folder();
    let insert = "INSERT INTO heart_rate_logs VALUES (9, '2025-10-02 10:30:15+00', 72, 'resting', NULL);\n";
    let result = import(folder.path(), format!("{COPIED}{insert}"), &[]);
    assert_eq!(result.code, Some(1), "{result:?}");
    assert!(result.out.contains("4 coffees and 2 readings added"), "{result:?}");
    assert!(result.err.contains(" is an INSERT statement"), "{result:?}");
    assert_eq!(coffees(folder.path()), STACK_COFFEES);
}
