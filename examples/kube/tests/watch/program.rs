//! What the program says of the API server. Its Node is missing, so that it never comes to change this machine.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;

use super::api::Fault;
use super::*;

/// The program, and what it has said.
struct Program {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
    said: Vec<String>,
}

impl Program {
    fn watch(api: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ipvs-kube"));
        command.args(["--watch", "--node", "nobody", "--api-pause", "1s", "--api", api]);
        if api.starts_with("http:") {
            // No authority is known here, and without TLS none is needed.
            command.env("SSL_CERT_FILE", "/dev/null").env("SSL_CERT_DIR", "/dev/null");
        }
        command.args(["--healthz-bind-address", "127.0.0.1:0"]);
        command.args(["--metrics-bind-address", "127.0.0.1:0"]);
        let mut child = command.stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, lines, said: Vec::new() }
    }

    /// Waits for a line with these words.
    async fn says(&mut self, words: &[&str]) -> String {
        loop {
            let line = timeout(PATIENCE, self.lines.next_line()).await;
            let Ok(Ok(Some(line))) = line else { panic!("{words:?} in {:#?}", self.said) };
            self.said.push(line.clone());
            if words.iter().all(|word| line.contains(word)) {
                return line;
            }
        }
    }

    async fn terminate(mut self) -> Vec<String> {
        let id = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
        self.says(&["ended: the node stays as it is"]).await;
        assert!(timeout(PATIENCE, self.child.wait()).await.unwrap().unwrap().success());
        self.said
    }
}

/// What a server of the program answers.
async fn get(at: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(at).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Waits until the answer contains these words: the log and the answers are written by different tasks.
async fn answers(at: &str, path: &str, words: &str) {
    let mut last = String::new();
    let answered = async {
        while !last.contains(words) {
            tokio::time::sleep(Duration::from_millis(20)).await;
            last = get(at, path).await;
        }
    };
    assert!(timeout(PATIENCE, answered).await.is_ok(), "{words}: {last}");
}

/// Once: nothing was said of an API server that was away, or that refused.
#[tokio::test]
async fn an_api_server_that_refuses_or_is_away_is_told_once_and_so_is_its_return() {
    let mut api = Api::start().await;
    populate(&api);
    api.fail(Services, (0..3).map(|_| Fault::Status(403)));
    let mut program = Program::watch(&api.url());
    let line = program.says(&["health is told at "]).await;
    let at = |path| {
        let url = line.split([' ', ',']).find(|word| word.ends_with(path)).unwrap();
        url.strip_prefix("http://").unwrap().strip_suffix(path).unwrap()
    };
    let (health, metrics) = (at("/healthz"), at("/metrics"));
    let refused = program.says(&["the API server does not answer as it should"]).await;
    for words in
        ["Services: they cannot be listed", "403", "give the account the verbs list and watch"]
    {
        assert!(refused.contains(words), "{refused}");
    }
    program.says(&["the API server answers again"]).await;
    answers(health, "/healthz", r#""apiServer":{"connected":true,"errors":[]}"#).await;
    answers(metrics, "/metrics", "ipvs_kube_api_server_up 1").await;

    api.go().await;
    // The cause is a connection that was closed or one that is refused, whichever comes first.
    program.says(&["the API server does not answer as it should", "they cannot be"]).await;
    answers(health, "/healthz", r#""connected":false"#).await;
    answers(metrics, "/metrics", "ipvs_kube_api_server_up 0").await;
    api.come().await;
    program.says(&["the API server answers again"]).await;
    let said = program.terminate().await;
    let told = said.iter().filter(|line| line.contains("does not answer as it should")).count();
    assert_eq!(told, 2, "{said:#?}");
}

#[tokio::test]
async fn a_certificate_that_is_none_is_named_as_the_cause() {
    let api = Api::start().await;
    let mut program = Program::watch(&api.url().replace("http:", "https:"));
    let line = program.says(&["the API server does not answer as it should"]).await;
    assert!(line.contains("corrupt message") || line.contains("TLS"), "{line}");
    program.terminate().await;
}
