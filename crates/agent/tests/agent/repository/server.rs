//! A server of repositories on this machine: git's own, behind as much of HTTP as it takes. It counts what it gives away.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use data_encoding::BASE64;

/// What was asked for, and how much was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) status: u16,
    /// Bytes of the answer.
    pub(crate) given: usize,
}

type Gate = Box<dyn Fn(&str) + Send + Sync>;

#[derive(Default)]
struct Rules {
    /// Who may come in; with none everybody may.
    accounts: Mutex<Vec<(String, String)>>,
    asked: Mutex<Vec<Asked>>,
    /// Speaks the first version of git's protocol alone, which gives away what it shows and nothing else.
    is_old: Mutex<bool>,
    is_closed: Mutex<bool>,
    /// Passed by everybody who may come in.
    gate: Mutex<Option<Arc<Gate>>>,
}

/// Serves all repositories below a directory.
pub(crate) struct Server {
    address: SocketAddr,
    rules: Arc<Rules>,
    accepting: std::thread::JoinHandle<()>,
}

impl Server {
    pub(crate) fn start(root: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (rules, root) = (Arc::new(Rules::default()), root.to_owned());
        let shared = Arc::clone(&rules);
        let accepting = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (rules, root) = (Arc::clone(&shared), root.clone());
                if *rules.is_closed.lock().unwrap() {
                    return;
                }
                std::thread::spawn(move || serve(stream, &rules, &root));
            }
        });
        Self { address, rules, accepting }
    }

    /// Takes no more connections.
    pub(crate) fn close(self) {
        *self.rules.is_closed.lock().unwrap() = true;
        drop(TcpStream::connect(self.address));
        self.accepting.join().unwrap();
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    pub(crate) fn admit(&self, accounts: &[(&str, &str)]) {
        let owned = |(user, secret): &(&str, &str)| ((*user).to_owned(), (*secret).to_owned());
        *self.rules.accounts.lock().unwrap() = accounts.iter().map(owned).collect();
    }

    pub(crate) fn is_old(&self) {
        *self.rules.is_old.lock().unwrap() = true;
    }

    /// Has everybody who may come in wait until this returns, which is told the path.
    pub(crate) fn gate(&self, gate: impl Fn(&str) + Send + Sync + 'static) {
        *self.rules.gate.lock().unwrap() = Some(Arc::new(Box::new(gate)));
    }

    /// What was asked for since the last time.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.rules.asked.lock().unwrap())
    }

    /// Bytes of objects that were given away since the last time.
    pub(crate) fn given(&self) -> usize {
        let asked = self.asked();
        asked.iter().filter(|asked| asked.path.ends_with("/git-upload-pack")).map(|asked| asked.given).sum()
    }
}

fn serve(stream: TcpStream, rules: &Rules, root: &Path) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut stream = stream;
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let (method, target) = line.trim_end().strip_suffix(" HTTP/1.1")?.split_once(' ')?;
    let (method, target) = (method.to_owned(), target.to_owned());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.insert(name.to_ascii_lowercase(), value.to_owned()),
            None => break,
        };
    }
    let body = body(&mut reader, &headers)?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let (status, kind, answer) = if may_enter(rules, &headers) {
        let gate = rules.gate.lock().unwrap().clone();
        if let Some(gate) = gate {
            gate(path);
        }
        backend(rules, root, &method, path, query, &headers, &body)
    } else {
        (401, "text/plain".to_owned(), b"who are you?".to_vec())
    };
    rules.asked.lock().unwrap().push(Asked { path: path.to_owned(), status, given: answer.len() });
    let challenge = if status == 401 { "WWW-Authenticate: Basic realm=\"git\"\r\n" } else { "" };
    let head = format!(
        "HTTP/1.1 {status} .\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{challenge}Connection: close\r\n\r\n",
        answer.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(&answer).ok()
}

fn body(reader: &mut impl BufRead, headers: &HashMap<String, String>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    if headers.get("transfer-encoding").is_some_and(|how| how == "chunked") {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let length = usize::from_str_radix(line.trim(), 16).ok()?;
            let mut chunk = vec![0; length + 2];
            reader.read_exact(&mut chunk).ok()?;
            if length == 0 {
                return Some(body);
            }
            body.extend_from_slice(&chunk[..length]);
        }
    }
    let length = headers.get("content-length").map_or(Some(0), |length| length.parse().ok())?;
    body.resize(length, 0);
    reader.read_exact(&mut body).ok()?;
    Some(body)
}

fn may_enter(rules: &Rules, headers: &HashMap<String, String>) -> bool {
    let accounts = rules.accounts.lock().unwrap();
    let shown = headers.get("authorization").map(String::as_str).unwrap_or_default();
    let is_shown = |(user, secret): &(String, String)| {
        shown == format!("Basic {}", BASE64.encode(format!("{user}:{secret}").as_bytes()))
    };
    accounts.is_empty() || accounts.iter().any(is_shown)
}

/// RFC 3875.
fn backend(
    rules: &Rules,
    root: &Path,
    method: &str,
    path: &str,
    query: &str,
    headers: &HashMap<String, String>,
    body: &[u8],
) -> (u16, String, Vec<u8>) {
    let mut command = Command::new("git");
    command
        .arg("http-backend")
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", PathBuf::from("/nonexistent"));
    command.env("GIT_PROJECT_ROOT", root).env("GIT_HTTP_EXPORT_ALL", "1").env("REQUEST_METHOD", method);
    command.env("PATH_INFO", path).env("QUERY_STRING", query).env("CONTENT_LENGTH", body.len().to_string());
    for (variable, header) in
        [("CONTENT_TYPE", "content-type"), ("HTTP_CONTENT_ENCODING", "content-encoding")]
    {
        if let Some(value) = headers.get(header) {
            command.env(variable, value);
        }
    }
    if let Some(version) = headers.get("git-protocol").filter(|_| !*rules.is_old.lock().unwrap()) {
        command.env("GIT_PROTOCOL", version);
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut input, sent) = (child.stdin.take().unwrap(), body.to_vec());
    let sending = std::thread::spawn(move || drop(input.write_all(&sent)));
    let output = child.wait_with_output().unwrap().stdout;
    sending.join().unwrap();
    let end = output.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&output[..end]).into_owned();
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let status = field("Status").map_or(200, |status| status[..3].parse().unwrap());
    (status, field("Content-Type").unwrap_or("text/plain").to_owned(), output[end + 4..].to_vec())
}
