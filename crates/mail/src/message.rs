//! What a message says: parsed when somebody looks, from bytes that anybody may have written.

use mail_parser::{Message, MessageParser, MessagePart, MimeHeaders, PartType};
use serde::Serialize;

/// The longest subject in a list, in characters.
const SUBJECT_MAX: usize = 200;
/// The longest text that a page shows, in bytes.
const TEXT_MAX: usize = 512 * 1024;
/// The most headers and attachments that are shown, and the longest of each, in characters.
const HEADERS_MAX: usize = 100;
const HEADER_MAX: usize = 2000;
const ATTACHMENTS_MAX: usize = 100;

/// One message, as far as people read it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Told {
    /// All headers, in their order.
    pub(crate) headers: Vec<(String, String)>,
    /// Its text; made from its HTML where it has none.
    pub(crate) text: Option<String>,
    /// Whether it has HTML.
    pub(crate) html: bool,
    /// What is attached to it.
    pub(crate) attachments: Vec<Attachment>,
}

/// Something attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Attachment {
    /// Its number, from 0.
    pub(crate) number: usize,
    /// What it is called: any text.
    pub(crate) name: String,
    /// What it says that it is.
    pub(crate) kind: String,
    /// Its size in bytes.
    pub(crate) size: usize,
}

fn parsed(bytes: &[u8]) -> Option<Message<'_>> {
    MessageParser::default().parse(bytes)
}

fn shortened(text: &str, max: usize) -> String {
    text.chars().take(max).collect()
}

/// The subject, for a list.
pub(crate) fn subject(bytes: &[u8]) -> String {
    let message = MessageParser::default().parse_headers(bytes);
    let subject = message.as_ref().and_then(Message::subject).unwrap_or_default();
    shortened(subject, SUBJECT_MAX)
}

/// What a message says.
pub(crate) fn told(bytes: &[u8]) -> Told {
    let Some(message) = parsed(bytes) else {
        return Told {
            text: Some(bounded(&String::from_utf8_lossy(bytes)).to_owned()),
            ..Told::default()
        };
    };
    let headers = message.headers_raw().take(HEADERS_MAX);
    Told {
        headers: headers
            .map(|(name, value)| (shortened(name, HEADER_MAX), shortened(value.trim(), HEADER_MAX)))
            .collect(),
        text: message.body_text(0).map(|text| bounded(&text).to_owned()),
        html: html_part(&message).is_some(),
        attachments: attached(&message)
            .map(|(number, part)| Attachment {
                number,
                name: shortened(part.attachment_name().unwrap_or("attachment"), SUBJECT_MAX),
                kind: kind(part),
                size: part.contents().len(),
            })
            .collect(),
    }
}

fn html_part<'a>(message: &'a Message<'_>) -> Option<&'a MessagePart<'a>> {
    message
        .html_bodies()
        .find(|part| matches!(part.body, PartType::Html(_)))
}

fn attached<'a>(message: &'a Message<'_>) -> impl Iterator<Item = (usize, &'a MessagePart<'a>)> {
    message.attachments().take(ATTACHMENTS_MAX).enumerate()
}

fn kind(part: &MessagePart<'_>) -> String {
    let known = part.content_type().map(|kind| match kind.subtype() {
        Some(subtype) => format!("{}/{subtype}", kind.ctype()),
        None => kind.ctype().to_owned(),
    });
    shortened(&known.unwrap_or_else(|| "application/octet-stream".to_owned()), 100)
}

fn bounded(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_MAX)]
}

/// Its HTML as it came.
pub(crate) fn html(bytes: &[u8]) -> Option<String> {
    let message = parsed(bytes)?;
    let part = html_part(&message)?;
    Some(bounded(part.text_contents()?).to_owned())
}

/// The content of something attached.
pub(crate) fn attachment(bytes: &[u8], number: usize) -> Option<Vec<u8>> {
    let message = parsed(bytes)?;
    let (_, part) = attached(&message).nth(number)?;
    Some(part.contents().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: &str = "From: Shop <shop@example.com>\r\nTo: ada@example.com\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\
        MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: multipart/alternative; boundary=y\r\n\r\n\
        --y\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nHallo =E2=82=AC\r\n\
        --y\r\nContent-Type: text/html\r\n\r\n<b>Hallo</b><script>alert(1)</script>\r\n--y--\r\n\
        --x\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; filename=\"../../bill.pdf\"\r\n\
        Content-Transfer-Encoding: base64\r\n\r\naGVsbG8=\r\n--x--\r\n";

    #[test]
    fn text_html_and_attachments() {
        assert_eq!(subject(BOTH.as_bytes()), "Grüße");
        let told = told(BOTH.as_bytes());
        assert_eq!(told.text.as_deref().map(str::trim), Some("Hallo €"));
        assert!(told.html && told.headers.iter().any(|(name, _)| name == "MIME-Version"));
        assert_eq!(
            html(BOTH.as_bytes()).unwrap().trim(),
            "<b>Hallo</b><script>alert(1)</script>"
        );
        let [only] = told.attachments.as_slice() else {
            panic!("{:?}", told.attachments);
        };
        assert_eq!((only.kind.as_str(), only.size), ("application/pdf", 5));
        assert_eq!(attachment(BOTH.as_bytes(), 0).unwrap(), b"hello");
        assert_eq!(attachment(BOTH.as_bytes(), 1), None);
    }

    #[test]
    fn whatever_comes_is_read_to_an_end() {
        let mut nested = String::from("Subject: deep\r\n");
        for level in 0..20_000 {
            nested += &format!("Content-Type: multipart/mixed; boundary=b{level}\r\n\r\n--b{level}\r\n");
        }
        let mut wrapped = String::new();
        for _ in 0..5_000 {
            wrapped += "Content-Type: message/rfc822\r\n\r\n";
        }
        let many = format!(
            "Content-Type: multipart/mixed; boundary=x\r\n\r\n{}",
            "--x\r\nContent-Disposition: attachment\r\n\r\na\r\n".repeat(50_000)
        );
        let long = format!(
            "Subject: {}\r\nX: {}\r\n\r\nx",
            "a".repeat(1 << 20),
            "=?utf-8?b?".repeat(100_000)
        );
        for bytes in [
            nested.as_bytes(),
            wrapped.as_bytes(),
            many.as_bytes(),
            long.as_bytes(),
            &[0; 100_000][..],
            &[0xff; 100_000][..],
            b"",
            b"\r\n",
        ] {
            assert!(subject(bytes).chars().count() <= SUBJECT_MAX);
            let told = told(bytes);
            assert!(told.attachments.len() <= ATTACHMENTS_MAX && told.headers.len() <= HEADERS_MAX);
            assert!(told.text.is_none_or(|text| text.len() <= TEXT_MAX));
            html(bytes);
            attachment(bytes, 3);
        }
    }
}
