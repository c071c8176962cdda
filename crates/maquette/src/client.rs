//! The REST client: finds the server and its token, asks, and turns problems into failures.

use crate::{cli::Connection, exit::Failure};
use api::{BASE_PATH, ProblemDetails};
use reqwest::{Client, Method, RequestBuilder, Response, header};
use rustix::fs::OFlags;
use serde::{Serialize, de::DeserializeOwned};
use server::StateDir;
use std::{
    fs,
    io::{self, Read as _},
    net::{IpAddr, TcpListener},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
    time::Duration,
};
use zeroize::Zeroizing;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer that is no stream may take.
const ANSWER: Duration = Duration::from_secs(70);
/// The largest answer that is read, in bytes.
const ANSWER_MAX: usize = 64 << 20;

/// The longest address or token in a state directory, in bytes.
const TOLD_MAX: u64 = 4096;

/// The variable that may hold the token. There is no option for it: everybody on a machine sees the options of a process.
const TOKEN_VARIABLE: &str = "MAQUETTE_TOKEN";

/// A client of one server.
pub(crate) struct Api {
    client: Client,
    base: String,
    token: String,
}

impl Api {
    /// By what was said on the command line, in the environment, or in the state directory.
    pub(crate) fn new(connection: &Connection) -> Result<Self, Failure> {
        let state = StateDir::new(&connection.state_dir);
        let address = match &connection.server {
            Some(address) => address.clone(),
            None => of_this_machine(told(
                &state.server_address(),
                "the server's address",
                "--server or MAQUETTE_SERVER",
            )?)?,
        };
        let token = match (std::env::var(TOKEN_VARIABLE), &connection.token_file) {
            (Ok(token), None) => token,
            (_, Some(file)) => read(file, "a token", "another --token-file")?,
            (Err(_), None) => told(&state.operator_token(), "a token", "--token-file or MAQUETTE_TOKEN")?,
        };
        let builder = Client::builder()
            .connect_timeout(CONNECT)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none());
        let (builder, base) = match address.strip_prefix("unix:") {
            Some(path) => (builder.unix_socket(path), "http://localhost".to_owned()),
            None => (builder, address.trim_end_matches('/').to_owned()),
        };
        let client = builder.build().map_err(|error| Failure::of(&error))?;
        Ok(Self { client, base, token })
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client
            .request(method, format!("{}{BASE_PATH}{path}", self.base))
            .bearer_auth(&self.token)
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.read(self.request(Method::GET, path).timeout(ANSWER)).await
    }

    pub(crate) async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.read(self.request(Method::DELETE, path).timeout(ANSWER)).await
    }

    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<T, Failure> {
        self.read(self.request(Method::POST, path).timeout(ANSWER).json(body))
            .await
    }

    /// Sends bytes as they are. They are wiped when they were sent.
    pub(crate) async fn put<T: DeserializeOwned>(&self, path: &str, body: Zeroizing<Vec<u8>>) -> Result<T, Failure> {
        let request = self
            .request(Method::PUT, path)
            .timeout(ANSWER)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .body(bytes::Bytes::from_owner(body));
        self.read(request).await
    }

    /// An answer that is read piece by piece.
    pub(crate) async fn stream(&self, path: &str, query: &(impl Serialize + Sync)) -> Result<Response, Failure> {
        let query = form(query)?;
        self.send(self.request(Method::GET, &format!("{path}?{query}"))).await
    }

    /// A connection that speaks another protocol from now on.
    pub(crate) async fn upgrade(&self, path: &str, protocol: &str) -> Result<reqwest::Upgraded, Failure> {
        let request = self
            .request(Method::POST, path)
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, protocol);
        let response = self.send(request).await?;
        response
            .upgrade()
            .await
            .map_err(|error| Failure::unreachable(chain(&error)))
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        if status.is_success() || status.as_u16() == 101 {
            return Ok(response);
        }
        let text = limited(response).await?;
        Err(match serde_json::from_slice::<ProblemDetails>(&text) {
            Ok(problem) => problem.into(),
            Err(_) => Failure::unreachable(format!("{} answered {status}, and not as Maquette does", self.base)),
        })
    }

    async fn read<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Failure> {
        let bytes = limited(self.send(request).await?).await?;
        serde_json::from_slice(&bytes).map_err(|error| {
            Failure::unreachable(format!("the answer of {} can not be read: {error}", self.base))
                .hint("the server may be of another version than this program")
        })
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        Failure::unreachable(format!("{} does not answer: {}", self.base, chain(error)))
            .hint("is `maquette serve` running? --server names another address")
    }
}

fn unknown(path: &Path, what: &str, instead: &str, error: &io::Error) -> Failure {
    Failure::unreachable(format!(
        "no server is known: {what} is not in {} ({error})",
        path.display()
    ))
    .hint(format!(
        "start `maquette serve`, name its state directory with --state-dir, or give {instead}"
    ))
}

