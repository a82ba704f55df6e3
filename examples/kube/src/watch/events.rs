//! The events of one kind of objects, from an API server that comes and goes.

use std::error::Error;
use std::fmt::Debug;
use std::future;
use std::time::Duration;

use anyhow::{Context as _, Result};
use backon::ExponentialBuilder;
use futures_util::stream::{self, BoxStream, Stream, StreamExt as _};
use kube::client::ClientBuilder;
use kube::core::{DeserializeGuard, Status};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, ExponentialBackoff, watcher};
use kube::{Api, Client, Config, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch::Sender;
use tower::util::MapResultLayer;

use super::status::{self, KindStatus};

/// The first pause after an attempt that failed, and the longest is an option.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// The status of a version that the API server has no more.
const GONE: u16 = 410;

/// Finds a kind of objects in the status.
pub(crate) type Of = fn(&mut status::Status) -> &mut KindStatus;

/// The client of one kind: each answer that is no error says in the status that the API server is in reach. The watcher
/// tells of errors alone, and a kind of which nothing changes has no events.
pub(crate) fn client(config: Config, status: Sender<status::Status>, of: Of) -> Result<Client> {
    let builder = ClientBuilder::try_from(config).context("the API server cannot be asked")?;
    let noted = MapResultLayer::new(move |answer: Result<http::Response<_>, _>| {
        if answer.as_ref().is_ok_and(|answer| answer.status().is_success()) {
            status
                .send_if_modified(|status| !std::mem::replace(&mut of(status).is_connected, true));
        }
        answer
    });
    Ok(builder.with_layer(&noted).build())
}

/// The events of one kind, without end. After an error the next attempt has a pause.
pub(crate) fn events<K>(
    client: Client,
    selector: Option<&str>,
    longest_pause: Duration,
) -> impl Stream<Item = watcher::Result<Event<DeserializeGuard<K>>>> + Send + 'static
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let config = watcher::Config {
        label_selector: selector.map(str::to_owned),
        ..watcher::Config::default()
    };
    let api: Api<DeserializeGuard<K>> = Api::all(client);
    let events = stream::unfold(None, move |going| {
        let going = going.unwrap_or_else(|| watcher(api.clone(), config.clone()).boxed());
        async move {
            let mut going: BoxStream<'static, _> = going;
            let event = going.next().await?;
            // Another watcher begins with a list.
            let goes_on = !event.as_ref().is_err_and(needs_a_list);
            Some((event, goes_on.then_some(going)))
        }
    });
    with_pauses(events, longest_pause)
}

/// After each error in a row the pause is longer.
fn with_pauses<T>(
    events: impl Stream<Item = watcher::Result<Event<T>>> + Send + 'static,
    longest: Duration,
) -> impl Stream<Item = watcher::Result<Event<T>>> + Send + 'static
where
    T: Send + 'static,
{
    let pauses = ExponentialBuilder::new()
        .with_min_delay(FIRST_PAUSE.min(longest))
        .with_max_delay(longest)
        .without_max_times()
        .with_jitter();
    // `Init` comes before each attempt to list, and would be taken for success.
    let events = events.filter(|event| future::ready(!matches!(event, Ok(Event::Init))));
    events.backoff(ExponentialBackoff::from(pauses))
}

/// Whether an error leaves a gap in what is known that only a list closes. The watcher itself lists after some of these,
/// asks again for a version that is gone if the status of the answer says that, and reads on after a line that it cannot read.
fn needs_a_list(error: &watcher::Error) -> bool {
    use kube::Error::{Api, LinesCodecMaxLineLengthExceeded, SerdeError};
    match error {
        watcher::Error::WatchError(_) | watcher::Error::NoResourceVersion => true,
        watcher::Error::WatchStartFailed(Api(status)) => status.code == GONE,
        watcher::Error::WatchFailed(cause) => {
            matches!(cause, Api(_) | SerdeError(_) | LinesCodecMaxLineLengthExceeded)
        }
        watcher::Error::WatchStartFailed(_) | watcher::Error::InitialListFailed(_) => false,
    }
}

/// Whether an error says nothing but that the objects have to be listed anew, as it happens from time to time.
pub(crate) fn is_answer(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::WatchError(status)
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status.code == GONE,
        _ => false,
    }
}

/// What was asked, and what came instead.
pub(crate) fn text(error: &watcher::Error) -> String {
    use watcher::Error::{
        InitialListFailed, NoResourceVersion, WatchError, WatchFailed, WatchStartFailed,
    };
    match error {
        InitialListFailed(cause) => format!("they cannot be listed: {}", cause_text(cause)),
        WatchStartFailed(cause) => format!("they cannot be watched: {}", cause_text(cause)),
        WatchError(status) => format!("the watch ended: {}", status_text(status)),
        WatchFailed(cause) => format!("the watch broke: {}", cause_text(cause)),
        NoResourceVersion => "the API server sent an object without a version".to_owned(),
    }
}

fn cause_text(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return status_text(status);
    }
    // Many of them repeat their cause.
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let of_cause = cause.to_string();
        if !text.contains(&of_cause) {
            text.push_str(": ");
            text.push_str(&of_cause);
        }
        next = cause.source();
    }
    text
}

fn status_text(status: &Status) -> String {
    let (code, message) = (status.code, status.message.escape_debug());
    let advice = match code {
        401 => " (it does not know the credentials)",
        403 => " (give the account the verbs list and watch)",
        _ => "",
    };
    format!("the API server says {code} {}: {message}{advice}", status.reason.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_pauses_grow_while_every_list_fails() {
        let attempt = || [Ok(Event::<()>::Init), Err(watcher::Error::NoResourceVersion)];
        let attempts = stream::iter((0..6).flat_map(move |_| attempt()));
        let begin = tokio::time::Instant::now();
        let failed = with_pauses(attempts, Duration::from_secs(30)).count().await;
        // 200 ms, 400 ms, … 6.4 s, each up to twice as long; no time passes but that of the pauses.
        assert_eq!((failed, begin.elapsed() >= Duration::from_millis(12_600)), (6, true));
    }
}
