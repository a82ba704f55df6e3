//! Any text for a rules file: it is read or refused, and what was read can be written.
#![no_main]

use ipvs_netlink::Ruleset;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(rules) = text.parse::<Ruleset>() {
        let again: Ruleset = rules.to_string().parse().expect("what was printed is read");
        assert_eq!(again, rules);
    }
});
