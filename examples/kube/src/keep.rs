//! The program's loop: a pass whenever something else is desired, a drain or a try is due, or the node is to be looked at.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ipvs_kube::node::{Host, Pass, Proxy, Status, serve_health, serve_metrics};
use ipvs_kube::watch::{self, Watch};
use ipvs_kube::{Desired, Options};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch::Receiver;
use tokio::time::sleep;

use crate::Arguments;

/// Where the cluster's objects come from.
pub(crate) enum Source {
    /// The files, and what they said first.
    Files(Box<Desired>),
    Api(Box<Watch>),
}

/// Keeps the node as desired until the program is to end, and leaves it as it is then, be it within a pass.
pub(crate) async fn keep<H: Host>(
    proxy: &mut Proxy<H>,
    source: Source,
    arguments: &Arguments,
) -> Result<()> {
    let mut end = End::listen()?;
    tokio::select! {
        kept = keep_on(proxy, source, arguments) => kept?,
        () = end.comes() => {}
    }
    eprintln!("ended: the node stays as it is");
    Ok(())
}

/// The signals by which the program is to end.
struct End {
    terminated: Signal,
    interrupted: Signal,
}

impl End {
    fn listen() -> Result<Self> {
        let terminated = heard(SignalKind::terminate())?;
        Ok(Self { terminated, interrupted: heard(SignalKind::interrupt())? })
    }

    async fn comes(&mut self) {
        tokio::select! {
            _ = self.terminated.recv() => {}
            _ = self.interrupted.recv() => {}
        }
    }
}

fn heard(kind: SignalKind) -> Result<Signal> {
    signal(kind).context("signals cannot be listened for")
}

async fn keep_on<H: Host>(
    proxy: &mut Proxy<H>,
    source: Source,
    arguments: &Arguments,
) -> Result<()> {
    let mut again = heard(SignalKind::hangup())?;
    let mut confirmed = heard(SignalKind::user_defined1())?;
    let [healths, metrics] = [&arguments.healthz_bind_address, &arguments.metrics_bind_address];
    let health = listening(healths, "healthz", &proxy.status(), serve_health)?;
    let metrics = listening(metrics, "metrics", &proxy.status(), serve_metrics)?;
    eprintln!("health is told at {health}, metrics at {metrics}");
    let mut log = Log::default();
    let (mut desired, mut api) = match source {
        Source::Files(desired) => (*desired, None),
        Source::Api(watch) => {
            let mut api = ApiServer::new(*watch, proxy.status());
            (api.next(&arguments.options).await, Some(api))
        }
    };
    log.notes(&desired, &[]);
    loop {
        let pass = proxy.pass(&desired).await;
        log.pass(&pass, &desired);
        tokio::select! {
            () = sleep(pass.next.max(SHORTEST_REST)) => {}
            changed = changed(&mut api, &arguments.options) => desired = changed,
            _ = again.recv(), if api.is_none() => match arguments.desired() {
                Ok(read) => desired = read,
                Err(error) => eprintln!("the files are not used: {error:#}"),
            },
            _ = confirmed.recv() => proxy.confirm(),
        }
    }
}

/// Serves at all these addresses that the host has; gives their URLs in words.
fn listening(
    wanted: &[SocketAddr],
    path: &str,
    status: &Arc<Status>,
    serve: impl Fn(SocketAddr, Arc<Status>) -> Result<SocketAddr>,
) -> Result<String> {
    let mut served = Vec::new();
    let mut failed = None;
    for at in wanted {
        match serve(*at, Arc::clone(status)) {
            Ok(at) => served.push(format!("http://{at}/{path}")),
            // Of `127.0.0.1` and `::1` a host may have one alone.
            Err(error) if is_missing(&error) => failed = failed.or(Some(error)),
            Err(error) => return Err(error),
        }
    }
    match failed {
        Some(error) if served.is_empty() => Err(error),
        _ => Ok(served.join(" and ")),
    }
}

/// Whether the host does not have the address, or not its family.
fn is_missing(error: &anyhow::Error) -> bool {
    error.downcast_ref().is_some_and(ipvs_kube::node::is_missing_address)
}

/// What is desired after the next change that the API server tells of; never, where files are read.
async fn changed(api: &mut Option<ApiServer>, options: &Options) -> Desired {
    match api {
        Some(api) => api.next(options).await,
        None => std::future::pending().await,
    }
}

/// The watched objects, with what is said of the API server: a line when it goes, and a line when it is back.
struct ApiServer {
    watch: Watch,
    /// How the watch is.
    reached: Receiver<watch::Status>,
    status: Arc<Status>,
    /// What was said of it last.
    errors: Vec<String>,
}

impl ApiServer {
    fn new(watch: Watch, status: Arc<Status>) -> Self {
        Self { reached: watch.status(), watch, status, errors: Vec::new() }
    }

    async fn next(&mut self, options: &Options) -> Desired {
        loop {
            let reached = self.reached.borrow_and_update().clone();
            self.tell(&reached);
            tokio::select! {
                objects = self.watch.next() => return Desired::new(&objects, options),
                // The watch has the sender, and it stays for as long.
                _ = self.reached.changed() => {}
            }
        }
    }

