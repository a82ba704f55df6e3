//! What kube-proxy leaves in the packet filter: its chains of iptables, in both families and by both of its backends,
//! its sets of ipset, and its tables of nft.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};

use super::counted;
use super::host::Leftovers;
use super::programs::Programs;

/// kube-proxy's chains, by their whole names. `KUBE-FIREWALL`, `KUBE-MARK-DROP` and the `KUBE-*-CANARY` of the kubelet are not
/// among them.
const CHAINS: [&str; 13] = [
    "KUBE-SERVICES",
    "KUBE-EXTERNAL-SERVICES",
    "KUBE-NODEPORTS",
    "KUBE-NODE-PORT",
    "KUBE-POSTROUTING",
    "KUBE-MARK-MASQ",
    "KUBE-FORWARD",
    "KUBE-LOAD-BALANCER",
    "KUBE-PROXY-FIREWALL",
    "KUBE-SOURCE-RANGES-FIREWALL",
    "KUBE-IPVS-FILTER",
    "KUBE-IPVS-OUT-FILTER",
    "KUBE-PROXY-CANARY",
];

/// Those to which it jumps from the chains of the kernel.
const ENTRIES: [&str; 10] = [
    "KUBE-SERVICES",
    "KUBE-EXTERNAL-SERVICES",
    "KUBE-NODEPORTS",
    "KUBE-NODE-PORT",
    "KUBE-POSTROUTING",
    "KUBE-FORWARD",
    "KUBE-PROXY-FIREWALL",
    "KUBE-SOURCE-RANGES-FIREWALL",
    "KUBE-IPVS-FILTER",
    "KUBE-IPVS-OUT-FILTER",
];

/// How the names of its chains for single Services and endpoints begin, in its mode `iptables`.
const PREFIXES: [&str; 6] =
    ["KUBE-SVC-", "KUBE-SEP-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SVL-", "KUBE-XLB-"];

/// How its sets are named, behind `KUBE-` or `KUBE-6-`. Sets of others begin alike, those of kube-router for one.
const SETS: [&str; 17] = [
    "LOOP-BACK",
    "CLUSTER-IP",
    "EXTERNAL-IP",
    "EXTERNAL-IP-LOCAL",
    "LOAD-BALANCER",
    "LOAD-BALANCER-FW",
    "LOAD-BALANCER-LOCAL",
    "LOAD-BALANCER-SOURCE-IP",
    "LOAD-BALANCER-SOURCE-CIDR",
    "NODE-PORT-TCP",
    "NODE-PORT-LOCAL-TCP",
    "NODE-PORT-UDP",
    "NODE-PORT-LOCAL-UDP",
    "NODE-PORT-SCTP-HASH",
    "NODE-PORT-LOCAL-SCTP-HASH",
    "HEALTH-CHECK-NODE-PORT",
    "IPVS-IPS",
];

/// The programs that list and change what is there; a host may have either backend, both or none.
const PROGRAMS: [(&str, &str); 4] = [
    ("iptables-legacy-save", "iptables-legacy-restore"),
    ("iptables-nft-save", "iptables-nft-restore"),
    ("ip6tables-legacy-save", "ip6tables-legacy-restore"),
    ("ip6tables-nft-save", "ip6tables-nft-restore"),
];

/// Its tables of nft in its mode `nftables`, with their families. It has no others.
const TABLES: [&str; 2] = ["ip kube-proxy", "ip6 kube-proxy"];

/// What `iptables-restore` takes to remove kube-proxy's chains, and what stays.
#[derive(Debug, Default, PartialEq, Eq)]
struct Removal {
    script: String,
    /// The chains of kube-proxy that stay since rules of others jump there.
    used: Vec<String>,
    /// Those that stay since they accept what would be dropped without them.
    needed: Vec<String>,
    /// The rules of those that stay.
    kept_rules: String,
}

