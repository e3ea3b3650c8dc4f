//! What is sent to a registry, seen by one of a hundred lines.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::super::config::{Image, Settings};
use super::super::layer::{Blob, LAYER};
use super::super::options::User;
use super::super::reference::Target;
use super::{Pushed, push};

#[derive(Default)]
struct State {
    /// Each request's method and path, in order.
    requests: Vec<String>,
    /// What is stored, by the last part of its path: blobs by digest, manifests by tag.
    stored: HashMap<String, Vec<u8>>,
    /// The answer to every request from now on, where it is not the right one.
    refuse: Option<&'static str>,
}

/// A registry that listens until the tests end.
struct Fake {
    state: Arc<Mutex<State>>,
    target: Target,
}

impl Fake {
    fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let target = format!("{}/team/trainer:1", listener.local_addr().unwrap()).parse().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let seen = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&seen);
                std::thread::spawn(move || while serve(&stream, &state).is_some() {});
            }
        });
        Self { state, target }
    }

    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }
}

/// Answers one request; `None` at the end of the connection.
fn serve(stream: &TcpStream, state: &Mutex<State>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
    let (method, url) = line.split_once(' ').map(|(method, rest)| (method.to_owned(), rest.to_owned()))?;
    let url = url.split(' ').next()?.to_owned();
    let mut length = 0;
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (path, query) = url.split_once('?').unwrap_or((&url, ""));
    let last = path.rsplit('/').next()?;

    let mut state = state.lock().unwrap();
    state.requests.push(format!("{method} {path}"));
    let (answer, more) = match (state.refuse, method.as_str()) {
        (Some(refuse), _) => (refuse, String::new()),
        (None, "HEAD") if state.stored.contains_key(last) => ("200 OK", String::new()),
        (None, "HEAD") => ("404 Not Found", String::new()),
        (None, "POST") => {
            ("202 Accepted", "Location: /v2/team/trainer/blobs/uploads/7?state=s\r\n".to_owned())
        }
        (None, _) => {
            let name = query.strip_prefix("state=s&digest=").unwrap_or(last);
            state.stored.insert(name.to_owned(), body);
            ("201 Created", String::new())
        }
    };
    let text = if state.refuse.is_some() && method != "HEAD" { "no, since it is a test" } else { "" };
    let length = text.len();
    write!(&*stream, "HTTP/1.1 {answer}\r\n{more}Content-Length: {length}\r\n\r\n{text}").ok()
}

fn image() -> Image {
    let layers = ["base", "program"].map(|name| Blob::new(name, LAYER, name.as_bytes().to_vec()));
    let settings = Settings {
        architecture: "amd64",
        program: "/app/x".to_owned(),
        env: Vec::new(),
        user: User { uid: 1, gid: 1 },
    };
    Image::new(layers.to_vec(), &settings)
}

fn pushed(image: &Image, target: &Target) -> Vec<(&'static str, Pushed)> {
    let mut told = Vec::new();
    push(image, target, |blob, pushed| told.push((blob.name, pushed))).unwrap();
    told
}

#[test]
fn only_what_is_missing_is_sent_and_the_manifest_last() {
    let (fake, image) = (Fake::start(), image());
    let sent = ["base", "program", "config"].map(|name| (name, Pushed::Sent));
    assert_eq!(pushed(&image, &fake.target), sent);
    let requests = fake.requests();
    let manifest = "PUT /v2/team/trainer/manifests/1";
    assert_eq!(
        requests.iter().filter(|request| request.starts_with("PUT /v2/team/trainer/blobs/")).count(),
        3
    );
    assert_eq!(requests.last().unwrap(), manifest);
    {
        let state = fake.state.lock().unwrap();
        assert_eq!(state.stored[&image.layers[1].digest], b"program");
        let stored = Blob::new("manifest", "", state.stored["1"].clone());
        assert_eq!(stored.digest, image.manifest.digest);
    }

    assert_eq!(pushed(&image, &fake.target), ["base", "program", "config"].map(|name| (name, Pushed::There)));
    let changes: Vec<_> =
        fake.requests().into_iter().filter(|request| !request.starts_with("HEAD ")).collect();
    assert_eq!(changes, [manifest]);
}

#[test]
fn what_is_refused_is_told_with_the_answer_and_the_way_out() {
    let (fake, image) = (Fake::start(), image());
    let refused = |answer: &'static str| {
        fake.state.lock().unwrap().refuse = Some(answer);
        push(&image, &fake.target, |_, _| panic!("nothing was pushed")).unwrap_err()
    };
    let target = fake.target.to_string();
    let message = refused("401 Unauthorized");
    assert!(message.contains("skopeo copy") && message.contains(&target), "{message}");
    let message = refused("503 Service Unavailable");
    assert!(message.contains("503") && message.contains("asking for base"), "{message}");
    assert!(fake.requests().iter().all(|request| request.starts_with("HEAD ")));

    // It has all blobs, and takes no manifest.
    fake.state.lock().unwrap().refuse = None;
    push(&image, &fake.target, |_, _| ()).unwrap();
    let mut count = 0;
    let state = Arc::clone(&fake.state);
    let message = push(&image, &fake.target, |_, _| {
        count += 1;
        if count == 3 {
            state.lock().unwrap().refuse = Some("400 Bad Request");
        }
    })
    .unwrap_err();
    assert!(message.contains("the manifest") && message.contains("no, since it is a test"), "{message}");
}

#[test]
fn nobody_listening_is_told_with_the_host() {
    let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let target = format!("127.0.0.1:{port}/trainer:1").parse().unwrap();
    let message = push(&image(), &target, |_, _| ()).unwrap_err();
    assert!(message.contains(&format!("does a registry listen at 127.0.0.1:{port}")), "{message}");
}
