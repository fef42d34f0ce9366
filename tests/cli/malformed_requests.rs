//! Requests that are too large, unusual, malformed, or not HTTP.

use crate::client::{Client, request};
use crate::helpers::{Server, temporary_folder, wait_until};

/// Sends text unchanged and reads the response.
fn send_raw(server: &Server, text: &str) -> crate::client::Response {
    let mut client = server.client();
    client.send(text).unwrap();
    client.read_response().unwrap_or_else(|e| panic!("{e}: {:?}", text.get(..60)))
}

#[test]
fn a_body_that_is_too_large_gets_a_413_that_can_be_read() {
    let folder = temporary_folder();
    let server = Server::start(folder.path());
    let body = format!("{{\"caffeine_mg\": 1, \"notes\": \"{}\"}}", "x".repeat(2 << 20));

    let mut client = server.client();
    let declared =
        client.try_request("POST", "/coffee/", "", &body).expect("the server reads the body, then responds");
    declared.assert_problem(413);
    assert_eq!(declared.json()["detail"], "The body must not be larger than 1048576 bytes");
    assert_eq!(server.get("/health").status, 200);

    let mut client = server.client();
    client.send(request("POST", "/coffee/", "Transfer-Encoding: chunked\r\n", "")).unwrap();
    for chunk in body.as_bytes().chunks(60_000) {
        client.send(format!("{:x}\r\n", chunk.len())).unwrap();
        client.send(chunk).unwrap();
        client.send("\r\n").unwrap();
    }
    client.send("0\r\n\r\n").unwrap();
    client.read_response().expect("the server reads the body, then responds").assert_problem(413);
    assert_eq!(server.get("/coffee/today").json()["coffee_count"], 0);

    let fits = format!("{{\"caffeine_mg\": 1, \"other\": \"{}\"}}", "x".repeat(1_000_000));
    assert_eq!(server.client().post("/coffee/", &fits).status, 201, "1 MB is not too large");
}

#[test]
fn too_large_and_too_many_headers_are_rejected() {
    let folder = temporary_folder();
    let server = Server::start(folder.path());
    let fits = format!("X-Long: {}\r\n", "x".repeat(15 << 10));
    assert_eq!(send_raw(&server, &request("GET", "/health", &fits, "")).status, 200);
    let large = format!("X-Long: {}\r\n", "x".repeat(16 << 10));
    send_raw(&server, &request("GET", "/health", &large, "")).assert_problem(431);
    let key = format!(
        "GET /coffee/ HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\r\n",
        "k".repeat(100 << 10)
    );
    send_raw(&server, &key).assert_problem(431);
    // Beyond its own limits, the HTTP parser responds with a status only.
    let many: String = (0..3000).map(|n| format!("X-{n}: 1\r\n")).collect();
    let response = send_raw(&server, &request("GET", "/health", &many, ""));
    assert_eq!((response.status, response.body.len()), (431, 0));
    let path = format!("/coffee/?since={}", "9".repeat(70_000));
    assert_eq!(send_raw(&server, &request("GET", &path, "", "")).status, 414);
    assert_eq!(server.get("/health").status, 200);
}

#[test]
fn unknown_methods_get_a_problem_response_and_one_log_line() {
    let folder = temporary_folder();
    let server = Server::start(folder.path());
    for (n, (method, target, status)) in [
        ("FOO", "/coffee/", 405),
        ("FOO", "/nowhere", 404),
        ("PROPFIND", "/health", 405),
        ("TRACE", "/coffee/", 405),
        ("CONNECT", "/coffee/", 405),
        ("GET", "/nowhere", 404),
        ("PATCH", "/health", 405),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("odd-request-{n}.");
        let sent = request(method, target, &format!("X-Request-ID: {id}\r\n"), "");
        let response = send_raw(&server, &sent);
        println!("{method} {target}: {}", response.status);
        response.assert_problem(status);
        assert_eq!(response.header("X-Request-ID"), Some(id.as_str()));
        assert_eq!(response.header("Allow").is_some(), status == 405, "{method} {target}");
        let lines = || server.process.err.text().lines().filter(|l| l.contains(&id)).count();
        wait_until("the request is logged", || lines() > 0);
        assert_eq!(lines(), 1, "{method} {target}");
    }
}

#[test]
fn data_that_is_not_http_is_rejected_and_the_next_request_succeeds() {
    let folder = temporary_folder();
    let server = Server::start(folder.path());
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"\0\0\0\0\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /health\r\n\r\n",
        b"GET /health HTTP/9.9\r\n\r\n",
        b"GET  HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost localhost\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\r\n\r\n\r\n\xff\xfe\xfd",
    ] {
        let mut client = server.client();
        client.send(garbage).unwrap();
        client.socket().shutdown(std::net::Shutdown::Write).unwrap();
        let received = String::from_utf8_lossy(&client.read_to_end().unwrap()).into_owned();
        let shown = String::from_utf8_lossy(garbage);
        assert!(received.is_empty() || received.starts_with("HTTP/1.1 400 "), "{shown:?}: {received}");
        assert!(!received.contains("<html"), "{received}");
        assert_eq!(server.get("/health").status, 200, "after {shown:?}");
    }
    let result = server.stop_cleanly();
    assert!(!result.err.contains("panic"), "{}", result.err);
}