/// Removes them, but for those that traffic needs.
pub(crate) async fn remove(programs: &Programs) -> Leftovers {
    let mut leftovers = Leftovers::default();
    let mut kept_rules = String::new();
    let mut is_all_known = true;
    for (save, restore) in PROGRAMS {
        if !programs.has(save) {
            leftovers.notes.push(not_looked_for("chains", save, "iptables"));
            continue;
        }
        match remove_chains(programs, save, restore, &mut leftovers).await {
            Ok(kept) => kept_rules += &kept,
            Err(error) => {
                leftovers.failures.push(error);
                is_all_known = false;
            }
        }
    }
    if !programs.has("ipset") {
        leftovers.notes.push(not_looked_for("sets", "ipset", "ipset"));
    } else if is_all_known
        && let Err(error) = remove_sets(programs, &kept_rules, &mut leftovers.done).await
    {
        leftovers.failures.push(error);
    }
    if !programs.has("nft") {
        leftovers.notes.push(not_looked_for("tables", "nft", "nftables"));
    } else if let Err(error) = remove_tables(programs, &mut leftovers.done).await {
        leftovers.failures.push(error);
    }
    leftovers
}

/// What of it is there that [`remove`] removes, in words; and what could not be looked for.
pub(crate) async fn find(programs: &Programs) -> Vec<String> {
    let (mut found, mut notes) = (Vec::new(), Vec::new());
    for (save, _) in PROGRAMS.into_iter().filter(|(save, _)| programs.has(save)) {
        match programs.run(save, &[], "").await.map(|saved| Removal::of(&saved).chains()) {
            Ok(0) => {}
            Ok(count) => found.push(format!("{} ({save})", counted(count, "chain", "chains"))),
            Err(error) => notes.push(format!("kube-proxy's chains are not looked for: {error:#}")),
        }
    }
    if programs.has("nft") {
        match tables(programs).await {
            Ok(tables) => found.extend(tables.iter().map(|table| format!("table {table} of nft"))),
            Err(error) => notes.push(format!("kube-proxy's tables are not looked for: {error:#}")),
        }
    }
    if !found.is_empty() {
        let found = found.join(", ");
        notes.push(format!(
            "kube-proxy's rules are still in the packet filter: {found}. They hinder Services that change from now on: start \
             with --take-over, which removes them"
        ));
    }
    notes
}

fn not_looked_for(what: &str, program: &str, package: &str) -> String {
    format!(
        "kube-proxy's {what} are not looked for by {program}, which is not installed (package {package})"
    )
}

/// Gives the rules that stay.
async fn remove_chains(
    programs: &Programs,
    save: &str,
    restore: &str,
    leftovers: &mut Leftovers,
) -> Result<String> {
    let Leftovers { done, notes, .. } = leftovers;
    let removal = Removal::of(&programs.run(save, &[], "").await?);
    if !removal.script.is_empty() {
        programs
            .run(restore, &["--noflush", "--wait=5"], &removal.script)
            .await
            .with_context(|| format!("kube-proxy's chains stay ({save})"))?;
        let chains = counted(removal.chains(), "chain", "chains");
        done.push(format!("{chains} of kube-proxy removed by {restore}"));
    }
    if !removal.used.is_empty() {
        let used = removal.used.join(", ");
        notes.push(format!(
            "left of kube-proxy's chains: {used}, since rules of others jump there ({save})"
        ));
    }
    if !removal.needed.is_empty() {
        let needed = removal.needed.join(", ");
        notes.push(format!(
            "left of kube-proxy's chains: {needed}, since others drop what is accepted there ({save}). Once rules of \
             yours accept replies of pods and health checks, start with --take-over again"
        ));
    }
    Ok(removal.kept_rules)
}

/// One by one: another program may take or use one at any time.
async fn remove_sets(programs: &Programs, kept_rules: &str, done: &mut Vec<String>) -> Result<()> {
    let is_kept = |name: &str| kept_rules.split_whitespace().any(|word| word == name);
    let own = async || -> Result<BTreeSet<String>> {
        let names = programs.run("ipset", &["list", "-name"], "").await?;
        let own = names.lines().filter(|name| is_set(name) && !is_kept(name));
        Ok(own.map(str::to_owned).collect())
    };
    let before = own().await?;
    let mut refused = BTreeMap::new();
    for name in &before {
        if let Err(error) = programs.run("ipset", &["destroy", name], "").await {
            refused.insert(name, error);
        }
    }
    // One that somebody else took meanwhile is no failure.
    let left = if refused.is_empty() { BTreeSet::new() } else { own().await? };
    let count = before.difference(&left).count();
    if count > 0 {
        done.push(format!("{} of kube-proxy removed", counted(count, "set", "sets")));
    }
    let stays = refused.into_iter().find(|(name, _)| left.contains(*name));
    stays.map_or(Ok(()), |(_, error)| {
        let left = left.into_iter().collect::<Vec<_>>().join(", ");
        Err(error.context(format!("sets of kube-proxy stay: {left}")))
    })
}

