//! Counts of the requests to the real kernel, by command and answer.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use ipvs_netlink::wire::Command;

use crate::request::{Request, To};
use crate::side::{Answer, status};

/// For each kind of request, how often it was answered with which error number; `None` stands for
/// no answer.
#[derive(Default)]
pub(crate) struct Tally {
    heard: BTreeMap<String, BTreeMap<Option<i32>, u64>>,
}

impl Tally {
    /// Counts requests with their answers, which have the same sequence numbers.
    pub(crate) fn count<'a>(
        &mut self,
        asked: &[(u32, String)],
        answers: impl Iterator<Item = &'a Answer>,
    ) {
        let mut outcomes = HashMap::new();
        for message in answers.flat_map(Answer::messages) {
            let Some(sequence) = message.get(8..12).and_then(|it| it.first_chunk()) else {
                continue;
            };
            // The message that ends the answer has the status.
            let outcome = outcomes.entry(u32::from_ne_bytes(*sequence)).or_insert(0);
            *outcome = status(message).unwrap_or(*outcome);
        }
        for (sequence, name) in asked {
            let by_errno = self.heard.entry(name.clone()).or_default();
            *by_errno.entry(outcomes.get(sequence).copied()).or_default() += 1;
        }
    }
}

/// The name under which a request is counted.
pub(crate) fn name(request: &Request) -> String {
    match (request.to, Command::try_from(request.command)) {
        (To::Ipvs, Ok(command)) => format!("{command:?}"),
        (To::Ipvs, Err(_)) => "no command".to_owned(),
        (To::Controller, _) => "controller".to_owned(),
        (To::Type(_), _) => "other types".to_owned(),
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, by_errno) in &self.heard {
            write!(f, "  {name:12} {:8}:", by_errno.values().sum::<u64>())?;
            for (errno, times) in by_errno {
                match errno {
                    None => write!(f, "  unanswered {times}")?,
                    Some(0) => write!(f, "  done {times}")?,
                    Some(errno) => write!(f, "  errno {errno} {times}")?,
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
