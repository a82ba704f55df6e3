//! The program's loop: a pass whenever something else is desired, a drain or a try is due, or the node is to be looked at.

use std::time::Duration;

use anyhow::{Context as _, Result};
use ipvs_kube::node::{Host, Pass, Proxy, serve_health, serve_metrics};
use ipvs_kube::watch::Watch;
use ipvs_kube::{Desired, Options};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use crate::Arguments;

/// Where the cluster's objects come from.
pub(crate) enum Source {
    /// The files, and what they said first.
    Files(Box<Desired>),
    Api(Box<Watch>),
}

/// Keeps the node as desired until the program is to end, and leaves it as it is then.
pub(crate) async fn keep<H: Host>(
    proxy: &mut Proxy<H>,
    source: Source,
    arguments: &Arguments,
) -> Result<()> {
    let heard = |kind| signal(kind).context("signals cannot be listened for");
    let mut again = heard(SignalKind::hangup())?;
    let mut confirmed = heard(SignalKind::user_defined1())?;
    let mut terminated = heard(SignalKind::terminate())?;
    let mut interrupted = heard(SignalKind::interrupt())?;
    let health = serve_health(arguments.healthz_bind_address, proxy.status()).await?;
    let metrics = serve_metrics(arguments.metrics_bind_address, proxy.status()).await?;
    eprintln!("health is told at http://{health}/healthz, metrics at http://{metrics}/metrics");
    let mut log = Log::default();
    let (mut desired, mut watch) = match source {
        Source::Files(desired) => (*desired, None),
        Source::Api(mut watch) => tokio::select! {
            objects = watch.next() => (Desired::new(&objects, &arguments.options), Some(watch)),
            _ = terminated.recv() => return Ok(()),
            _ = interrupted.recv() => return Ok(()),
        },
    };
    log.notes(&desired);
    loop {
        let pass = proxy.pass(&desired).await;
        log.pass(&pass);
        tokio::select! {
            () = sleep(pass.next.max(SHORTEST_REST)) => {}
            changed = changed(&mut watch, &arguments.options) => {
                desired = changed;
                log.notes(&desired);
            }
            _ = again.recv(), if watch.is_none() => match arguments.desired() {
                Ok(read) => {
                    desired = read;
                    log.notes(&desired);
                }
                Err(error) => eprintln!("the files are not used: {error:#}"),
            },
            _ = confirmed.recv() => proxy.confirm(),
            _ = terminated.recv() => break,
            _ = interrupted.recv() => break,
        }
    }
    eprintln!("ended: the node stays as it is");
    Ok(())
}

/// What is desired after the next change that the API server tells of; never, where files are read.
async fn changed(watch: &mut Option<Box<Watch>>, options: &Options) -> Desired {
    match watch {
        Some(watch) => Desired::new(&watch.next().await, options),
        None => std::future::pending().await,
    }
}

/// Whatever is due at once has waited for a pass already.
const SHORTEST_REST: Duration = Duration::from_millis(10);

/// Says on stderr what is new.
#[derive(Default)]
struct Log {
    failures: Vec<String>,
    notes: Vec<String>,
}

impl Log {
    fn pass(&mut self, pass: &Pass) {
        let failures: Vec<_> = pass.failures.iter().map(ToString::to_string).collect();
        if failures != self.failures || !pass.is_quiet() {
            eprintln!("{pass}");
        }
        if failures.is_empty() && !self.failures.is_empty() {
            eprintln!("all is as desired again");
        }
        self.failures = failures;
    }

    fn notes(&mut self, desired: &Desired) {
        let notes: Vec<_> = desired.notes.iter().map(ToString::to_string).collect();
        for note in notes.iter().filter(|note| !self.notes.contains(note)) {
            eprintln!("note: {note}");
        }
        self.notes = notes;
    }
}