#[test]
fn unusual_request_targets_get_a_response() {
    let folder = temporary_folder();
    let server = Server::start(folder.path());
    for sent in [
        request("CONNECT", "example.com:443", "", ""),
        request("GET", "http://localhost/health", "", ""),
        request("OPTIONS", "*", "", ""),
    ] {
        let response = send_raw(&server, &sent);
        println!("{:?}: {}", sent.lines().next(), response.status);
        assert!((200..500).contains(&response.status), "{}", response.status);
        assert!(response.header("X-Request-ID").is_some(), "{sent}");
    }
    assert_eq!(server.get("/health").status, 200);
}

#[test]
fn pipelined_requests_get_responses_in_order() {
    let folder = temporary_folder();
    let server = Server::start(folder.path());
    let mut client = server.client();
    let sent: String = (1..=5)
        .map(|n| {
            request(
                "POST",
                "/coffee/",
                &format!("X-Request-ID: pipe-{n}\r\n"),
                &format!("{{\"caffeine_mg\": {n}}}"),
            )
        })
        .collect();
    client.send(sent + &request("GET", "/coffee/today", "", "")).unwrap();
    for n in 1..=5 {
        let response = client.read_response().unwrap();
        assert_eq!(response.status, 201);
        assert_eq!(response.header("X-Request-ID"), Some(format!("pipe-{n}").as_str()));
        assert_eq!(response.json()["caffeine_mg"], f64::from(n));
    }
    assert_eq!(client.read_response().unwrap().json()["total_caffeine_mg"], 15.0);
}

#[test]
fn http_1_0_gets_a_response_and_the_connection_is_closed() {
    let folder = temporary_folder();
    let server = Server::start(folder.path());
    let mut client = Client::connect(server.address);
    client.send("GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    let response = client.read_response().unwrap();
    assert_eq!((response.status, response.json()["status"].as_str()), (200, Some("alive")));
    assert!(client.read_to_end().unwrap().is_empty(), "data after the response");
}

#[test]
fn a_form_field_cannot_override_the_method() {
    let folder = temporary_folder();
    let server = Server::start(folder.path());
    assert_eq!(server.client().post("/coffee/", r#"{"caffeine_mg": 95}"#).status, 201);
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    for field in ["_method=delete", "&_method=patch", "&&_method=get", "_method=get", "_method=post"] {
        let send = |method, path| send_raw(&server, &request(method, path, form, field)).status;
        assert_eq!(send("POST", "/coffee/1"), 405, "{field}");
        assert_eq!(send("POST", "/coffee/"), 422, "{field}: the form is not JSON");
        assert_eq!(send("GET", "/coffee/1"), 200, "{field}");
        assert_eq!(send("PATCH", "/coffee/1"), 422, "{field}: the form is not JSON");
    }
    assert_eq!(server.get("/coffee/today").json()["coffee_count"], 1);
}

#[test]
fn the_host_of_an_absolute_target_takes_precedence_over_the_header() {
    let folder = temporary_folder();
    let server = Server::start(folder.path());
    let send = |target: &str, host: &str| {
        send_raw(&server, &format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
    };
    send("http://evil.example/health", "localhost").assert_problem(400);
    assert_eq!(send("http://localhost/health", "evil.example").status, 200);
    assert_eq!(send("http://localhost/health", "localhost").status, 200);
    send("/health", "evil.example").assert_problem(400);
}

#[test]
fn an_idempotency_key_that_is_not_utf_8_is_honored() {
    let folder = temporary_folder();
    let server = Server::start(folder.path());
    let post = |key: &[u8]| {
        let text = request("POST", "/coffee/", "Idempotency-Key: KEY\r\n", r#"{"caffeine_mg": 80}"#);
        let (head, rest) = text.split_once("KEY\r\n").unwrap();
        let mut client = server.client();
        client.send([head.as_bytes(), key, b"\r\n", rest.as_bytes()].concat()).unwrap();
        let response = client.read_response().unwrap();
        (response.status, response.json()["id"].as_i64())
    };
    assert_eq!(post(b"caf\xe9"), (201, Some(1)));
    assert_eq!(post(b"caf\xe9"), (201, Some(1)), "the first response again");
    assert_eq!(post(b"caf\xe8"), (201, Some(2)), "another key");
}