/// Those of kube-proxy's tables of nft that are there.
async fn tables(programs: &Programs) -> Result<Vec<&'static str>> {
    let all = programs.run("nft", &["list", "tables"], "").await?;
    let is_there =
        |table: &&str| all.lines().any(|line| line.trim().strip_prefix("table ") == Some(*table));
    Ok(TABLES.into_iter().filter(is_there).collect())
}

async fn remove_tables(programs: &Programs, done: &mut Vec<String>) -> Result<()> {
    for table in tables(programs).await? {
        // A table must be there to be deleted, and another program may be faster.
        let script = format!("table {table}\ndelete table {table}\n");
        let removed = programs.run("nft", &["-f", "-"], &script).await;
        removed.with_context(|| format!("kube-proxy's table {table} of nft stays"))?;
        done.push(format!("table {table} of nft removed"));
    }
    Ok(())
}

/// Whether a chain is kube-proxy's. `KUBE-FIREWALL` is the kubelet's in the table `filter`, and was kube-proxy's in `nat`.
fn is_chain(table: &str, name: &str) -> bool {
    CHAINS.contains(&name)
        || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || (table, name) == ("nat", "KUBE-FIREWALL")
}

/// Names of sets have 31 characters at most; kube-proxy cuts the rest off.
fn is_set(name: &str) -> bool {
    const LONGEST: usize = 31;
    ["KUBE-", "KUBE-6-"].into_iter().any(|prefix| {
        SETS.iter().any(|rest| format!("{prefix}{rest}").chars().take(LONGEST).eq(name.chars()))
    })
}

/// The words of a rule without those in quotes: what is there, such as a comment, can say anything.
fn words(rule: &str) -> impl Iterator<Item = &str> {
    rule.split('"').step_by(2).flat_map(str::split_whitespace)
}

/// The chain that a rule goes to.
fn target(rule: &str) -> Option<&str> {
    let mut words = words(rule);
    words.find(|word| ["-j", "-g"].contains(word))?;
    words.next()
}

/// Whether kube-proxy makes this rule in a chain of the kernel: it sends all packets, or those of new connections, to one
/// of the chains that kube-proxy enters by.
fn is_entry(rule: &str) -> bool {
    let mut words = words(rule).skip(1).peekable();
    while let Some(word) = words.next() {
        match word {
            "-m" if matches!(words.peek(), Some(&("comment" | "conntrack"))) => drop(words.next()),
            // In quotes, unless it is one word.
            "--comment" => drop(words.next_if(|word| !word.starts_with('-'))),
            "--ctstate" if words.peek() == Some(&"NEW") => drop(words.next()),
            "-j" => {
                return words.next().is_some_and(|to| ENTRIES.contains(&to))
                    && words.next().is_none();
            }
            _ => return false,
        }
    }
    false
}

/// A table as `iptables-save` prints it.
struct Table<'a> {
    name: &'a str,
    /// The chains of the kernel, which have policies.
    built_in: Vec<(&'a str, Policy)>,
    /// kube-proxy's.
    own: BTreeSet<&'a str>,
    rules: Vec<Rule<'a>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Policy {
    Accept,
    Drop,
}

#[derive(Clone, Copy)]
struct Rule<'a> {
    text: &'a str,
    chain: &'a str,
    /// Where it goes: another chain, or a verdict. A rule that only counts goes nowhere.
    target: Option<&'a str>,
}

impl<'a> Table<'a> {
    fn read(lines: &[&'a str]) -> Self {
        let name = lines.iter().find_map(|line| line.strip_prefix('*')).unwrap_or_default();
        let (mut built_in, mut own) = (Vec::new(), BTreeSet::new());
        for line in lines {
            let Some((chain, rest)) = line.strip_prefix(':').and_then(|it| it.split_once(' '))
            else {
                continue;
            };
            // A chain without a policy is somebody's own.
            match rest.split(' ').next() {
                Some("-") if is_chain(name, chain) => drop(own.insert(chain)),
                Some("-") | None => {}
                Some("ACCEPT") => built_in.push((chain, Policy::Accept)),
                Some(_) => built_in.push((chain, Policy::Drop)),
            }
        }
        let rule = |line: &&'a str| {
            let text = line.strip_prefix("-A ")?;
            Some(Rule { text, chain: text.split(' ').next()?, target: target(text) })
        };
        Self { name, built_in, own, rules: lines.iter().filter_map(rule).collect() }
    }

