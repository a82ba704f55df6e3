//! What the node answers over HTTP: its own health, that of Services to load balancers, and metrics.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Error, Result};
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use ipvs_netlink::Family;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::host::NotDone;
use super::metrics;
use super::status::Status;
use crate::health::HealthCheck;

/// By this header load balancers weigh nodes.
const WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");

/// Serves `/healthz`, which is 503, too, while the Node is about to go, and `/livez`, which is not. Gives the address, whose
/// port may have been left to the kernel.
pub async fn serve_health(at: SocketAddr, status: Arc<Status>) -> Result<SocketAddr> {
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
    serve(at, "health", router).await
}

/// Serves `/metrics`. Gives the address.
pub async fn serve_metrics(at: SocketAddr, status: Arc<Status>) -> Result<SocketAddr> {
    let answer = |State(status): State<Arc<Status>>| async move {
        match metrics::text(&status).await {
            Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
            Err(error) => {
                (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}\n")).into_response()
            }
        }
    };
    let router = Router::new().route("/metrics", get(answer)).with_state(status);
    serve(at, "metrics", router).await
}

/// Serves until the program ends.
async fn serve(at: SocketAddr, what: &str, router: Router) -> Result<SocketAddr> {
    let listener = TcpListener::bind(at)
        .await
        .with_context(|| format!("{what} cannot be served at {at}: choose another address"))?;
    let at = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(at)
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
    pub(super) async fn answer(
        &mut self,
        checks: &BTreeMap<u16, HealthCheck>,
    ) -> Vec<NotDone<u16>> {
        self.ports.retain(|port, _| checks.contains_key(port));
        let mut failures = Vec::new();
        for (number, check) in checks {
            if let Some(port) = self.ports.get(number) {
                *port.check.lock().unwrap_or_else(PoisonError::into_inner) = check.clone();
                continue;
            }
            match Port::open(*number, check, &self.status).await {
                Ok(port) => drop(self.ports.insert(*number, port)),
                Err(error) => failures.push((*number, error)),
            }
        }
        failures
    }
}

impl Port {
    async fn open(number: u16, check: &HealthCheck, status: &Arc<Status>) -> Result<Self> {
        let listener = listen(number).await?;
        let check = Arc::new(Mutex::new(check.clone()));
        let shared = (Arc::clone(&check), Arc::clone(status));
        // Load balancers ask for any path.
        let service = Router::new()
            .fallback(answer)
            .with_state(shared)
            .into_make_service_with_connect_info::<SocketAddr>();
        let server = tokio::spawn(async move {
            // It ends with the task alone.
            let _ = axum::serve(listener, service).await;
        });
        Ok(Self { check, server })
    }
}

/// At every address of the node, of both families where it has both.
async fn listen(port: u16) -> Result<TcpListener> {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Err(error.into()),
        Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await.map_err(Error::from),
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
