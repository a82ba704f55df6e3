//! The rules file, read by its path while nobody writes to it.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ipvs_netlink::Ruleset;

use crate::support::output::complain;
use crate::support::parse_rules;

/// How often to look at the file.
///
/// Each look goes by the path, and so follows a link that has replaced another. Events of the file
/// system, however, belong to the file that the path led to when they were asked for, and to its
/// neighbours.
pub(crate) const INTERVAL: Duration = Duration::from_millis(100);

/// How much longer than the quiet time the file may be written to before the user is told.
const PATIENCE: Duration = Duration::from_secs(2);

/// A rules file by its path.
pub(crate) struct RulesFile {
    path: PathBuf,
    /// A file that has not changed for this long is taken to be complete.
    quiet: Duration,
    /// The file that was at the path at the last look.
    seen: Option<Identity>,
    /// The time since which it has been there.
    since: Instant,
    /// The file that was read last.
    read: Option<Identity>,
    /// The time since which the file has been written to without a pause.
    written: Option<Instant>,
    /// Whether the user was told of it.
    is_told: bool,
}

/// The identity of a file and its text: it differs if another file, or another text, is at the
/// path. The time of the last change of status is part of it, since a writer cannot set that time.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Identity {
    file: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        Self {
            file: (metadata.dev(), metadata.ino()),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl RulesFile {
    pub(crate) fn new(path: &Path, quiet: Duration) -> Self {
        let path = path.to_owned();
        let since = Instant::now();
        Self { path, quiet, seen: None, since, read: None, written: None, is_told: false }
    }

    /// Reads the rules for the first time, once the file is quiet. A pipe is read to its end.
    pub(crate) fn wait(&mut self) -> anyhow::Result<Ruleset> {
        let is_file = std::fs::metadata(&self.path).is_ok_and(|metadata| metadata.is_file());
        if !is_file {
            let text = std::fs::read_to_string(&self.path).with_context(|| self.cannot_read())?;
            return parse_rules(&self.path, &text);
        }
        loop {
            if let Some(rules) = self.poll() {
                return rules;
            }
            std::thread::sleep(INTERVAL);
        }
    }

    /// The rules, if the file differs from the one read last and is quiet. A file that cannot be
    /// read is an error each time, a file with broken rules only once.
    pub(crate) fn poll(&mut self) -> Option<anyhow::Result<Ruleset>> {
        let found = std::fs::metadata(&self.path).and_then(|metadata| {
            // Opening a pipe would wait for its writer.
            let regular = metadata.is_file().then(|| Identity::of(&metadata));
            regular.ok_or_else(|| io::Error::other("it is no regular file"))
        });
        let seen = found.as_ref().ok().copied();
        if seen != self.seen {
            (self.seen, self.since) = (seen, Instant::now());
        }
        if self.is_as_read() || self.since.elapsed() < self.quiet {
            self.tell_of_a_writer();
            return None;
        }
        (self.written, self.is_told) = (None, false);
        match found.and_then(|identity| read(&self.path, identity)) {
            Ok(Some(text)) => {
                self.read = seen;
                Some(parse_rules(&self.path, &text))
            }
            // A writer has begun to write.
            Ok(None) => None,
            Err(error) => Some(Err(error).with_context(|| self.cannot_read())),
        }
    }

    /// Tells the user, once, that the file is never quiet for long enough.
    fn tell_of_a_writer(&mut self) {
        if self.is_as_read() {
            (self.written, self.is_told) = (None, false);
            return;
        }
        let time = self.written.get_or_insert_with(Instant::now).elapsed();
        if !self.is_told && time > self.quiet.saturating_add(PATIENCE) {
            let quiet = humantime::format_duration(self.quiet);
            complain!(
                "note: {} is written all the time; it is read once nothing has been written to it \
                 for {quiet}",
                self.path.display()
            );
            self.is_told = true;
        }
    }

    /// Whether the file at the path is the one that was read last.
    pub(crate) fn is_as_read(&self) -> bool {
        self.seen.is_some() && self.seen == self.read
    }

    fn cannot_read(&self) -> String {
        format!("cannot read {}", self.path.display())
    }
}

/// The text of the file with this identity; `None` if another file is there by now.
fn read(path: &Path, identity: Identity) -> io::Result<Option<String>> {
    let mut file = File::open(path)?;
    let mut text = Vec::new();
    let is_the_same = |file: &File| Ok::<_, io::Error>(Identity::of(&file.metadata()?) == identity);
    if !is_the_same(&file)? {
        return Ok(None);
    }
    file.read_to_end(&mut text)?;
    if !is_the_same(&file)? || text.len() as u64 != identity.size {
        return Ok(None);
    }
    String::from_utf8(text).map(Some).map_err(|error| io::Error::other(error.utf8_error()))
}
