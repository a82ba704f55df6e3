//! Any text as a rules file: it is parsed or refused, and parsed rules can be printed and parsed
//! again.
#![no_main]

use ipvs_netlink::Ruleset;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(rules) = text.parse::<Ruleset>() {
        let again: Ruleset = rules.to_string().parse().expect("what was printed is read");
        assert_eq!(again, rules);
    }
});
