//! Bodies that are wrong in every way: always 4xx with a message, never 5xx, never a hang.

use kf_serve::{Datatype, ModelRepository, ServerHandle};

use crate::{
    client::{Client, post},
    models::{ECHO, echo, identity, serve, simple},
};

async fn server() -> ServerHandle {
    let models = ModelRepository::new();
    models.insert("echo", "1", echo()).unwrap();
    models.insert("simple", "1", simple()).unwrap();
    for datatype in Datatype::ALL {
        models.insert(datatype.name(), "1", identity(datatype, &[-1])).unwrap();
    }
    serve(&models).await
}

fn echo_with(data: &str) -> String {
    format!(r#"{{"inputs":[{{"name":"IN","shape":[1,4],"datatype":"FP32","data":{data}}}]}}"#)
}

#[tokio::test]
async fn wrong_json_bodies() {
    let server = server().await;
    let mut client = Client::connect(server.addr()).await;
    let deep = "[".repeat(200_000);
    let many = format!("[{}1]", "1,".repeat(100_000));
    let wrong: Vec<(String, &str)> = vec![
        (String::new(), "no inference request"),
        ("{".into(), "no inference request"),
        ("null".into(), "no inference request"),
        ("[]".into(), "no inference request"),
        ("{}".into(), "inputs"),
        (r#"{"inputs":null}"#.into(), "no inference request"),
        (r#"{"inputs":{}}"#.into(), "no inference request"),
        (r#"{"inputs":[]}"#.into(), "input `IN` (FP32[-1, 4]) is missing"),
        (r#"{"inputs":[1]}"#.into(), "no inference request"),
        (r#"{"inputs":[],"inputs":[]}"#.into(), "duplicate"),
        (r#"[null,null,[["IN",[1,4],"FP32",null,[1,2,3,4]]]]"#.into(), "an object"),
        (r#"{"inputs":[["IN",[1,4],"FP32",null,[1,2,3,4]]]}"#.into(), "an object"),
        (ECHO.replace(r#""data""#, r#""parameters":[4,null],"data""#), "an object"),
        (ECHO.replace(r#""name":"IN","#, ""), "name"),
        (ECHO.replace("IN", "in"), "`IN`"),
        (ECHO.replace(r#""IN""#, "7"), "no inference request"),
        (ECHO.replace("FP32", "FP64"), "must be FP32[-1, 4], found FP64[1, 4]"),
        (ECHO.replace("FP32", "FP31"), "`FP31` is no datatype"),
        (ECHO.replace("[1,4]", "[4]"), "found FP32[4]"),
        (ECHO.replace("[1,4]", "[2,4]"), "takes 8 elements"),
        (ECHO.replace("[1,4]", "[1,-4]"), "-4"),
        (ECHO.replace("[1,4]", "[1,4.0]"), "4.0"),
        (ECHO.replace("[1,4]", "[1e3,4]"), "1000.0"),
        (ECHO.replace("[1,4]", "[18446744073709551615,4]"), "too many elements"),
        (ECHO.replace("[1,4]", "[99999999999999999999,4]"), "no inference request"),
        (ECHO.replace("[1,4]", "[1000000000000,4]"), "elements"),
        (ECHO.replace("[1,4]", "\"[1,4]\""), "no inference request"),
        (ECHO.replace(r#","data":[1.0,2.5,-3.0,4.0]"#, ""), "neither data nor"),
        (ECHO.replace(r#""data""#, r#""parameters":{"binary_data_size":16},"data""#), "both"),
        (ECHO.replace(r#""data":[1.0,2.5,-3.0,4.0]"#, r#""parameters":{"binary_data_size":16}"#), "header"),
        (
            ECHO.replace(r#""data":[1.0,2.5,-3.0,4.0]"#, r#""parameters":{"shared_memory_region":"r"}"#),
            "shared memory",
        ),
        (ECHO.replace(r#""data""#, r#""parameters":{"binary_data_size":-1},"data""#), "no inference request"),
        (ECHO.replace(r#""data""#, r#""parameters":7,"data""#), "no inference request"),
        (echo_with("[1,2,3]"), "the data has 3"),
        (echo_with("[1,2,3,4,5]"), "the data has more"),
        (echo_with("[[1,2],[3,4]]"), "nested"),
        (echo_with("[[1,2,3,[4]]]"), "nested"),
        (echo_with("[1,2,3,\"4\"]"), "element 3: expected a number"),
        (echo_with("[1,2,3,null]"), "found null"),
        (echo_with("[1,2,3,true]"), "found true"),
        (echo_with("[1,2,3,1e39]"), "range"),
        (echo_with("[1,2,3,1e999]"), "range"),
        (echo_with("[1,2,3,NaN]"), "no inference request"),
        (echo_with("[1,2,3,{}]"), "element 3"),
        (echo_with("\"AAAA\""), "expected a number"),
        (echo_with("{\"a\":[1,2,3,4]}"), "expected a number"),
        (echo_with("[1,2,3,4"), "no inference request"),
        (echo_with("[1,2,3,4]]"), "no inference request"),
        (echo_with(&deep), "no inference request"),
        (echo_with(&(deep.clone() + &"]".repeat(200_000))), "nested"),
        (echo_with(&many), "more"),
        (ECHO.to_owned() + "x", "trailing"),
        (ECHO.replace("{\"inputs\"", "{\"id\":7,\"inputs\""), "no inference request"),
        (ECHO.replace("{\"inputs\"", "{\"parameters\":[],\"inputs\""), "no inference request"),
        (
            ECHO.replace("{\"inputs\"", "{\"parameters\":{\"binary_data_output\":1},\"inputs\""),
            "binary_data_output",
        ),
        (
            ECHO.replace("{\"inputs\"", "{\"parameters\":{\"a\":[]},\"inputs\""),
            "a parameter that is a string, a number or a boolean",
        ),
        (
            ECHO.replace(
                "{\"inputs\"",
                &format!(
                    "{{\"parameters\":{{{}\"z\":0}},\"inputs\"",
                    (0..300).map(|i| format!("\"{i}\":0,")).collect::<String>()
                ),
            ),
            "more than 256 parameters",
        ),
        (ECHO.replace("[1,4]", &many), "64 dimensions"),
        (ECHO.replace("FP32", &"x".repeat(100_000)), "is no datatype"),
        (format!("{{\"inputs\":\"{}\"}}", "ä".repeat(100_000)), "no inference request"),
        (ECHO.replace("{\"inputs\"", "{\"outputs\":[{\"name\":\"IN\"}],\"inputs\""), "no output `IN`"),
        (
            ECHO.replace("{\"inputs\"", "{\"outputs\":[{\"name\":\"OUT\"},{\"name\":\"OUT\"}],\"inputs\""),
            "twice",
        ),
        (ECHO.replace("{\"inputs\"", "{\"outputs\":[{}],\"inputs\""), "name"),
        (ECHO.replace("{\"inputs\"", "{\"outputs\":7,\"inputs\""), "no inference request"),
        (
            ECHO.replace(
                "{\"inputs\"",
                r#"{"outputs":[{"name":"OUT","parameters":{"classification":2}}],"inputs""#,
            ),
            "classification",
        ),
        (format!("{{\"inputs\":[{0},{0}]}}", &ECHO[11..ECHO.len() - 2]), "given twice"),
        (ECHO.replace("IN", &"x".repeat(100_000)), "is missing"),
    ];
    for (body, message) in &wrong {
        let answer = client.post("/v2/models/echo/infer", body).await;
        let shown: String = body.chars().take(200).collect();
        assert_eq!(answer.status, 400, "{shown}");
        assert!(answer.error().contains(message), "{shown}: {}", answer.error());
        assert!(answer.body.len() < 4_000, "{shown}");
    }
    let answer = client.post("/v2/models/echo/infer", b"{\"inputs\":\"\xff\"}").await;
    assert_eq!(answer.status, 400);
    // The connection survived all of it.
    assert_eq!(client.post("/v2/models/echo/infer", ECHO).await.status, 200);
}

#[tokio::test]
async fn wrong_binary_bodies() {
    let server = server().await;
    let mut client = Client::connect(server.addr()).await;
    let head =
        r#"{"inputs":[{"name":"IN","shape":[1,4],"datatype":"FP32","parameters":{"binary_data_size":16}}]}"#;
    let good = [head.as_bytes(), &[0; 16]].concat();
    let length = head.len().to_string();
    let longer = head.replace("16", "20");
    for (header, body, message) in [
        (length.as_str(), &good[..good.len() - 1], "only 15 bytes are left"),
        (length.as_str(), &[&good[..], b"x"].concat()[..], "1 bytes are left"),
        (length.as_str(), &[longer.as_bytes(), &[0; 20]].concat()[..], "takes 4 × 4 bytes, found 20"),
        ("999999", &good[..], "is 999999, but the body has"),
        ("18446744073709551616", &good[..], "is a number of bytes"),
        ("-1", &good[..], "is a number of bytes"),
        ("x", &good[..], "is a number of bytes"),
        ("1", &good[..], "no inference request"),
    ] {
        let headers = [("Inference-Header-Content-Length", header)];
        let answer = client.request("POST", "/v2/models/echo/infer", &headers, body).await;
        assert_eq!(answer.status, 400, "{header}");
        assert!(answer.error().contains(message), "{header}: {}", answer.error());
    }
    let huge = r#"{"inputs":[{"name":"IN","shape":[1,4],"datatype":"FP32","parameters":{"binary_data_size":18446744073709551615}}]}"#;
    let headers = [("Inference-Header-Content-Length", &*huge.len().to_string())];
    assert_eq!(client.request("POST", "/v2/models/echo/infer", &headers, huge).await.status, 400);
}

#[tokio::test]
async fn wrong_content() {
    let server = server().await;
    let mut client = Client::connect(server.addr()).await;
    for (name, value) in [
        ("content-type", "text/xml"),
        ("content-type", "multipart/form-data; boundary=x"),
        ("content-encoding", "gzip"),
        ("content-encoding", "br"),
    ] {
        let answer = client.request("POST", "/v2/models/echo/infer", &[(name, value)], ECHO).await;
        assert_eq!(answer.status, 415, "{name}: {value}");
        assert!(answer.error().contains(value.split(';').next().unwrap()), "{}", answer.error());
    }
    let curls = "application/x-www-form-urlencoded";
    for value in ["application/json", "Application/JSON; charset=utf-8", "application/octet-stream", curls] {
        let answer = client.request("POST", "/v2/models/echo/infer", &[("content-type", value)], ECHO).await;
        assert_eq!(answer.status, 200, "{value}");
    }
}

#[tokio::test]
async fn a_chunked_body_is_read_and_a_broken_one_refused() {
    let server = server().await;
    let head = "POST /v2/models/echo/infer HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut client = Client::connect(server.addr()).await;
    let (one, two) = ECHO.split_at(40);
    client.send_raw(format!("{head}{:x}\r\n{one}\r\n", one.len()).as_bytes()).await;
    client.send_raw(format!("{:x}\r\n{two}\r\n0\r\n\r\n", two.len()).as_bytes()).await;
    assert_eq!(client.answer().await.status, 200);
    client.send_raw(format!("{head}5\r\n{{\"inp\r\nzz\r\n").as_bytes()).await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 400);
    assert!(answer.error().contains("broke off"), "{}", answer.error());
}

/// Small, seeded, and the same on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % limit.max(1)
    }
}

/// Changes a few places of a body: a byte flipped, a piece dropped, doubled, or put in from a list of bad ones.
fn mutate(random: &mut Random, body: &mut Vec<u8>) {
    const PIECES: [&[u8]; 16] = [
        b"[",
        b"]",
        b"{",
        b"}",
        b"\"",
        b"\\",
        b",",
        b"null",
        b"-1",
        b"1e400",
        b"18446744073709551615",
        b"\xff\xfe",
        b"\\ud800",
        b"true",
        b":",
        b"\0",
    ];
    for _ in 0..=random.below(4) {
        let at = random.below(body.len() + 1);
        let end = (at + random.below(12)).min(body.len());
        match random.below(5) {
            0 if at < body.len() => body[at] ^= 1 << random.below(8),
            1 => drop(body.drain(at..end)),
            2 => {
                let piece = body[at..end].to_vec();
                body.splice(at..at, piece);
            }
            3 => body.truncate(at),
            _ => drop(body.splice(at..at, PIECES[random.below(PIECES.len())].iter().copied())),
        }
    }
}

#[tokio::test]
async fn mutated_bodies_never_fail_the_server() {
    let server = server().await;
    let mut client = Client::connect(server.addr()).await;
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let head = r#"{"id":"7","inputs":[{"name":"IN","shape":[3],"datatype":"TYPE","parameters":{"binary_data_size":12}}],"outputs":[{"name":"OUT","parameters":{"binary_data":true}}]}"#;
    let json = r#"{"id":"7","parameters":{"a":1},"inputs":[{"name":"IN","shape":[3],"datatype":"TYPE","data":DATA}],"outputs":[{"name":"OUT"}]}"#;
    let (mut taken, mut refused) = (0, 0);
    for round in 0..6_000 {
        let datatype = Datatype::ALL[round % Datatype::ALL.len()].name();
        let binary = random.below(2) == 0;
        let data = match datatype {
            "BOOL" => "[true,false,true]",
            "BYTES" => r#"["","\u00e4","b"]"#,
            _ => "[1,20,3]",
        };
        let mut body =
            if binary { head } else { json }.replace("TYPE", datatype).replace("DATA", data).into_bytes();
        let length = body.len().to_string();
        if binary {
            body.extend_from_slice(&[0; 12]);
        }
        mutate(&mut random, &mut body);
        let headers = [("inference-header-content-length", length.as_str())];
        let path = format!("/v2/models/{datatype}/infer");
        let answer = client.request("POST", &path, if binary { &headers } else { &[] }, &body).await;
        match answer.status {
            200 => taken += 1,
            400 | 406 => {
                answer.error();
                refused += 1;
            }
            status => panic!("{status} for {}", String::from_utf8_lossy(&body)),
        }
    }
    assert!(taken > 100 && refused > 1_000, "{taken} taken, {refused} refused");
    assert_eq!(post(server.addr(), "/v2/models/echo/infer", ECHO).await.status, 200);
}
