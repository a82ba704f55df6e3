//! How the API server is found and how its events are gathered: options of a command line.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser};
use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};

/// How the API server is found and how its events are gathered.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "API server")]
pub struct WatchOptions {
    /// The API server's URL, without credentials, as kubectl proxy serves it (unless given, KUBECONFIG or
    /// ~/.kube/config; without these, the service account of the pod)
    #[arg(long, value_name = "URL", conflicts_with_all = ["kubeconfig", "context"])]
    pub api: Option<String>,
    /// The kubeconfig file
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// Gather events until none has come for this long, up to 1m
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = parse_gather)]
    pub gather: Duration,
    /// Gather events for at most this long, up to 1m
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_gather)]
    pub gather_at_most: Duration,
    /// Give up a connection on which nothing came for this long; an API server sends a bookmark each minute
    /// (from 1s to 1h)
    #[arg(long, value_name = "TIME", default_value = "100s", value_parser = parse_wait)]
    pub api_timeout: Duration,
    /// The longest pause between two attempts to reach the API server, from 1s to 1h
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_wait)]
    pub api_pause: Duration,
}

impl Default for WatchOptions {
    /// What a command line without options says.
    fn default() -> Self {
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            options: WatchOptions,
        }
        Line::parse_from(["ipvs-kube"]).options
    }
}

impl WatchOptions {
    /// Where the API server is, and who asks it.
    pub(crate) async fn config(&self) -> anyhow::Result<Config> {
        let mut config = if let Some(url) = &self.api {
            let url = url.parse().with_context(|| format!("--api {url} is no URL"))?;
            Config::new(url)
        } else if self.kubeconfig.is_some() || self.context.is_some() {
            self.read_kubeconfig().await?
        } else {
            Config::infer().await.context(
                "no API server is known: give --api or --kubeconfig, or run in a pod with a service account",
            )?
        };
        if config.cluster_url.scheme_str() == Some("http") && config.root_cert.is_none() {
            // Nobody shows a certificate, and a host without any authorities is no hindrance.
            config.root_cert = Some(Vec::new());
        }
        config.connect_timeout = Some(self.api_timeout.min(Duration::from_secs(10)));
        config.read_timeout = Some(self.api_timeout);
        config.reset_reader_on_write = true;
        // Attempts have pauses of their own, and each that fails is to show.
        config.default_retry = false;
        Ok(config)
    }

    async fn read_kubeconfig(&self) -> anyhow::Result<Config> {
        let options =
            KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let config = match &self.kubeconfig {
            Some(file) => {
                let read = Kubeconfig::read_from(file);
                let read = read.with_context(|| file.display().to_string())?;
                Config::from_custom_kubeconfig(read, &options).await
            }
            None => Config::from_kubeconfig(&options).await,
        };
        config.context("the kubeconfig names no API server that can be used")
    }
}

fn parse_gather(text: &str) -> Result<Duration, String> {
    parse_time(text, Duration::ZERO, Duration::from_secs(60))
}

/// Less would be an attack on the API server.
fn parse_wait(text: &str) -> Result<Duration, String> {
    parse_time(text, Duration::from_secs(1), Duration::from_secs(60 * 60))
}

fn parse_time(text: &str, least: Duration, most: Duration) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).ok().filter(|time| (least..=most).contains(time));
    let [least, most] = [least, most].map(humantime::format_duration);
    time.ok_or_else(|| {
        format!("expected a time with its unit, such as 30s, from {least} to {most}")
    })
}
