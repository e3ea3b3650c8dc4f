//! Whole reports.

mod browser;
mod fixtures;
mod metrics;
mod tolerated;
mod whole;

use std::collections::HashSet;

use serde_json::Value as Json;

/// That every tag is closed in order, as far as HTML asks for it, and that there is no markup but the report's own.
fn assert_well_formed(html: &str) {
    const OPEN: &[&str] = &[
        "meta", "input", "tr", "td", "th", "dt", "dd", "li", "link", "!doctype", "br", "use", "path", "rect",
        "circle", "hr",
    ];
    const KNOWN: &[&str] = &[
        "html",
        "head",
        "title",
        "style",
        "body",
        "svg",
        "symbol",
        "main",
        "header",
        "h1",
        "h2",
        "h3",
        "h4",
        "span",
        "dl",
        "div",
        "i",
        "ul",
        "ol",
        "section",
        "p",
        "a",
        "g",
        "text",
        "defs",
        "marker",
        "table",
        "thead",
        "tbody",
        "caption",
        "pre",
        "code",
        "em",
        "strong",
        "small",
        "b",
        "s",
        "button",
        "footer",
        "iframe",
        "aside",
        "noscript",
        "template",
        "figure",
        "figcaption",
        "blockquote",
    ];
    let body = html.split_once("<body>").unwrap().1.split_once("<script ").unwrap().0;
    let mut open: Vec<&str> = Vec::new();
    let mut rest = body;
    while let Some(start) = rest.find('<') {
        let end = start + rest[start..].find('>').expect("an open tag ends");
        let tag = &rest[start + 1..end];
        let name = tag.trim_start_matches('/').split([' ', '\n']).next().unwrap();
        assert!(KNOWN.contains(&name) || OPEN.contains(&name), "unknown tag <{tag}>");
        if tag.starts_with('/') {
            if !OPEN.contains(&name) {
                assert_eq!(open.pop(), Some(name), "at …{}", &rest[..end.min(300)]);
            }
        } else if !OPEN.contains(&name) && !tag.ends_with('/') {
            open.push(name);
        }
        rest = &rest[end + 1..];
    }
    assert!(open.is_empty(), "left open: {open:?}");
    // Every task that is jumped to is in the list, every picture there once.
    let data = data(html);
    for goal in body.split("href=\"#t").skip(1) {
        let task: usize = goal.split('"').next().unwrap().parse().unwrap();
        let listed = data["rows"].as_array().unwrap().iter().any(|row| row[5] == task);
        assert!(listed, "a link to task {task}, which is not listed");
    }
    let mut ids = HashSet::new();
    for id in body.split(" id=v").skip(1) {
        assert!(ids.insert(id.split('>').next().unwrap()), "an id twice");
    }
}

/// What the script lists.
fn data(html: &str) -> Json {
    let data = html.split_once("<script type=\"application/json\" id=data>").unwrap().1;
    serde_json::from_str(data.split_once("</script>").unwrap().0).unwrap()
}

/// The rows of the list: depth, name, note, state, whether on the critical path.
fn rows(html: &str) -> Vec<String> {
    let data = data(html);
    let row = |row: &Json| {
        let text = |place: usize| row[place].as_str().unwrap().to_owned();
        let state = data["states"][row[4].as_u64().unwrap() as usize].as_str().unwrap();
        let critical = if row[8].as_u64().unwrap() & 1 == 1 { " critical" } else { "" };
        let name = format!("{} {}", text(2), text(3));
        format!("{}{} {state}{critical}", "  ".repeat(row[0].as_u64().unwrap() as usize), name.trim_end())
    };
    data["rows"].as_array().unwrap().iter().map(row).collect()
}
