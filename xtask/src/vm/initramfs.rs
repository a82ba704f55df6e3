//! The guest's files: a tree that is built on the host and written in the format that the kernel reads, a newc cpio archive.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use cpio::newc::{Builder, ModeFileType};

/// Files by their path in the guest, without the leading slash.
#[derive(Default)]
pub(super) struct Tree(BTreeMap<String, Node>);

enum Node {
    Folder,
    Link(String),
    Text { contents: Vec<u8>, mode: u32 },
    File { host: PathBuf, mode: u32 },
}

impl Tree {
    /// A file with these contents; a file that begins with `#!` is executable.
    pub(super) fn text(&mut self, path: &str, contents: impl Into<Vec<u8>>) {
        let contents = contents.into();
        let mode = if contents.starts_with(b"#!") { 0o755 } else { 0o644 };
        self.add(path, Node::Text { contents, mode });
    }

    pub(super) fn link(&mut self, path: &str, target: &str) {
        self.add(path, Node::Link(target.to_owned()));
    }

    pub(super) fn folder(&mut self, path: &str) {
        self.add(path, Node::Folder);
    }

    /// A file of the host, with its mode.
    pub(super) fn file(&mut self, path: &str, host: &Path) -> Result<()> {
        let metadata =
            std::fs::metadata(host).with_context(|| format!("{} is not there", host.display()))?;
        let mode = metadata.permissions().mode() & 0o7777;
        self.add(path, Node::File { host: host.to_owned(), mode });
        Ok(())
    }

    fn add(&mut self, path: &str, node: Node) {
        let path = path.trim_start_matches('/');
        for (at, _) in path.match_indices('/') {
            self.0.entry(path[..at].to_owned()).or_insert(Node::Folder);
        }
        self.0.insert(path.to_owned(), node);
    }

    pub(super) fn archive(&self) -> Result<Vec<u8>> {
        let mut archive = Vec::new();
        for (path, node) in &self.0 {
            let (kind, mode, contents) = match node {
                Node::Folder => (ModeFileType::Directory, 0o755, Vec::new()),
                Node::Link(to) => (ModeFileType::Symlink, 0o777, to.clone().into_bytes()),
                Node::Text { contents, mode } => (ModeFileType::Regular, *mode, contents.clone()),
                Node::File { host, mode } => (
                    ModeFileType::Regular,
                    *mode,
                    std::fs::read(host)
                        .with_context(|| format!("{} cannot be read", host.display()))?,
                ),
            };
            archive = append(archive, path, mode, kind, &contents)
                .with_context(|| format!("{path} cannot be put into the guest"))?;
        }
        let mut archive = cpio::newc::trailer(archive)?;
        // Padding, so that a second archive can follow.
        archive.resize(archive.len().next_multiple_of(4), 0);
        Ok(archive)
    }
}

fn append(
    archive: Vec<u8>,
    path: &str,
    mode: u32,
    kind: ModeFileType,
    contents: &[u8],
) -> Result<Vec<u8>> {
    let mut entry = Builder::new(path)
        .mode(mode)
        .set_mode_file_type(kind)
        .write(archive, u32::try_from(contents.len())?);
    std::io::Write::write_all(&mut entry, contents)?;
    Ok(entry.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_holds_each_folder_before_its_files() -> Result<()> {
        let mut tree = Tree::default();
        tree.text("/guest/run", "#!/bin/sh\n");
        tree.text("guest/modules", "ip_vs");
        tree.link("bin/sh", "busybox");

        let archive = tree.archive()?;
        let mut read = Vec::new();
        let mut rest = archive.as_slice();
        loop {
            let reader = cpio::NewcReader::new(rest)?;
            if reader.entry().is_trailer() {
                break;
            }
            read.push((reader.entry().name().to_owned(), reader.entry().mode()));
            rest = reader.finish()?;
        }
        let read: Vec<_> = read.iter().map(|(name, mode)| (name.as_str(), *mode)).collect();
        assert_eq!(
            read,
            [
                ("bin", 0o040_755),
                ("bin/sh", 0o120_777),
                ("guest", 0o040_755),
                ("guest/modules", 0o100_644),
                ("guest/run", 0o100_755),
            ]
        );
        assert_eq!(archive.len() % 4, 0);
        Ok(())
    }
}
