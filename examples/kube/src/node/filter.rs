//! The packet filter, by the program nft.

use anyhow::{Context as _, Result};

use super::programs::Programs;
use crate::nft::TABLE;

/// Loads a script in one transaction: it is loaded as a whole or not at all.
pub(crate) async fn load(script: &str) -> Result<()> {
    let loaded = Programs::default().run("nft", &["-f", "-"], script).await;
    loaded.context("the packet filter stays as it was").map(drop)
}

/// Whether the proxy's table is there.
pub(crate) async fn is_loaded() -> Result<bool> {
    let tables = Programs::default().run("nft", &["list", "tables", "inet"], "").await?;
    Ok(tables.lines().any(|line| line.trim() == format!("table inet {TABLE}")))
}

/// Takes the proxy's table away; tells whether it was there. A host without nft has none.
pub(crate) async fn remove() -> Result<bool> {
    if !Programs::default().has("nft") || !is_loaded().await? {
        return Ok(false);
    }
    // A table must be there to be deleted.
    load(&format!("table inet {TABLE}\ndelete table inet {TABLE}\n")).await.map(|()| true)
}
