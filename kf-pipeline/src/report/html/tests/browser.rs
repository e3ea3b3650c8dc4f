//! Reports in a real browser, where there is one: the judge `chromium`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kf_core::metadata::RunState;

use super::fixtures::{digits, digits_report, hostile_report, report, thousands};
use super::metrics::metrics_report;
use crate::report::Report;

/// How long one page may take.
const DEADLINE: Duration = Duration::from_secs(60);

fn browser() -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let path = std::env::var_os("PATH")?;
    let mut folders = std::env::split_paths(&path);
    folders.find_map(|folder| names.iter().map(|name| folder.join(name)).find(|file| file.is_file()))
}

/// The page's elements after its script has run, and what the script and the policy complained of.
fn load(browser: &Path, report: &Report, hash: &str) -> (String, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let page = folder.join("report.html");
    std::fs::write(&page, report.to_html()).unwrap();
    let (out, log) = (folder.join("dom.html"), folder.join("log.txt"));
    let mut child = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--no-first-run"])
        .args([
            "--disable-dev-shm-usage",
            "--virtual-time-budget=2000",
            "--window-size=1400,1000",
            "--dump-dom",
        ])
        .arg(format!("--user-data-dir={}", folder.join("profile").display()))
        .arg(format!("file://{}{hash}", page.display()))
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&out).unwrap())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let begin = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begin.elapsed() > DEADLINE {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{} took longer than {DEADLINE:?}", browser.display());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let read = |path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
    let complaints = read(&log).lines().filter(|line| line.contains("CONSOLE")).map(str::to_owned).collect();
    (read(&out), complaints)
}

#[test]
fn a_browser_shows_it() {
    let Some(browser) = browser() else {
        println!("JUDGE chromium skipped: no chromium, chromium-browser or google-chrome in PATH");
        return;
    };
    let body = |dom: &str| dom.split_once("<script type=\"application/json\"").unwrap().0.to_owned();
    let none: [String; 0] = [];
    // Pages of artifacts may not run scripts or fetch; the browser says so.
    let own = |complaints: Vec<String>| -> Vec<String> {
        complaints.into_iter().filter(|line| !line.contains("about:srcdoc")).collect()
    };

    let empty = report("digits", digits().file().unwrap(), RunState::Pending, Vec::new());
    let pages = [
        (digits_report(), "#t7"),
        (hostile_report(), "#t1"),
        (metrics_report(), "#t6"),
        (thousands(), ""),
        (empty, "#t99"),
    ];
    let browser = &browser;
    let loaded = std::thread::scope(|scope| {
        let begun = pages.map(|(report, hash)| scope.spawn(move || load(browser, &report, hash)));
        begun.map(|page| page.join().unwrap())
    });
    let [of_digits, of_hostile, of_metrics, of_thousands, of_empty] = loaded;

    let (dom, complaints) = of_digits;
    let page = body(&dom);
    assert_eq!(complaints, none);
    assert_eq!(page.matches("role=\"row\"").count(), 1 + 14, "a head and a row for each");
    let detail = page.split_once("<aside id=\"detail\"").unwrap().1;
    for expected in [
        "fit",
        "Attempt 1 failed after 3.72 s",
        "epoch 59  loss",
        "1.2 MB",
        "lr",
        "23 kB",
        "train",
        "CPU time",
        "15.2 s",
        "105 MB",
        "not known",
        "no node takes it: 0/1 nodes",
        "FailedMount: secret",
    ] {
        assert!(detail.contains(expected), "{expected} in {detail}");
    }

    let (dom, complaints) = of_hostile;
    let page = body(&dom);
    assert_eq!(own(complaints), none);
    assert!(!page.contains("<img") && page.contains("&lt;/script&gt;"), "markup got through");
    assert!(page.contains("shortened from 1.0 MB"));

    let (dom, complaints) = of_metrics;
    assert!(dom.contains("<title>iris · SUCCEEDED</title>"), "no script of an artifact reached the page");
    assert!(complaints.iter().any(|line| line.contains("Blocked script execution")), "{complaints:?}");
    assert_eq!(own(complaints), none);
    let detail = body(&dom).split_once("<aside id=\"detail\"").unwrap().1.to_owned();
    assert!(detail.contains("class=\"roc\"") && detail.contains("class=\"matrix\""), "kept in a template");

    let (dom, complaints) = of_thousands;
    let page = body(&dom);
    assert_eq!(complaints, none);
    let rows = page.matches("role=\"row\"").count();
    assert!((20..100).contains(&rows), "{rows} rows in the page of 15,301");

    let (dom, complaints) = of_empty;
    assert_eq!(complaints, none);
    assert!(body(&dom).contains("role=\"row\""));
    println!("JUDGE chromium passed");
}
