//! The pages as text.

use super::escape::Escaped;
use crate::{Bounds, Kept, message::Told};
use std::fmt::Write as _;

const STYLE: &str = include_str!("style.css");
/// Headers that are shown without being asked for.
const SHOWN: [&str; 6] = ["from", "to", "cc", "reply-to", "date", "subject"];

fn document(title: &str, main: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"robots\" content=\"noindex\">\n\
         <title>{}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{main}</main>\n</body>\n</html>\n",
        Escaped(title)
    )
}

/// All messages, the newest first.
pub(super) fn list(messages: &[Kept], bounds: Bounds) -> String {
    let mut main = format!(
        "<header><h1>Mail</h1><span class=\"soft\">{} kept, the newest first</span></header>\n\
         <p>What this environment sends is kept here and goes nowhere: at most {} messages, and {}.</p>\n<div class=\"card\">\n",
        messages.len(),
        bounds.messages,
        size(bounds.bytes)
    );
    if messages.is_empty() {
        main.push_str("<div class=\"empty\">Nothing was sent yet.</div>\n");
    }
    for kept in messages {
        let subject = match kept.envelope.subject.as_str() {
            "" => "(no subject)",
            subject => subject,
        };
        let _ = writeln!(
            main,
            "<a class=\"row\" href=\"/message/{}\"><span>{}</span><span class=\"subject\">{}</span><span class=\"soft\">{}</span></a>",
            kept.id,
            Escaped(&kept.envelope.to.join(", ")),
            Escaped(subject),
            time(kept.envelope.at)
        );
    }
    main.push_str("</div>\n");
    document("Mail", &main)
}

/// One message.
pub(super) fn message(kept: &Kept, told: &Told) -> String {
    let id = kept.id;
    let subject = match kept.envelope.subject.as_str() {
        "" => "(no subject)",
        subject => subject,
    };
    let mut main = format!(
        "<header><a href=\"/\">← Mail</a><h1>{}</h1></header>\n<div class=\"card\">\n<table>\n",
        Escaped(subject)
    );
    row(
        &mut main,
        "came",
        &format!("{}, {}", time(kept.envelope.at), size(kept.envelope.size)),
    );
    row(&mut main, "sender", &kept.envelope.from);
    row(&mut main, "recipients", &kept.envelope.to.join(", "));
    let is_shown = |name: &str| SHOWN.iter().any(|shown| name.eq_ignore_ascii_case(shown));
    for (name, value) in told.headers.iter().filter(|(name, _)| is_shown(name)) {
        row(&mut main, name, value);
    }
    main.push_str("</table>\n<details><summary>All headers</summary>\n<table>\n");
    for (name, value) in &told.headers {
        row(&mut main, name, value);
    }
    main.push_str("</table>\n</details>\n</div>\n");
    if !told.attachments.is_empty() {
        main.push_str("<h2>Attachments</h2>\n<div class=\"card\">\n<table>\n");
        for attachment in &told.attachments {
            let _ = writeln!(
                main,
                "<tr><td><a href=\"/message/{id}/attachment/{}\">{}</a></td><td class=\"soft\">{}, {}</td></tr>",
                attachment.number,
                Escaped(&attachment.name),
                Escaped(&attachment.kind),
                size(attachment.size as u64)
            );
        }
        main.push_str("</table>\n</div>\n");
    }
    if told.html {
        let _ = writeln!(
            main,
            "<h2>As HTML</h2>\n<p>Without scripts and without anything from elsewhere.</p>\n\
             <div class=\"card\"><iframe sandbox src=\"/message/{id}/html\" title=\"The message as HTML\"></iframe></div>"
        );
    }
    if let Some(text) = &told.text {
        let _ = writeln!(
            main,
            "<h2>As text</h2>\n<div class=\"card\"><pre>{}</pre></div>",
            Escaped(text)
        );
    }
    let _ = writeln!(main, "<p><br><a href=\"/message/{id}/raw\">Download as it came</a></p>");
    document(subject, &main)
}

fn row(into: &mut String, name: &str, value: &str) {
    let _ = writeln!(into, "<tr><th>{}</th><td>{}</td></tr>", Escaped(name), Escaped(value));
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes / 1024),
        _ => format!("{} MiB", bytes / 1_048_576),
    }
}

/// Milliseconds since the epoch as `2026-11-21 20:44 UTC`.
fn time(at: u64) -> String {
    let minutes = at / 60_000;
    let (days, of_day) = (minutes / 1440, minutes % 1440);
    // Days since 1 March of the year 0, in cycles of 400 years.
    let shifted = days + 719_468;
    let (cycle, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let date = of_year - (153 * month + 2) / 5 + 1;
    let (month, more) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = cycle * 400 + year + more;
    format!(
        "{year:04}-{month:02}-{date:02} {:02}:{:02} UTC",
        of_day / 60,
        of_day % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_as_calendars_do() {
        for (at, told) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_400_000, "2000-02-29 00:00 UTC"),
            (1_795_261_352_051, "2026-11-21 11:42 UTC"),
            (4_107_542_399_000, "2100-02-28 23:59 UTC"),
        ] {
            assert_eq!(time(at), told);
        }
    }
}
