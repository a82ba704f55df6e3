//! `cargo xtask vm kernels`: what is here of Debian's kernels, and what its suites have now.

use std::io::Write;

use anyhow::Result;

use super::debian::{Debian, Here};
use super::roles::{ROLES, Role, Served};

/// Prints a line for each role; with `fetch`, what is newer is fetched first.
pub(super) fn print(debian: &Debian, fetch: bool, to: &mut impl Write) -> Result<()> {
    let mut rows = vec![HEADER.map(String::from)];
    let mut errors = Vec::new();
    for role in &ROLES {
        let served = debian.served(role);
        let fetched = if fetch && served.is_ok() { debian.kernel(role).map(drop) } else { Ok(()) };
        errors.extend(fetched.err());
        rows.push(row(debian, role, served.as_ref().ok()));
        errors.extend(served.err());
    }
    table(&rows, to)?;
    errors.iter().try_for_each(|error| writeln!(to, "{error:#}"))?;
    Ok(())
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