fn read(path: &Path, what: &str, instead: &str) -> Result<String, Failure> {
    let text = fs::read_to_string(path).map_err(|error| unknown(path, what, instead, &error))?;
    Ok(text.trim().to_owned())
}

/// What the server tells in its state directory. Root reads there, too, but is not led to other files by whoever owns it.
fn told(path: &Path, what: &str, instead: &str) -> Result<String, Failure> {
    let attempt = || -> io::Result<String> {
        let owner = fs::metadata(path.parent().unwrap_or(path))?.uid();
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = fs::File::options()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(path)?;
        let found = file.metadata()?;
        if !found.is_file() || (found.uid() != owner && found.uid() != 0) {
            return Err(io::Error::other("it is no file of the server's"));
        }
        let mut text = String::new();
        file.take(TOLD_MAX).read_to_string(&mut text)?;
        Ok(text.trim().to_owned())
    };
    attempt().map_err(|error| unknown(path, what, instead, &error))
}

/// The server whose state directory is here listens here: nothing is sent elsewhere because a file says so.
fn of_this_machine(address: String) -> Result<String, Failure> {
    let host = url::Url::parse(&address).ok().and_then(|url| match url.host()? {
        url::Host::Ipv4(ip) => Some(IpAddr::from(ip)),
        url::Host::Ipv6(ip) => Some(IpAddr::from(ip)),
        url::Host::Domain(_) => None,
    });
    // An address of another machine can not be bound to.
    if address.starts_with("unix:") || host.is_some_and(|ip| TcpListener::bind((ip, 0)).is_ok()) {
        return Ok(address);
    }
    Err(
        Failure::unreachable("the address in the state directory is not one of this machine")
            .hint("--server names the server to ask"),
    )
}

/// The innermost reason: what the kernel said.
fn chain(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// A query of the fields that are set.
fn form(query: &impl Serialize) -> Result<String, Failure> {
    let value = serde_json::to_value(query).map_err(|error| Failure::of(&error))?;
    let mut text = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in value.as_object().into_iter().flatten() {
        match value {
            serde_json::Value::Null => {}
            serde_json::Value::String(value) => {
                text.append_pair(name, value);
            }
            other => {
                text.append_pair(name, &other.to_string());
            }
        }
    }
    Ok(text.finish())
}

async fn limited(mut response: Response) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    while let Some(piece) = response
        .chunk()
        .await
        .map_err(|error| Failure::unreachable(chain(&error)))?
    {
        bytes.extend_from_slice(&piece);
        if bytes.len() > ANSWER_MAX {
            return Err(Failure::unreachable("the answer is too large"));
        }
    }
    Ok(bytes)
}

/// A name as a part of an address.
pub(crate) fn segment(name: &str) -> String {
    url::form_urlencoded::byte_serialize(name.as_bytes())
        .collect::<String>()
        .replace('+', "%20")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_owns_a_state_directory_does_not_lead_root_elsewhere() {
        use std::os::unix::fs::{chown, symlink};
        let place = tempfile::tempdir().unwrap();
        let (state, token) = (place.path().join("state"), place.path().join("state/operator.token"));
        fs::create_dir(&state).unwrap();
        chown(&state, Some(12_345), None).unwrap();
        let tell = || told(&token, "a token", "--token-file").map_err(|failure| failure.to_string());
        fs::write(&token, "theirs\n").unwrap();
        chown(&token, Some(12_345), None).unwrap();
        assert_eq!(tell().unwrap(), "theirs");
        chown(&token, Some(54_321), None).unwrap();
        assert!(tell().unwrap_err().contains("no file of the server's"));
        fs::remove_file(&token).unwrap();
        let other = place.path().join("other");
        fs::write(&other, "root's").unwrap();
        symlink(&other, &token).unwrap();
        assert!(tell().is_err());
        for (address, own) in [
            ("http://127.0.0.1:7070", true),
            ("http://[::1]:7070", true),
            ("unix:/run/x", true),
            ("http://192.0.2.1:7070", false),
            ("http://example.org", false),
            ("nothing", false),
        ] {
            assert_eq!(of_this_machine(address.to_owned()).is_ok(), own, "{address}");
        }
    }

    #[test]
    fn names_and_queries_can_not_break_out_of_their_place() {
        assert_eq!(segment("../x?y#z w"), "..%2Fx%3Fy%23z%20w");
        let query = api::LogQuery {
            name: Some("a&b=c".to_owned()),
            tail: Some(3),
            follow: false,
        };
        assert_eq!(form(&query).unwrap(), "name=a%26b%3Dc&tail=3&follow=false");
    }
}
