//! SMTP as RFC 5321 has it, from the side of a server that takes everything and sends nothing.
//!
//! Applications insist on what their mail server offers, so whatever name and password they give is right. A session may
//! take a bounded time, a bounded number of commands and messages, and lines of a bounded length.

use crate::{Envelope, Keep, message};
use std::{
    io,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    sync::Semaphore,
    time::{sleep, timeout},
};

/// How many clients are served at once.
pub(crate) const SESSIONS_MAX: usize = 64;
/// The longest command, in bytes.
const LINE_MAX: usize = 4096;
/// How long a client may say nothing.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a session may take.
const SESSION: Duration = Duration::from_secs(600);
/// The most commands of a session.
const COMMANDS_MAX: usize = 10_000;
/// The most commands in a row that can not be understood.
const ERRORS_MAX: usize = 20;
/// The most recipients of a message.
const RECIPIENTS_MAX: usize = 100;

/// Takes clients until it is aborted.
pub(crate) async fn serve(socket: TcpListener, keep: Arc<Keep>, turns: Arc<Semaphore>) {
    loop {
        let Ok((mut stream, _)) = socket.accept().await else {
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        match Arc::clone(&turns).try_acquire_owned() {
            Ok(turn) => {
                let keep = Arc::clone(&keep);
                tokio::spawn(async move {
                    let _turn = turn;
                    let _ = timeout(SESSION, Session::new(stream, keep).run()).await;
                });
            }
            Err(_) => {
                let busy = stream.write_all(b"421 4.3.2 too many sessions at once\r\n");
                let _ = timeout(Duration::from_millis(100), busy).await;
            }
        }
    }
}

struct Session<S> {
    stream: S,
    keep: Arc<Keep>,
    /// What came and was not looked at yet.
    buffer: Vec<u8>,
    greeted: bool,
    from: Option<String>,
    to: Vec<String>,
}

/// What comes after a command.
enum Next {
    Say(&'static str),
    Text(String),
    Data,
    Login,
    Plain,
    Quit,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    fn new(stream: S, keep: Arc<Keep>) -> Self {
        Self {
            stream,
            keep,
            buffer: Vec::new(),
            greeted: false,
            from: None,
            to: Vec::new(),
        }
    }

    async fn say(&mut self, text: &str) -> io::Result<()> {
        let line = format!("{text}\r\n");
        let said = timeout(PATIENCE, self.stream.write_all(line.as_bytes()));
        said.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    async fn more(&mut self) -> io::Result<bool> {
        let mut piece = [0; 16 * 1024];
        let read = timeout(PATIENCE, self.stream.read(&mut piece)).await;
        let read = read.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        self.buffer.extend_from_slice(&piece[..read]);
        Ok(read > 0)
    }

    /// The next line without its end; `None` at the end of all. One that is too long is an error of its own.
    async fn line(&mut self) -> io::Result<Option<Result<String, ()>>> {
        let mut skipped = false;
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                if skipped || line.len() > LINE_MAX {
                    return Ok(Some(Err(())));
                }
                let text = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
                return Ok(Some(Ok(text)));
            }
            if self.buffer.len() > LINE_MAX {
                skipped = true;
                self.buffer.clear();
            }
            if !self.more().await? {
                return Ok(None);
            }
        }
    }

    async fn run(mut self) -> io::Result<()> {
        self.say("220 mail.maquette ESMTP: whatever is sent here is kept, and goes nowhere")
            .await?;
        let mut errors = 0;
        for _ in 0..COMMANDS_MAX {
            let Some(line) = self.line().await? else {
                return Ok(());
            };
            let next = match &line {
                Ok(line) if !line.contains('\0') => self.command(line),
                _ => Next::Say("500 5.5.2 the line is too long, or has zero bytes"),
            };
            let failed = matches!(&next, Next::Say(text) if text.starts_with("50"));
            errors = if failed { errors + 1 } else { 0 };
            match next {
                Next::Say(text) => self.say(text).await?,
                Next::Text(text) => self.say(&text).await?,
                Next::Data => self.data().await?,
                Next::Plain => self.ask(&["334 "]).await?,
                Next::Login => self.ask(&["334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6"]).await?,
                Next::Quit => return self.say("221 2.0.0 bye").await,
            }
            if errors > ERRORS_MAX {
                break;
            }
        }
        self.say("421 4.7.0 that is enough").await
    }

    /// Asks for words of a sign-in, and takes any.
    async fn ask(&mut self, questions: &[&str]) -> io::Result<()> {
        for question in questions {
            self.say(question).await?;
            match self.line().await? {
                Some(Ok(answer)) if answer != "*" => {}
                Some(_) => return self.say("501 5.7.0 not signed in").await,
                None => return Ok(()),
            }
        }
        self.say("235 2.7.0 any name and password will do").await
    }

    fn reset(&mut self) {
        self.from = None;
        self.to.clear();
    }

    fn command(&mut self, line: &str) -> Next {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word.to_ascii_uppercase().as_str() {
            "EHLO" => {
                self.greeted = true;
                self.reset();
                let size = self.keep.bounds().message_bytes;
                Next::Text(format!(
                    "250-mail.maquette\r\n250-SIZE {size}\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-PIPELINING\r\n\
                     250-ENHANCEDSTATUSCODES\r\n250 AUTH PLAIN LOGIN"
                ))
            }
            "HELO" => {
                self.greeted = true;
                self.reset();
                Next::Say("250 mail.maquette")
            }
            "MAIL" => self.mail(rest),
            "RCPT" => self.rcpt(rest),
            "DATA" if self.from.is_none() || self.to.is_empty() => Next::Say("503 5.5.1 who is it from, and whom for?"),
            "DATA" => Next::Data,
            "RSET" => {
                self.reset();
                Next::Say("250 2.0.0 forgotten")
            }
            "NOOP" => Next::Say("250 2.0.0 nothing done"),
            "VRFY" => Next::Say("252 2.5.2 mail for anybody is taken"),
            "QUIT" => Next::Quit,
            "AUTH" => {
                let mut words = rest.split(' ');
                match (
                    words.next().unwrap_or_default().to_ascii_uppercase().as_str(),
                    words.next(),
                ) {
                    ("PLAIN", Some(_)) => Next::Say("235 2.7.0 any name and password will do"),
                    ("PLAIN", None) => Next::Plain,
                    ("LOGIN", None) => Next::Login,
                    // The name came with it.
                    ("LOGIN", Some(_)) => Next::Plain,
                    _ => Next::Say("504 5.5.4 PLAIN or LOGIN"),
                }
            }
            "STARTTLS" => Next::Say("502 5.5.1 there is no TLS inside of an environment"),
            _ => Next::Say("500 5.5.2 this command is not known"),
        }
    }

    fn mail(&mut self, rest: &str) -> Next {
        if !self.greeted {
            return Next::Say("503 5.5.1 say EHLO first");
        }
        if self.from.is_some() {
            return Next::Say("503 5.5.1 one sender only");
        }
        let Some((address, parameters)) = path(rest, "FROM:") else {
            return Next::Say("501 5.5.4 MAIL FROM:<address>");
        };
        let size = parameters.split(' ').find_map(|word| {
            let (name, value) = word.split_once('=')?;
            name.eq_ignore_ascii_case("SIZE").then(|| value.parse::<u64>().ok())?
        });
        if size.is_some_and(|size| size > self.keep.bounds().message_bytes) {
            return Next::Say("552 5.3.4 the message is too large");
        }
        self.from = Some(address);
        Next::Say("250 2.1.0 ok")
    }

    fn rcpt(&mut self, rest: &str) -> Next {
        if self.from.is_none() {
            return Next::Say("503 5.5.1 say MAIL first");
        }
        let Some((address, _)) = path(rest, "TO:") else {
            return Next::Say("501 5.5.4 RCPT TO:<address>");
        };
        if address.is_empty() {
            return Next::Say("501 5.1.3 a recipient has an address");
        }
        if self.to.len() >= RECIPIENTS_MAX {
            return Next::Say("452 4.5.3 too many recipients");
        }
        self.to.push(address);
        Next::Say("250 2.1.5 ok")
    }

    async fn data(&mut self) -> io::Result<()> {
        self.say("354 end with a line that has a dot alone").await?;
        let max = usize::try_from(self.keep.bounds().message_bytes).unwrap_or(usize::MAX);
        let (mut message, mut undot, mut total) = (Vec::new(), Undot::default(), 0_usize);
        loop {
            let taken = undot.feed(&self.buffer, &mut message);
            total = total.saturating_add(taken);
            self.buffer.drain(..taken);
            if undot.is_over() {
                break;
            }
            // The rest of what is too large is read, so that the client hears why; but not for ever.
            if message.len() > max {
                message.clear();
                message.shrink_to_fit();
            }
            if total > max.saturating_mul(4) {
                self.say("421 4.3.4 the message does not end").await?;
                // What would come next is not a command.
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            if !self.more().await? {
                return Ok(());
            }
        }
        let (from, to) = (self.from.take().unwrap_or_default(), std::mem::take(&mut self.to));
        if total > max {
            return self.say("552 5.3.4 the message is too large").await;
        }
        let keep = Arc::clone(&self.keep);
        let kept = tokio::task::spawn_blocking(move || {
            let envelope = Envelope {
                at: now(),
                from,
                to,
                subject: message::subject(&message),
                size: message.len() as u64,
            };
            keep.put(envelope, &message)
        });
        match kept.await.map_err(io::Error::other).and_then(|kept| kept) {
            Ok(id) => self.say(&format!("250 2.0.0 kept as {id}, and not sent")).await,
            Err(_) => self.say("452 4.3.1 there is no room").await,
        }
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// `FROM:<address> parameters`. Clients leave out the brackets, too.
fn path<'a>(rest: &'a str, word: &str) -> Option<(String, &'a str)> {
    let rest = rest.trim_start();
    let head = rest.get(..word.len())?;
    if !head.eq_ignore_ascii_case(word) {
        return None;
    }
    let rest = rest.get(word.len()..)?.trim_start();
    let (address, rest) = match rest.strip_prefix('<') {
        Some(rest) => rest.split_once('>')?,
        None => rest.split_once(' ').unwrap_or((rest, "")),
    };
    (address.len() <= 512).then(|| (address.to_owned(), rest.trim_start()))
}

/// Takes the dots away that stand in front of lines, and sees the end. Only CR LF ends a line.
#[derive(Default)]
struct Undot(At);

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum At {
    #[default]
    Start,
    Dot,
    DotReturn,
    Within,
    Return,
    Over,
}

impl Undot {
    fn is_over(&self) -> bool {
        self.0 == At::Over
    }

    /// How much was taken: all, unless the end was in it.
    fn feed(&mut self, bytes: &[u8], into: &mut Vec<u8>) -> usize {
        for (index, byte) in bytes.iter().enumerate() {
            let within = |byte: u8| if byte == b'\r' { At::Return } else { At::Within };
            let next = match (self.0, *byte) {
                (At::Over, _) => return index,
                (At::Start, b'.') => {
                    self.0 = At::Dot;
                    continue;
                }
                (At::Dot, b'\r') => {
                    self.0 = At::DotReturn;
                    continue;
                }
                (At::DotReturn, b'\n') => {
                    self.0 = At::Over;
                    return index + 1;
                }
                (At::DotReturn, byte) => {
                    into.push(b'\r');
                    within(byte)
                }
                (At::Return, b'\n') => At::Start,
                (_, byte) => within(byte),
            };
            into.push(*byte);
            self.0 = next;
        }
        bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn undotted(text: &str, step: usize) -> (String, usize) {
        let (mut undot, mut into, mut taken) = (Undot::default(), Vec::new(), 0);
        for piece in text.as_bytes().chunks(step) {
            taken += undot.feed(piece, &mut into);
            if undot.is_over() {
                break;
            }
        }
        assert!(undot.is_over(), "{text:?}");
        (String::from_utf8(into).unwrap(), text.len() - taken)
    }

    #[test]
    fn dots_are_taken_away_however_the_bytes_come() {
        for step in 1..9 {
            for (text, message, left) in [
                (".\r\n", "", 0),
                ("a\r\n.\r\n", "a\r\n", 0),
                ("..a\r\n...\r\n.\r\nQUIT\r\n", ".a\r\n..\r\n", 6),
                ("a\n.\nb\r\n.\r\n", "a\n.\nb\r\n", 0),
                ("a\r.\r\nb\r\n.\r\n", "a\r.\r\nb\r\n", 0),
                (".\rx\r\n.\r\n", "\rx\r\n", 0),
                ("\0\u{7f}\r\r\n.\r\n", "\0\u{7f}\r\r\n", 0),
            ] {
                let (found, rest) = undotted(text, step);
                assert_eq!(found, message, "{text:?} by {step}");
                assert!(rest >= left, "{text:?}: what comes after it is not of it");
            }
        }
    }

    #[test]
    fn addresses_with_and_without_brackets() {
        let of = |text: &str| path(text, "FROM:").map(|(address, rest)| (address, rest.to_owned()));
        let some = |address: &str, rest: &str| Some((address.to_owned(), rest.to_owned()));
        assert_eq!(of("FROM:<a@b.c> SIZE=3"), some("a@b.c", "SIZE=3"));
        assert_eq!(of("from: a@b.c BODY=8BITMIME"), some("a@b.c", "BODY=8BITMIME"));
        assert_eq!(of("FROM:<>"), some("", ""));
        for text in ["", "FRO", "TO:<a>", "FROM:<a", "é", "FROMé"] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}
