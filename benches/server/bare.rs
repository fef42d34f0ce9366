//! Bare Rocket: a server whose handlers return a constant, as the reference for request rates.
//!
//! The benchmark starts itself with `--bare BYTES`, so that bare Rocket is a separate process with the same
//! build options as the server. It handles every path, prints its address like the server, and exits at the
//! end of its standard input, which the end of the benchmark closes.

use std::io::Read;
use std::net::Ipv4Addr;
use std::thread;

use anyhow::{Result, anyhow};
use rocket::config::{Ident, LogLevel};
use rocket::data::ToByteUnit;
use rocket::fairing::AdHoc;
use rocket::http::Status;
use rocket::response::content::RawJson;
use rocket::{Config, Data, State, get, post, routes, tokio};

/// Body of every response.
struct Constant(String);

#[get("/<_..>")]
fn read(constant: &State<Constant>) -> RawJson<&str> {
    RawJson(&constant.0)
}

#[post("/<_..>", data = "<body>")]
async fn write<'a>(
    constant: &'a State<Constant>,
    body: Data<'_>,
) -> Result<(Status, RawJson<&'a str>), Status> {
    match body.open(1.mebibytes()).into_bytes().await {
        Ok(bytes) if bytes.is_complete() => Ok((Status::Created, RawJson(&constant.0))),
        _ => Err(Status::BadRequest),
    }
}

/// Serves a constant of `bytes` bytes on a free port until the end of standard input.
pub fn serve(bytes: usize) -> Result<()> {
    thread::spawn(|| {
        let mut input = Vec::new();
        // After an error too, the benchmark is gone.
        let _ = std::io::stdin().read_to_end(&mut input);
        std::process::exit(0);
    });
    let workers = thread::available_parallelism()?.get();
    let config = Config {
        address: Ipv4Addr::LOCALHOST.into(),
        port: 0,
        workers,
        log_level: LogLevel::Off,
        ident: Ident::none(),
        cli_colors: false,
        ..Config::release_default()
    };
    let rocket = rocket::custom(config)
        .manage(Constant(format!("\"{}\"", "x".repeat(bytes.saturating_sub(2)))))
        .mount("/", routes![read, write])
        .attach(AdHoc::on_liftoff("address", |rocket| {
            let port = rocket.config().port;
            Box::pin(async move { println!("Listening on http://127.0.0.1:{port}") })
        }));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
    runtime.block_on(rocket.launch()).map_err(|error| anyhow!("bare Rocket: {error}"))?;
    Ok(())
}