    fn tell(&mut self, reached: &watch::Status) {
        let errors = reached.failing();
        let is_back = errors.is_empty() && reached.is_connected();
        if !errors.is_empty() && self.errors.is_empty() {
            let all: Vec<_> = errors.iter().map(String::as_str).collect();
            eprintln!(
                "the API server does not answer as it should, and the node stays as it is: {}",
                all.join("; ")
            );
        } else if is_back && !self.errors.is_empty() {
            eprintln!("the API server answers again");
        }
        if is_back || !errors.is_empty() {
            self.errors.clone_from(&errors);
            self.status.set_api_server(errors);
        }
    }
}

/// Whatever is due at once has waited for a pass already.
const SHORTEST_REST: Duration = Duration::from_millis(10);

/// What was said, so that only what is new is said.
#[derive(Default)]
struct Log {
    failures: BTreeSet<String>,
    advice: BTreeSet<String>,
    notes: BTreeSet<String>,
}

impl Log {
    /// What was done; and what failed, what is advised and what is left alone, where it was not so before.
    fn pass(&mut self, pass: &Pass, desired: &Desired) {
        if !pass.is_quiet() {
            pass.changes().iter().for_each(|change| eprintln!("{change}"));
        }
        let had_failures = !self.failures.is_empty();
        say_new("failed", &mut self.failures, pass.failures.iter().map(ToString::to_string));
        if had_failures && self.failures.is_empty() {
            eprintln!("all is as desired again");
        }
        say_new("advice", &mut self.advice, pass.advice.iter().cloned());
        self.notes(desired, &pass.notes);
    }

    fn notes(&mut self, desired: &Desired, more: &[String]) {
        let notes = desired.notes.iter().map(ToString::to_string);
        say_new("note", &mut self.notes, notes.chain(more.iter().cloned()));
    }
}

/// Says on stderr what was not said before of the same kind.
fn say_new(kind: &str, said: &mut BTreeSet<String>, now: impl Iterator<Item = String>) {
    let now: BTreeSet<_> = now.collect();
    for new in now.difference(said) {
        eprintln!("{kind}: {new}");
    }
    *said = now;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::future::{pending, ready};
    use std::process::Command;

    use clap::Parser as _;
    use ipvs_kube::node::{Addresses, Leftovers, NotDone};
    use ipvs_kube::{Cluster, HealthCheck};
    use ipvs_netlink::{Client, Ruleset};

    use super::*;

    /// A node whose kernel does not answer. It is told to end meanwhile.
    struct Silent;

    impl Host for Silent {
        async fn connect(&mut self) -> Result<Client> {
            let id = std::process::id().to_string();
            Command::new("kill").args(["-TERM", &id]).status()?;
            pending().await
        }

        async fn diagnose(&mut self, _: &Ruleset) -> Vec<String> {
            pending().await
        }

        fn set_sysctls(&mut self) -> Result<Vec<String>> {
            Ok(Vec::new())
        }

        async fn addresses(&mut self) -> Result<Addresses> {
            pending().await
        }

        async fn bind(&mut self, _: std::net::IpAddr) -> Result<()> {
            pending().await
        }

        async fn unbind(&mut self, _: std::net::IpAddr) -> Result<()> {
            pending().await
        }

        async fn has_filter(&mut self) -> Result<bool> {
            pending().await
        }

        async fn load_filter(&mut self, _: &str) -> Result<()> {
            pending().await
        }

        async fn remove_filter(&mut self) -> Result<bool> {
            pending().await
        }

        fn answer(
            &mut self,
            _: &BTreeMap<u16, HealthCheck>,
        ) -> impl Future<Output = Vec<NotDone<u16>>> {
            ready(Vec::new())
        }

        async fn forget(
            &mut self,
            _: &BTreeSet<(SocketAddr, Option<SocketAddr>)>,
        ) -> Result<usize> {
            pending().await
        }

        async fn find_leftovers(&mut self) -> Vec<String> {
            pending().await
        }

        async fn remove_leftovers(&mut self) -> Leftovers {
            pending().await
        }
    }

    #[tokio::test]
    async fn an_address_that_the_host_does_not_have_is_left_out_unless_it_is_the_only_one() {
        let [local, missing] = ["127.0.0.1:0", "203.0.113.77:0"]
            .map(|text| text.parse::<SocketAddr>().expect("an address"));
        let served = |at: &[SocketAddr]| listening(at, "healthz", &Arc::default(), serve_health);
        let both = served(&[missing, local]).expect("one is there");
        assert!(both.starts_with("http://127.0.0.1:") && !both.contains(" and "), "{both}");
        let error = served(&[missing]).expect_err("it is not there").to_string();
        assert!(error.contains("choose another address"), "{error}");
    }

    /// Once: a pass that hung kept the program from hearing that it is to end.
    #[tokio::test]
    async fn it_ends_within_a_pass() -> Result<()> {
        let mut cluster = Cluster::default();
        cluster.read(include_str!("../cluster.json"))?;
        let (options, status) = (Options::default(), Arc::<Status>::default());
        let desired = Desired::new(&cluster.objects("node-a")?, &options);
        let arguments = Arguments::parse_from([
            "ipvs-kube",
            "cluster.json",
            "--node=node-a",
            "--healthz-bind-address=127.0.0.1:0",
            "--metrics-bind-address=127.0.0.1:0",
        ]);
        let mut proxy = Proxy::new(Silent, &options, status);
        keep(&mut proxy, Source::Files(Box::new(desired)), &arguments).await
    }
}
