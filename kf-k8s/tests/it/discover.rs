//! Which kind of objects a cluster is found to carry jobs by best.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};

use kf_k8s::train::{Kind, KubeLauncher};
use serde_json::{Value, json};

/// Answers as an API server that has objects of these versions and kinds.
fn api_server(has: &'static [(&'static str, &'static str)]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let request = lines.next().unwrap().unwrap();
            while !lines.next().unwrap().unwrap().is_empty() {}
            let path = request.split(' ').nth(1).unwrap().split('?').next().unwrap().to_owned();
            let (status, body) = match answer(has, &path) {
                Some(body) => ("200 OK", body),
                None => ("404 Not Found", json!({"kind": "Status", "status": "Failure", "code": 404})),
            };
            let body = body.to_string();
            let head = "Content-Type: application/json\r\nConnection: close";
            write!(stream, "HTTP/1.1 {status}\r\n{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
                .unwrap();
        }
    });
    address
}

fn answer(has: &[(&str, &str)], path: &str) -> Option<Value> {
    let group = |version: &str| {
        let (name, number) = version.split_once('/').unwrap();
        let version = json!({"groupVersion": version, "version": number});
        json!({"name": name, "versions": [version], "preferredVersion": version})
    };
    if path.trim_end_matches('/') == "/apis" {
        let groups: Vec<_> = has.iter().map(|(version, _)| group(version)).collect();
        return Some(json!({"kind": "APIGroupList", "groups": groups}));
    }
    let wanted = path.strip_prefix("/apis/")?;
    let of = has.iter().filter(|(version, _)| *version == wanted);
    let resources: Vec<_> = of
        .map(|(_, kind)| {
            let plural = format!("{}s", kind.to_lowercase());
            json!({"name": plural, "singularName": "", "namespaced": true, "kind": kind, "verbs": ["get"]})
        })
        .collect();
    let list = json!({"kind": "APIResourceList", "groupVersion": wanted, "resources": resources});
    Some(list).filter(|_| !resources.is_empty())
}

#[tokio::test]
async fn the_first_kind_that_is_there_is_taken() {
    const JOB: (&str, &str) = ("batch/v1", "Job");
    const PYTORCHJOB: (&str, &str) = ("kubeflow.org/v1", "PyTorchJob");
    const JOBSET: (&str, &str) = ("jobset.x-k8s.io/v1alpha2", "JobSet");
    const TRAINJOB: (&str, &str) = ("trainer.kubeflow.org/v1alpha1", "TrainJob");
    let cases: [(&[_], Kind); 6] = [
        (&[JOB], Kind::Job),
        (&[JOB, PYTORCHJOB], Kind::PyTorchJob),
        (&[JOB, PYTORCHJOB, JOBSET], Kind::JobSet),
        (&[JOB, PYTORCHJOB, JOBSET, TRAINJOB], Kind::TrainJob),
        // Others have objects of the same group, or of the same name.
        (&[JOB, ("kubeflow.org/v1", "TFJob"), ("kubeflow.org/v1beta1", "PyTorchJob")], Kind::Job),
        (&[JOB, ("jobset.x-k8s.io/v9", "JobSet")], Kind::Job),
    ];
    for (has, expected) in cases {
        let uri = format!("http://{}", api_server(has)).parse().unwrap();
        let client = kube::Client::try_from(kube::Config::new(uri)).unwrap();
        assert_eq!(KubeLauncher::discover(&client).await.unwrap(), expected, "{has:?}");
    }
}
