//! Markdown as HTML that holds nothing but text, headings, lists, tables, code, quotes, and links to the web.

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd, html};

use crate::report::text::plain;

/// Markup inside of the text is shown as text, and pictures only where the text itself holds them.
pub(super) fn to_html(text: &str) -> String {
    let text = plain(text);
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
    let mut out = String::with_capacity(text.len() * 2);
    // Whether each link and picture around is kept.
    let mut kept = Vec::new();
    let events = Parser::new_ext(&text, options).filter_map(|event| match event {
        Event::Html(text) | Event::InlineHtml(text) => Some(Event::Text(text)),
        Event::Start(Tag::HtmlBlock) => Some(Event::Start(Tag::Paragraph)),
        Event::End(TagEnd::HtmlBlock) => Some(Event::End(TagEnd::Paragraph)),
        Event::Start(Tag::Link { ref dest_url, .. }) => {
            kept.push(goes_out(dest_url));
            kept.last().copied().unwrap_or_default().then_some(event)
        }
        Event::Start(Tag::Image { ref dest_url, .. }) => {
            kept.push(dest_url.starts_with("data:image/"));
            kept.last().copied().unwrap_or_default().then_some(event)
        }
        Event::End(TagEnd::Link | TagEnd::Image) => kept.pop().unwrap_or_default().then_some(event),
        event => Some(event),
    });
    html::push_html(&mut out, events);
    out
}

fn goes_out(url: &str) -> bool {
    ["https://", "http://", "mailto:"]
        .iter()
        .any(|start| url.get(..start.len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case(start)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structure_is_kept() {
        let html = to_html(
            "# Fit\n\n* *good*\n\n| a | b |\n|---|---|\n| 1 | `2` |\n\n[docs](https://example.com/a?b=1&c)",
        );
        for expected in [
            "<h1>Fit</h1>",
            "<li><em>good</em></li>",
            "<td><code>2</code></td>",
            "<a href=\"https://example.com/a?b=1&amp;c\">docs</a>",
        ] {
            assert!(html.contains(expected), "{expected} in {html}");
        }
    }

    #[test]
    fn markup_scripts_and_far_pictures_are_text() {
        for hostile in [
            "<script>alert(1)</script>",
            "a <img src=x onerror=alert(1)> b",
            "[x](javascript:alert(1))",
            "[x](JaVaScRiPt:alert(1))",
            "[x](data:text/html,<script>1</script>)",
            "<javascript:alert(1)>",
            "![x](https://example.com/pixel.png)",
            "![x](data:image/svg+xml,<svg/onload=alert(1)> \"a\")",
            "<div onclick=alert(1)>\n\n# in\n</div>",
            "[a]: javascript:alert(1)\n[a]",
            "![<b>](x \"<i>\")[![p](javascript:x)](javascript:y)",
            "\u{202e}\u{0}</style>",
        ] {
            let html = to_html(hostile);
            for bad in [
                "<script",
                "<img src=x",
                "<div",
                "href=\"j",
                "href=\"J",
                "href=\"d",
                "src=\"h",
                "<svg",
                "</style",
                "\u{202e}",
            ] {
                assert!(!html.contains(bad), "{hostile}: {html}");
            }
        }
    }

    #[test]
    fn deep_nesting_ends() {
        assert!(!to_html(&">".repeat(50_000)).is_empty());
        assert!(!to_html(&"[".repeat(50_000)).is_empty());
        assert!(!to_html(&"*a **b ".repeat(20_000)).is_empty());
    }
}
