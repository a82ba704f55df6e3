//! The manual page and the completions of shells, from the table of options.

use std::io::{self, Write};

use clap::{Arg, ArgAction, ValueHint};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::options::{OPTIONS, Spec, Value};
use crate::usage;

/// Prints `man`, or the completions of a shell by its name; `false` where it is neither.
pub(crate) fn generate(what: &str, out: &mut impl Write) -> io::Result<bool> {
    if what == "man" {
        man(out)?;
        return Ok(true);
    }
    let Ok(shell) = what.parse::<Shell>() else { return Ok(false) };
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command(), "ipvsadm", &mut text);
    out.write_all(&text)?;
    Ok(true)
}

fn man(out: &mut impl Write) -> io::Result<()> {
    let man = Man::new(command()).section("8");
    man.render_title(out)?;
    man.render_name_section(out)?;
    writeln!(out, ".SH SYNOPSIS")?;
    let forms = usage::forms("ipvsadm");
    for form in forms.iter().map(String::as_str).chain(["ipvsadm-save [-n]", "ipvsadm-restore"]) {
        // The list of all options at once tells nobody what goes with what.
        writeln!(out, "{}\n.br", form.replace('-', "\\-"))?;
    }
    man.render_description_section(out)?;
    man.render_options_section(out)?;
    writeln!(out, ".SH \"EXIT STATUS\"")?;
    for (status, meaning) in [
        (0, "All went well."),
        (1, "A listing cannot be had."),
        (2, "The options are used wrongly."),
        (255, "An option is unknown, or the kernel refuses what is asked."),
    ] {
        writeln!(out, ".TP\n{status}\n{meaning}")?;
    }
    man.render_version_section(out)
}

fn command() -> clap::Command {
    let command = clap::Command::new("ipvsadm")
        .version("1.31")
        .about("Control the load balancer in the Linux kernel, IPVS")
        .long_about(
            "The first option is the command; those behind it may come in any order. An address is \
             a host's name or number with its port behind a colon; an IPv6 address stands in \
             brackets before a port. As ipvsadm-save it prints the table, as ipvsadm-restore it \
             replaces it by what it reads.",
        )
        .disable_help_flag(true)
        .disable_version_flag(true);
    command.args(OPTIONS.iter().map(arg))
}

fn arg(spec: &Spec) -> Arg {
    let arg = match spec.short {
        // It shares its long name with -L.
        Some('l') => Arg::new("l").short('l'),
        Some(short) => Arg::new(spec.long).long(spec.long).short(short),
        None => Arg::new(spec.long).long(spec.long),
    };
    let arg = arg.help(spec.help);
    // No value is a file.
    match spec.value {
        Value::None => arg.action(ArgAction::SetTrue),
        Value::Needed(name) => arg.value_name(name).value_hint(ValueHint::Other),
        Value::OneOf(name, values) => arg
            .help(format!("{} ({})", spec.help, values.join(", ")))
            .hide_possible_values(true)
            .value_name(name)
            .value_parser(values.to_vec()),
        Value::Optional(name) => arg.value_name(name).num_args(0..=1).value_hint(ValueHint::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_is_in_the_manual_and_in_the_completions() {
        for what in ["man", "bash", "zsh", "fish"] {
            let mut text = Vec::new();
            assert!(generate(what, &mut text).unwrap());
            // A manual page escapes hyphens.
            let text = String::from_utf8(text).unwrap().replace('\\', "");
            for spec in OPTIONS {
                assert!(text.contains(spec.long), "{what} lacks {}", spec.long);
                let Value::OneOf(_, values) = spec.value else { continue };
                for value in values {
                    assert!(text.contains(value), "{what} lacks {value} of {}", spec.long);
                }
            }
        }
    }

    /// zsh runs what stands behind a colon; bash and fish name files where nothing better is known.
    #[test]
    fn values_are_completed_by_values_alone() {
        let text = |what| {
            let mut text = Vec::new();
            assert!(generate(what, &mut text).unwrap());
            String::from_utf8(text).unwrap()
        };
        assert!(!text("bash").contains("compgen -f"));
        assert!(!text("zsh").contains("_default"));
        for spec in OPTIONS {
            let (Value::Needed(name) | Value::OneOf(name, _) | Value::Optional(name)) = spec.value
            else {
                continue;
            };
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase()), "{name}");
        }
    }

    #[test]
    fn nothing_else_is_made() {
        assert!(!generate("nonsense", &mut Vec::new()).unwrap());
    }
}