    fn rules_of<'t>(&'t self, chain: &'t str) -> impl Iterator<Item = &'t Rule<'a>> {
        self.rules.iter().filter(move |rule| rule.chain == chain)
    }

    fn is_built_in(&self, chain: &str) -> bool {
        self.built_in.iter().any(|(name, _)| *name == chain)
    }

    /// These chains, and those that a packet comes to from there.
    fn reached(&self, from: &[&'a str], passes: impl Fn(&str) -> bool) -> BTreeSet<&'a str> {
        let mut reached = BTreeSet::new();
        let mut next = from.to_vec();
        while let Some(chain) = next.pop() {
            if !passes(chain) || !reached.insert(chain) {
                continue;
            }
            let targets = self.rules.iter().filter(|rule| rule.chain == chain);
            next.extend(targets.filter_map(|rule| rule.target));
        }
        reached
    }

    /// kube-proxy's chains to which rules of others jump, as those of CNI plugins do to `KUBE-MARK-MASQ`, and with that
    /// one the chain that masquerades what it marks. In the chains of the kernel are rules of both.
    fn used(&self) -> Vec<&'a str> {
        let is_own = |rule: &&Rule<'_>| {
            self.own.contains(rule.chain) || self.is_built_in(rule.chain) && is_entry(rule.text)
        };
        let jumps = self.rules.iter().filter(|rule| !is_own(rule));
        let mut used: Vec<_> =
            jumps.filter_map(|rule| rule.target).filter(|to| self.own.contains(to)).collect();
        if used.contains(&"KUBE-MARK-MASQ") && self.own.contains("KUBE-POSTROUTING") {
            used.push("KUBE-POSTROUTING");
        }
        used
    }

    /// kube-proxy's chains that accept what a built-in chain of the table `filter` may drop otherwise. The table of nft
    /// cannot stand in for them: what it accepts is not accepted for other tables.
    fn needed(&self) -> Vec<&'a str> {
        let mut needed = Vec::new();
        if self.name != "filter" {
            return needed;
        }
        for (chain, policy) in &self.built_in {
            // The kubelet's chain drops what is marked to be dropped, and nothing else.
            let is_others = |chain: &str| !self.own.contains(chain) && chain != "KUBE-FIREWALL";
            let others = self.reached(&[chain], is_others);
            let drops = others.contains("DROP") || others.contains("REJECT");
            if *policy == Policy::Accept && !drops {
                continue;
            }
            let jumps = self.rules_of(chain).filter_map(|rule| rule.target);
            let accepts = |own: &&str| self.reached(&[*own], |_| true).contains("ACCEPT");
            needed.extend(jumps.filter(|to| self.own.contains(to)).filter(accepts));
        }
        needed
    }
}

impl Removal {
    /// From what `iptables-save` printed.
    fn of(saved: &str) -> Self {
        let mut removal = Self::default();
        let mut table: Vec<&str> = Vec::new();
        for line in saved.lines() {
            table.push(line);
            if line == "COMMIT" {
                removal.take(&Table::read(&table));
                table.clear();
            }
        }
        removal
    }

    /// How many chains are removed.
    fn chains(&self) -> usize {
        self.script.lines().filter(|line| line.starts_with("-X ")).count()
    }

