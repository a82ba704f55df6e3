//! `cargo xtask vm kernels`: the kernels of Debian on this machine, and those that Debian's suites have now.

use std::io::Write;

use anyhow::{Error, Result};

use super::debian::{Debian, Here, NotServed};
use super::failure::Failure;
use super::roles::{ROLES, Role, Served};

/// Prints a line for each role; with `fetch`, newer kernels are fetched first. Returns whether each kernel could be had, or is no
/// longer served.
pub(super) fn print(debian: &Debian, fetch: bool, to: &mut impl Write) -> Result<bool> {
    let mut rows = vec![HEADER.map(String::from)];
    let mut errors = Vec::new();
    for role in &ROLES {
        let served = debian.served(role);
        let fetched = if fetch && served.is_ok() { debian.kernel(role).map(drop) } else { Ok(()) };
        errors.extend(fetched.err().map(|error| (role.name, error)));
        rows.push(row(debian, role, served.as_ref().ok()));
        errors.extend(served.err().map(|error| (role.name, error)));
    }
    table(&rows, to)?;
    let (ended, failed): (Vec<_>, Vec<_>) =
        errors.into_iter().partition(|(_, error)| error.is::<NotServed>());
    ended.iter().try_for_each(|(_, error)| writeln!(to, "{error}"))?;
    by_cause(&failed).iter().try_for_each(|line| writeln!(to, "{line}"))?;
    Ok(failed.is_empty())
}

/// A line for each cause, with all the roles that it concerns.
fn by_cause(errors: &[(&str, Error)]) -> Vec<String> {
    let mut causes: Vec<(String, Vec<&str>)> = Vec::new();
    for (role, error) in errors {
        let cause = error.downcast_ref().map_or_else(|| format!("{error:#}"), Failure::to_string);
        match causes.iter_mut().find(|(known, _)| *known == cause) {
            Some((_, roles)) => roles.push(role),
            None => causes.push((cause, vec![role])),
        }
    }
    let lines = causes.iter().map(|(cause, roles)| format!("{}: {cause}", roles.join(", ")));
    lines.collect()
}

const HEADER: [&str; 6] = ["kernel", "here", "fetched", "served now", "suite", "its day"];

fn row(debian: &Debian, role: &Role, served: Option<&Served>) -> [String; HEADER.len()] {
    let here = debian.here(role);
    let is_same =
        here.as_ref().zip(served).is_some_and(|(here, served)| here.version() == served.version);
    let now = if is_same { Some("the same".into()) } else { served.map(ToString::to_string) };
    let cells = [
        Some(role.name.into()),
        here.as_ref().map(ToString::to_string),
        here.as_ref().map(Here::day),
        now,
        served.map(|served| served.suite.into()),
        served.and_then(|served| debian.day(served.suite)),
    ];
    cells.map(|cell| cell.unwrap_or_else(|| "-".into()))
}

fn table<const N: usize>(rows: &[[String; N]], to: &mut impl Write) -> Result<()> {
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        writeln!(to, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once_with_all_that_it_hit() {
        let failure = |suite: &str, said: &str| Failure::of(suite, "http://m", said);
        let offline = |suite| Error::from(failure(suite, "E: Could not resolve 'm'"));
        let errors = [
            ("5.10", offline("bullseye")),
            ("6.1", failure("bookworm", "E: NO_PUBKEY 6ED0").into()),
            ("6.12", offline("trixie").context("linux-image could not be fetched")),
            ("newest", anyhow::anyhow!("dpkg is not here")),
        ];
        let lines = by_cause(&errors);
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines[0].starts_with("5.10, 6.12: http://m cannot be reached"), "{}", lines[0]);
        assert!(lines[1].starts_with("6.1: http://m signs with keys"), "{}", lines[1]);
        assert_eq!(lines[2], "newest: dpkg is not here");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest() -> Result<()> {
        let mut printed = Vec::new();
        table(
            &[["a", "b", "c"], ["long", "-", "longer"]].map(|row| row.map(String::from)),
            &mut printed,
        )?;
        assert_eq!(String::from_utf8(printed)?, "a     b  c\nlong  -  longer\n");
        Ok(())
    }
}
