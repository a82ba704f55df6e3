//! What the node answers over HTTP: its own health, that of Services to load balancers, and metrics.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use ipvs_netlink::Family;
use serde_json::json;
use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tower::ServiceExt as _;

use super::host::NotDone;
use super::metrics;
use super::status::Status;
use crate::health::HealthCheck;

/// By this header load balancers weigh nodes.
const WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");

/// How many connections a port has at once. More of them wait.
const MOST_CONNECTIONS: usize = 64;

/// How many connections the kernel has wait, at most.
const BACKLOG: i32 = 128;

/// How long a connection may last: the request comes, and is answered.
const LONGEST: Duration = Duration::from_secs(20);

/// The pause after a connection that could not be had.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves `/healthz`, which is 503, too, while the Node is about to go, and `/livez`, which is not. Gives the address, whose
/// port may have been left to the kernel.
pub fn serve_health(at: SocketAddr, status: Arc<Status>) -> Result<SocketAddr> {
    let answer = |is_eligible_needed: bool| {
        move |State(status): State<Arc<Status>>| async move {
            let health = status.health();
            let is_well = health.synced && (health.node_eligible || !is_eligible_needed);
            (code(is_well), no_sniff(), Json(health)).into_response()
        }
    };
    let router = Router::new()
        .route("/healthz", get(answer(true)))
        .route("/livez", get(answer(false)))
        .with_state(status);
    serve(at, "health", router)
}

/// Serves `/metrics`. Gives the address.
pub fn serve_metrics(at: SocketAddr, status: Arc<Status>) -> Result<SocketAddr> {
    let answer = |State(status): State<Arc<Status>>| async move {
        match metrics::text(&status).await {
            Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
            Err(error) => {
                (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}\n")).into_response()
            }
        }
    };
    let router = Router::new().route("/metrics", get(answer)).with_state(status);
    serve(at, "metrics", router)
}

/// Serves until the program ends.
fn serve(at: SocketAddr, what: &str, router: Router) -> Result<SocketAddr> {
    let listener = listen(at)
        .with_context(|| format!("{what} cannot be served at {at}: choose another address"))?;
    let at = listener.local_addr()?;
    tokio::spawn(answer_all(listener, router, LONGEST));
    Ok(at)
}

/// Answers for as long as it is polled: one request of each connection, in the time that it may take.
///
/// The kubelet, load balancers and Prometheus ask from time to time. A stranger who opens connections and says nothing
/// delays them by that time, and takes no memory and no files of the proxy's.
async fn answer_all(listener: TcpListener, router: Router, longest: Duration) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if connections.len() >= MOST_CONNECTIONS {
            connections.join_next().await;
            continue;
        }
        let Ok((stream, client)) = listener.accept().await else {
            // Of files there are too few for the moment, say.
            sleep(PAUSE).await;
            continue;
        };
        let router = router.clone();
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(client));
            router.clone().oneshot(request.map(Body::new))
        });
        let connection =
            http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service);
        connections.spawn(timeout(longest, connection));
    }
}

/// A socket that listens. At `[::]` it does so in both families, or in IPv4 where the kernel has no IPv6.
fn listen(at: SocketAddr) -> io::Result<TcpListener> {
    match listen_at(at) {
        Err(error) if at.ip() == Ipv6Addr::UNSPECIFIED && is_missing_address(&error) => {
            listen_at((Ipv4Addr::UNSPECIFIED, at.port()).into())
        }
        listener => listener,
    }
}

fn listen_at(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, None)?;
    if at.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // A server that was there a moment ago leaves connections behind.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&at.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Whether the host does not have the address, or not its family.
pub fn is_missing_address(error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    error.raw_os_error() == Some(EAFNOSUPPORT) || error.kind() == io::ErrorKind::AddrNotAvailable
}

fn code(is_well: bool) -> StatusCode {
    if is_well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

fn no_sniff() -> HeaderMap {
    HeaderMap::from_iter([(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))])
}

/// The servers of health-check node ports.
pub(super) struct HealthChecks {
    status: Arc<Status>,
    ports: BTreeMap<u16, Port>,
}

/// One of them. It answers for as long as it is kept.
struct Port {
    check: Arc<Mutex<HealthCheck>>,
    server: JoinHandle<()>,
}

impl Drop for Port {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl HealthChecks {
    pub(super) fn new(status: Arc<Status>) -> Self {
        Self { status, ports: BTreeMap::new() }
    }

    /// Answers these, and no others; tells of the ports that cannot be had.
    pub(super) fn answer(&mut self, checks: &BTreeMap<u16, HealthCheck>) -> Vec<NotDone<u16>> {
        self.ports.retain(|port, _| checks.contains_key(port));
        let mut failures = Vec::new();
        for (number, check) in checks {
            if let Some(port) = self.ports.get(number) {
                *port.check.lock().unwrap_or_else(PoisonError::into_inner) = check.clone();
                continue;
            }
            match Port::open(*number, check, &self.status) {
                Ok(port) => drop(self.ports.insert(*number, port)),
                Err(error) => failures.push((*number, error)),
            }
        }
        failures
    }
}

impl Port {
    fn open(number: u16, check: &HealthCheck, status: &Arc<Status>) -> Result<Self> {
        // At every address of the node.
        let listener = listen((Ipv6Addr::UNSPECIFIED, number).into())?;
        let check = Arc::new(Mutex::new(check.clone()));
        let shared = (Arc::clone(&check), Arc::clone(status));
        // Load balancers ask for any path.
        let router = Router::new().fallback(answer).with_state(shared);
        let server = tokio::spawn(answer_all(listener, router, LONGEST));
        Ok(Self { check, server })
    }
}

/// As kube-proxy answers: 200 while the node is in sync and an endpoint for the asking family is here.
async fn answer(
    State((check, status)): State<(Arc<Mutex<HealthCheck>>, Arc<Status>)>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
) -> Response {
    let check = check.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let count = check.local_endpoints(Family::from(client.ip().to_canonical()));
    let is_in_sync = status.health().synced;
    let body = json!({
        "service": { "namespace": check.namespace, "name": check.name },
        "localEndpoints": count,
        "serviceProxyHealthy": is_in_sync,
    });
    let mut headers = no_sniff();
    headers.insert(WEIGHT, HeaderValue::from(count));
    (code(count > 0 && is_in_sync), headers, Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    /// Once: whoever opened connections and said nothing had the program keep them all, until it had no files left.
    #[tokio::test]
    async fn clients_that_say_nothing_keep_nobody_from_an_answer() -> Result<()> {
        let listener = listen((Ipv4Addr::LOCALHOST, 0).into())?;
        let at = listener.local_addr()?;
        let router = Router::new().fallback(|| async { "well" });
        let server = tokio::spawn(answer_all(listener, router, Duration::from_millis(200)));
        let mut silent = Vec::new();
        for _ in 0..MOST_CONNECTIONS + 8 {
            silent.push(TcpStream::connect(at).await?);
        }
        let mut client = TcpStream::connect(at).await?;
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await?;
        let mut answer = String::new();
        // It ends, since a connection is for one request.
        client.read_to_string(&mut answer).await?;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("well"), "{answer}");
        for mut stream in silent {
            assert_eq!(stream.read(&mut [0; 8]).await?, 0, "it is closed");
        }
        server.abort();
        Ok(())
    }

    /// Once: `/healthz` was answered over IPv4 alone.
    #[tokio::test]
    async fn the_unspecified_address_is_of_both_families() -> Result<()> {
        let listener = listen((Ipv6Addr::UNSPECIFIED, 0).into())?;
        let port = listener.local_addr()?.port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await?;
        Ok(())
    }
}