    fn take(&mut self, table: &Table<'_>) {
        let kept = |by: &[_]| -> BTreeSet<_> {
            table
                .reached(by, |_| true)
                .into_iter()
                .filter(|chain| table.own.contains(chain))
                .collect()
        };
        let (used, needed) = (kept(&table.used()), kept(&table.needed()));
        let own: Vec<_> =
            table.own.iter().filter(|it| !used.contains(*it) && !needed.contains(*it)).collect();
        for rule in &table.rules {
            if used.contains(rule.chain) || needed.contains(rule.chain) {
                self.kept_rules.extend([rule.text, "\n"]);
            }
        }
        self.used.extend(used.into_iter().map(str::to_owned));
        self.needed.extend(needed.into_iter().map(str::to_owned));
        if own.is_empty() {
            return;
        }
        let jumps = table.rules.iter().filter(|rule| {
            let goes = rule.target.is_some_and(|to| own.iter().any(|own| **own == to));
            goes && !table.own.contains(rule.chain)
        });
        let jumps = jumps.map(|rule| format!("-D {}\n", rule.text));
        // Emptied first, since they jump to each other.
        let emptied = own.iter().map(|chain| format!("-F {chain}\n"));
        let removed = own.iter().map(|chain| format!("-X {chain}\n"));
        let all = jumps.chain(emptied).chain(removed);
        self.script.extend(["*", table.name, "\n"]);
        self.script.extend(all);
        self.script.push_str("COMMIT\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAVED: &str = r#"# Generated by iptables-save
*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
:KUBE-SERVICES - [0:0]
:OTHERS - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A PREROUTING -m comment --comment "not -j KUBE-SERVICES" -j OTHERS
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP dst,dst -j KUBE-MARK-MASQ
-A OTHERS -s 10.0.0.0/8 -j ACCEPT
COMMIT
*filter
:INPUT ACCEPT [0:0]
:KUBE-FIREWALL - [0:0]
-A INPUT -j KUBE-FIREWALL
-A KUBE-FIREWALL -j DROP
COMMIT
"#;

    #[test]
    fn chains_of_kube_proxy_go_and_all_others_stay() {
        let expected = r#"*nat
-D PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-D POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-F KUBE-MARK-MASQ
-F KUBE-POSTROUTING
-F KUBE-SERVICES
-X KUBE-MARK-MASQ
-X KUBE-POSTROUTING
-X KUBE-SERVICES
COMMIT
"#;
        assert_eq!(Removal::of(SAVED), Removal { script: expected.into(), ..Removal::default() });
        assert_eq!(Removal::of(""), Removal::default());
    }

    /// Once: the rules of CNI plugins that jump to `KUBE-MARK-MASQ` were deleted along with it, and a rule whose log prefix
    /// named a chain.
    #[test]
    fn chains_that_others_jump_to_stay_and_what_is_quoted_is_no_jump() {
        let jump = "-A CNI-DN-1 -s 10.244.0.0/24 -j KUBE-MARK-MASQ\n";
        let log = "-A PREROUTING -j LOG --log-prefix \"to -j KUBE-SERVICES \"\n";
        let saved = SAVED
            .replace("COMMIT\n*filter", &format!(":CNI-DN-1 - [0:0]\n{jump}{log}COMMIT\n*filter"));
        let saved = saved.replace("-A OTHERS", "-A KUBE-POSTROUTING -m set --match-set KUBE-LOOP-BACK dst -j MASQUERADE\n-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000\n-A OTHERS");
        let removal = Removal::of(&saved);
        let expected = r#"*nat
-D PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-F KUBE-SERVICES
-X KUBE-SERVICES
COMMIT
"#;
        assert_eq!(removal.script, expected);
        assert_eq!(removal.used, ["KUBE-MARK-MASQ", "KUBE-POSTROUTING"]);
        assert!(removal.kept_rules.contains("KUBE-LOOP-BACK"));
    }

    /// Once: an operator's own rule in a chain of the kernel was deleted, since it jumped to a chain of kube-proxy's.
    #[test]
    fn of_the_kernels_chains_only_the_jumps_of_kube_proxy_go() {
        for own in [
            "PREROUTING -j KUBE-SERVICES",
            "INPUT -m conntrack --ctstate NEW -m comment --comment \"kubernetes load balancer firewall\" -j KUBE-PROXY-FIREWALL",
            "INPUT -m comment --comment one-word -j KUBE-NODE-PORT",
        ] {
            assert!(is_entry(own), "{own}");
        }
        for others in [
            "-A PREROUTING -s 192.0.2.0/24 -j KUBE-MARK-MASQ",
            "-A PREROUTING -m comment --comment \"ours\" -j KUBE-MARK-MASQ",
            "-A PREROUTING ! -i eth0 -m comment --comment ours -j KUBE-SERVICES",
            "-A PREROUTING -m conntrack --ctstate INVALID -j KUBE-SERVICES",
            "-A PREROUTING -g KUBE-SERVICES",
        ] {
            let saved = SAVED.replace("COMMIT\n*filter", &format!("{others}\nCOMMIT\n*filter"));
            let Removal { script, used, .. } = Removal::of(&saved);
            let target = others.rsplit(' ').next().expect("it jumps");
            assert!(used.contains(&target.to_owned()), "{others}: {used:?}");
            assert!(!script.contains(others.trim_start_matches("-A ")), "{script}");
            assert!(!script.contains(&format!("-X {target}\n")), "{script}");
        }
    }

    /// Once: a node whose `FORWARD` drops forwarded no reply of a pod any more, and one whose `INPUT` drops answered no
    /// health check.
    #[test]
    fn chains_stay_that_accept_what_would_be_dropped_without_them() {
        let saved = |forward: &str, input: &str, more: &str| {
            format!(
                "*filter
:INPUT {input} [0:0]
:FORWARD {forward} [0:0]
:OTHERS - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-NODE-PORT - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
-A INPUT -j KUBE-NODE-PORT
-A INPUT -j KUBE-PROXY-FIREWALL
-A FORWARD -j KUBE-PROXY-FIREWALL
-A FORWARD -j KUBE-FORWARD
{more}-A KUBE-NODE-PORT -m set --match-set KUBE-HEALTH-CHECK-NODE-PORT dst -j ACCEPT
-A KUBE-PROXY-FIREWALL -m set --match-set KUBE-LOAD-BALANCER-FW dst,dst -j DROP
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
"
            )
        };
        let needed = |saved: String| Removal::of(&saved).needed;
        assert!(needed(saved("ACCEPT", "ACCEPT", "")).is_empty());
        assert_eq!(needed(saved("DROP", "ACCEPT", "")), ["KUBE-FORWARD"]);
        assert_eq!(needed(saved("ACCEPT", "DROP", "")), ["KUBE-NODE-PORT"]);
        let rejects =
            "-A FORWARD -j OTHERS\n-A OTHERS -j REJECT --reject-with icmp-port-unreachable\n";
        assert_eq!(needed(saved("ACCEPT", "ACCEPT", rejects)), ["KUBE-FORWARD"]);
        for harmless in
            ["-A OTHERS -j DROP\n", "-A FORWARD -j KUBE-FIREWALL\n-A KUBE-FIREWALL -j DROP\n"]
        {
            assert!(needed(saved("ACCEPT", "ACCEPT", harmless)).is_empty(), "{harmless}");
        }

        let removal = Removal::of(&saved("DROP", "DROP", ""));
        let expected = "*filter
-D INPUT -j KUBE-PROXY-FIREWALL
-D FORWARD -j KUBE-PROXY-FIREWALL
-F KUBE-PROXY-FIREWALL
-X KUBE-PROXY-FIREWALL
COMMIT
";
        assert_eq!(removal.script, expected);
        let rules = &removal.kept_rules;
        assert!(
            rules.contains("KUBE-HEALTH-CHECK-NODE-PORT") && !rules.contains("LOAD"),
            "{rules}"
        );
    }

    /// Once: a chain of kube-proxy's that has the name of one of the kubelet's kept a set from being removed.
    #[test]
    fn a_firewall_in_nat_is_kube_proxys() {
        let saved =
            "*nat\n:KUBE-FIREWALL - [0:0]\nCOMMIT\n*filter\n:KUBE-FIREWALL - [0:0]\nCOMMIT\n";
        assert_eq!(Removal::of(saved).script, "*nat\n-F KUBE-FIREWALL\n-X KUBE-FIREWALL\nCOMMIT\n");
    }

    /// Puts a program into a folder.
    fn install(folder: &std::path::Path, name: &str, script: &str) -> Result<()> {
        let written = folder.join("script");
        std::fs::write(&written, script)?;
        // By another process: what this one has open for writing, none of its children can run.
        let mut install = std::process::Command::new("install");
        let install = install.args(["-m", "755"]).arg(written).arg(folder.join(name));
        anyhow::ensure!(install.status()?.success());
        Ok(())
    }

    /// Once: whoever took over without the option was not told that kube-proxy's rules were left, and with it the tables of
    /// its mode `nftables` stayed for ever.
    #[tokio::test]
    async fn what_is_left_is_told_and_the_tables_of_nft_go_last() -> Result<()> {
        let folder = std::env::temp_dir().join(format!("kube-tables-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let (tables, log) = (folder.join("tables"), folder.join("log"));
        std::fs::write(
            &tables,
            "table inet ipvs-kube\ntable ip kube-proxy\ntable ip6 kube-proxy\ntable inet kube-proxy\n",
        )?;
        std::fs::write(folder.join("saved"), SAVED)?;
        let programs = [
            ("iptables-nft-save", "cat saved".to_owned()),
            ("iptables-nft-restore", "echo chains >> log; : > saved".to_owned()),
            (
                "nft",
                "case $1 in
list) cat tables ;;
*) while read -r verb table; do
    [ \"$verb\" = delete ] && echo \"$table\" >> log && sed -i \"/^$table\\$/d\" tables
done; true ;;
esac"
                    .to_owned(),
            ),
        ];
        for (name, script) in programs {
            let script =
                format!("#!/bin/sh\nPATH=/usr/bin:/bin\ncd {}\n{script}\n", folder.display());
            install(&folder, name, &script)?;
        }
        let programs = Programs::of(&folder);

        let found = find(&programs).await.join("\n");
        let expected = "3 chains (iptables-nft-save), table ip kube-proxy of nft, table ip6 kube-proxy of nft. ";
        assert!(found.contains(expected) && found.contains("--take-over"), "{found}");
        let Leftovers { done, failures, .. } = remove(&programs).await;
        assert!(failures.is_empty(), "{failures:?}");
        assert_eq!(done.len(), 3, "{done:?}");
        let log = std::fs::read_to_string(log)?;
        assert_eq!(log, "chains\ntable ip kube-proxy\ntable ip6 kube-proxy\n");
        assert_eq!(
            std::fs::read_to_string(tables)?,
            "table inet ipvs-kube\ntable inet kube-proxy\n"
        );
        assert!(find(&programs).await.is_empty(), "nothing is left to be told");
        std::fs::remove_dir_all(folder)?;
        Ok(())
    }

    /// Once: of many sets none was removed where another program had taken one meanwhile, and nothing was said of programs
    /// that the host does not have.
    #[tokio::test]
    async fn a_set_that_is_in_use_or_gone_keeps_no_other() -> Result<()> {
        let folder = std::env::temp_dir().join(format!("kube-leftovers-{}", std::process::id()));
        let sets = folder.join("sets");
        std::fs::create_dir_all(&sets)?;
        for name in ["KUBE-CLUSTER-IP", "KUBE-LOOP-BACK", "KUBE-EXTERNAL-IP", "KUBE-SRC-OTHERS"] {
            std::fs::write(sets.join(name), "")?;
        }
        let script = format!(
            "#!/bin/sh
PATH=/usr/bin:/bin
cd {}
case \"$1 $2\" in
'list -name') ls ;;
'destroy KUBE-EXTERNAL-IP') rm \"$2\"; echo another was faster >&2; exit 1 ;;
'destroy KUBE-CLUSTER-IP') [ -e ../free ] || {{ echo it is in use >&2; exit 1; }}; rm \"$2\" ;;
*) rm \"$2\" ;;
esac
",
            sets.display()
        );
        install(&folder, "ipset", &script)?;
        let programs = Programs::of(&folder);

