//! How text and numbers look in HTML. Everything that a user, a task or a file named goes through here.

use std::fmt::{self, Write as _};
use std::time::Duration;

use kf_core::Timestamp;
use serde_json::Value as Json;

/// Adds formatted text to a string.
macro_rules! put {
    ($out:expr, $($arg:tt)*) => {{
        use std::fmt::Write as _;
        let _ = write!($out, $($arg)*);
    }};
}
pub(in crate::report) use put;

/// Text that is safe between tags and in a quoted attribute.
pub(in crate::report) struct Safe<'a>(pub(super) &'a str);

impl fmt::Display for Safe<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars().map(visible) {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// The character, or one that stands for it where it is a control or turns the direction of the text after it.
fn visible(c: char) -> char {
    match c {
        '\n' | '\t' => c,
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

/// `text` without hidden characters. Not made safe.
pub(in crate::report) fn plain(text: &str) -> String {
    text.chars().map(visible).collect()
}

/// At most `limit` characters of `text` without hidden ones, with a note of what is missing. Not made safe.
pub(in crate::report) fn plain_part(text: &str, limit: usize) -> String {
    let Some((end, _)) = text.char_indices().nth(limit) else { return plain(text) };
    format!("{}… shortened from {}", plain(&text[..end]), size(text.len() as u64))
}

/// At most `limit` characters of `text`, safe, with a note of what is missing.
pub(in crate::report) fn shortened(text: &str, limit: usize) -> String {
    let Some((end, _)) = text.char_indices().nth(limit) else { return Safe(text).to_string() };
    let note = size(text.len() as u64);
    format!("{}<span class=cut>… shortened from {note}</span>", Safe(&text[..end]))
}

/// At most `limit` characters of `text`, the last an ellipsis where it is cut. Not made safe.
pub(in crate::report) fn clipped(text: &str, limit: usize) -> String {
    if text.char_indices().nth(limit).is_none() {
        return text.to_owned();
    }
    text.chars().take(limit.saturating_sub(1)).chain(['…']).collect()
}

/// The first line of `text`, at most `limit` characters of it. Not made safe.
pub(in crate::report) fn first_line(text: &str, limit: usize) -> String {
    clipped(text.lines().next().unwrap_or_default(), limit)
}

/// `950 ms`, `1.24 s`, `3 min 05 s`, `2 h 07 min`.
pub(in crate::report) fn duration(duration: Duration) -> String {
    let (millis, seconds) = (duration.as_millis(), duration.as_secs());
    match seconds {
        0 => format!("{millis} ms"),
        1..10 => format!("{:.2} s", duration.as_secs_f64()),
        10..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// `2026-11-21 11:40:13 UTC`.
pub(in crate::report) fn time(at: Timestamp) -> String {
    let text = at.to_string();
    match (text.get(..10), text.get(11..19)) {
        (Some(day), Some(time)) if text.ends_with('Z') => format!("{day} {time} UTC"),
        _ => text,
    }
}

/// `812 B`, `1.4 MB`.
pub(in crate::report) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let (mut value, mut unit) = (bytes as f64 / 1000.0, 0);
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if value < 10.0 { format!("{value:.1} {}", UNITS[unit]) } else { format!("{value:.0} {}", UNITS[unit]) }
}

/// `12,345`.
pub(in crate::report) fn count(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 task`, `3 tasks`.
pub(in crate::report) fn plural(number: usize, word: &str) -> String {
    format!("{} {word}{}", count(number), if number == 1 { "" } else { "s" })
}

/// A JSON value as a person reads it: text without quotes, numbers to six digits. Not made safe.
pub(in crate::report) fn value(json: &Json) -> String {
    match json {
        Json::String(text) => text.clone(),
        Json::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() => significant(float),
            _ => number.to_string(),
        },
        other => other.to_string(),
    }
}

fn significant(number: f64) -> String {
    let full = number.to_string();
    if full.len() <= 8 || number == 0.0 {
        return full;
    }
    let magnitude = number.abs().log10().floor();
    if !(-4.0..9.0).contains(&magnitude) {
        return format!("{number:.5e}");
    }
    let places = (5.0 - magnitude).max(0.0) as usize;
    let text = format!("{number:.places$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Whether a value fits in a table's cell.
pub(in crate::report) fn is_scalar(json: &Json) -> bool {
    match json {
        Json::Bool(_) | Json::Number(_) => true,
        Json::String(text) => text.len() <= 40 && !text.contains('\n'),
        _ => false,
    }
}

/// What an output is called; the only one of a component has no name of its own.
pub(in crate::report) fn port(name: &str) -> &str {
    if name == "Output" { "result" } else { name }
}

/// A label that fits a box: the last word of a schema title, such as `Model` of `system.Model`.
pub(in crate::report) fn kind(schema_title: &str) -> &str {
    schema_title.rsplit('.').next().unwrap_or(schema_title)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn markup_and_hidden_characters_are_made_harmless() {
        let text = Safe("</script><img src=x onerror='a'>\"&\u{0}\u{202e}ü\n").to_string();
        assert_eq!(
            text,
            "&lt;/script&gt;&lt;img src=x onerror=&#39;a&#39;&gt;&quot;&amp;\u{fffd}\u{fffd}ü\n"
        );
    }

    #[test]
    fn long_text_is_cut_between_characters_and_says_so() {
        let text = shortened(&"ü<".repeat(500_000), 10);
        assert_eq!(text, "ü&lt;ü&lt;ü&lt;ü&lt;ü&lt;<span class=cut>… shortened from 1.5 MB</span>");
        assert_eq!(shortened("short", 5), "short");
        assert_eq!(clipped("learning-rate", 9), "learning…");
    }

    #[test]
    fn numbers_read_well() {
        let shown = |millis| duration(Duration::from_millis(millis));
        assert_eq!([shown(0), shown(950), shown(1_240)], ["0 ms", "950 ms", "1.24 s"]);
        assert_eq!([shown(42_310), shown(185_000), shown(7_620_000)], ["42.3 s", "3 min 05 s", "2 h 07 min"]);
        assert_eq!([size(812), size(1_400_000), size(999_999)], ["812 B", "1.4 MB", "1.0 MB"]);
        assert_eq!([count(7), count(1_234), count(1_234_567)], ["7", "1,234", "1,234,567"]);
        assert_eq!(value(&json!(0.972_222_222_222)), "0.972222");
        assert_eq!(value(&json!(1.0e-12)), "1.00000e-12");
        assert_eq!(value(&json!(123_456_789.123)), "123456789");
        assert_eq!(value(&json!(0.1)), "0.1");
        assert_eq!(time(Timestamp::from_millis(1_795_261_213_123)), "2026-11-21 11:40:13 UTC");
    }
}