        let Leftovers { done, notes, failures } = remove(&programs).await;
        assert_eq!(done, ["2 sets of kube-proxy removed"]);
        let failures: Vec<_> = failures.iter().map(|failure| format!("{failure:#}")).collect();
        assert!(failures.len() == 1 && failures[0].contains("it is in use"), "{failures:?}");
        assert!(
            failures[0].starts_with("sets of kube-proxy stay: KUBE-CLUSTER-IP"),
            "{failures:?}"
        );
        assert_eq!(notes.len(), PROGRAMS.len() + 1, "and nft");
        assert!(notes[0].contains("iptables-legacy-save, which is not installed"), "{notes:?}");

        // Once nobody uses it, it goes.
        std::fs::write(folder.join("free"), "")?;
        let Leftovers { done, failures, .. } = remove(&programs).await;
        assert_eq!((done.len(), failures.len()), (1, 0), "{done:?} {failures:?}");
        let left = std::fs::read_dir(&sets)?.collect::<std::io::Result<Vec<_>>>()?;
        assert!(left.len() == 1 && left[0].file_name() == "KUBE-SRC-OTHERS", "{left:?}");
        std::fs::remove_dir_all(folder)?;
        Ok(())
    }

    #[test]
    fn sets_are_kube_proxys_by_their_whole_names() {
        let names = ["KUBE-CLUSTER-IP", "KUBE-6-LOAD-BALANCER-FW", "KUBE-NODE-PORT-TCP"];
        for name in names.into_iter().chain(["KUBE-6-LOAD-BALANCER-SOURCE-CID"]) {
            assert!(is_set(name), "{name}");
        }
        for name in ["KUBE-SRC-7Y6GE2O2Q7MAB4XP", "KUBE-CLUSTER-IP-2", "CLUSTER-IP"] {
            assert!(!is_set(name), "{name}");
        }
    }
}
