//! What kube-proxy leaves in the packet filter: its chains of iptables, in both families and by both of its backends, and
//! its sets of ipset.

use anyhow::{Context as _, Result};

use super::filter::run;

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

/// What `iptables-restore` takes to remove kube-proxy's chains, and what stays since others refer to it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Removal {
    script: String,
    /// The chains of kube-proxy that stay, and their rules.
    kept: Vec<String>,
    kept_rules: String,
}

/// Removes them; says what was removed, and what stays.
pub(crate) async fn remove() -> Result<Vec<String>> {
    let mut done = Vec::new();
    let mut kept_rules = String::new();
    for (save, restore) in PROGRAMS {
        let Some(saved) = run_if_there(save, &[], "").await? else { continue };
        let removal = Removal::of(&saved);
        if !removal.script.is_empty() {
            run(restore, &["--noflush", "--wait=5"], &removal.script)
                .await
                .with_context(|| format!("kube-proxy's chains stay ({save})"))?;
            let count = removal.script.lines().filter(|line| line.starts_with("-X ")).count();
            done.push(format!("{count} chains of kube-proxy removed by {restore}"));
        }
        if !removal.kept.is_empty() {
            let kept = removal.kept.join(", ");
            done.push(format!("{kept} of kube-proxy stay: chains of others jump there ({save})"));
        }
        kept_rules += &removal.kept_rules;
    }
    if let Some(names) = run_if_there("ipset", &["list", "-name"], "").await? {
        let is_kept = |name: &str| kept_rules.split_whitespace().any(|word| word == name);
        let own: Vec<_> = names.lines().filter(|name| is_set(name) && !is_kept(name)).collect();
        if !own.is_empty() {
            let script: Vec<_> = own.iter().map(|name| format!("destroy {name}\n")).collect();
            run("ipset", &["restore"], &script.concat()).await.context("kube-proxy's sets stay")?;
            done.push(format!("{} sets of kube-proxy removed", own.len()));
        }
    }
    Ok(done)
}

/// What a program printed; `None` where the host does not have it.
async fn run_if_there(name: &str, arguments: &[&str], input: &str) -> Result<Option<String>> {
    if !is_installed(name) {
        return Ok(None);
    }
    run(name, arguments, input).await.map(Some)
}

fn is_installed(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
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

/// The chain that a rule goes to. What is in quotes, such as a comment, can say anything.
fn target(rule: &str) -> Option<&str> {
    let bare = rule.split('"').step_by(2);
    let mut words = bare.flat_map(str::split_whitespace);
    words.find(|word| ["-j", "-g"].contains(word))?;
    words.next()
}

impl Removal {
    /// From what `iptables-save` printed. A chain stays where a chain of others jumps there, as those of CNI plugins do to
    /// `KUBE-MARK-MASQ`, and with that chain the one that masquerades what it marks.
    fn of(saved: &str) -> Self {
        let mut removal = Self::default();
        let mut table: Vec<&str> = Vec::new();
        for line in saved.lines() {
            table.push(line);
            if line == "COMMIT" {
                removal.take(&table);
                table.clear();
            }
        }
        removal
    }

    fn take(&mut self, lines: &[&str]) {
        let name = lines.iter().find_map(|line| line.strip_prefix('*')).unwrap_or_default();
        let declared = lines.iter().filter_map(|line| line.strip_prefix(':')?.split_once(' '));
        let (mut own, mut built_in) = (Vec::new(), Vec::new());
        for (chain, rest) in declared {
            // A chain without a policy is somebody's own.
            match rest.starts_with('-') {
                true if is_chain(name, chain) => own.push(chain),
                true => {}
                false => built_in.push(chain),
            }
        }
        let rules = || {
            lines.iter().filter_map(|line| {
                let rule = line.strip_prefix("-A ")?;
                Some((rule, rule.split(' ').next()?, target(rule)?))
            })
        };
        let mut kept: Vec<&str> = rules()
            .filter(|(_, from, to)| {
                own.contains(to) && !own.contains(from) && !built_in.contains(from)
            })
            .map(|(_, _, to)| to)
            .collect();
        if kept.contains(&"KUBE-MARK-MASQ") {
            kept.push("KUBE-POSTROUTING");
        }
        own.retain(|chain| !kept.contains(chain));
        for (rule, from, _) in rules().filter(|(_, from, _)| kept.contains(from)) {
            self.kept_rules.extend([rule, "\n"]);
            if !self.kept.iter().any(|chain| chain == from) {
                self.kept.push(from.to_owned());
            }
        }
        if own.is_empty() {
            return;
        }
        let jumps = rules().filter(|(_, from, to)| built_in.contains(from) && own.contains(to));
        let jumps = jumps.map(|(rule, _, _)| format!("-D {rule}\n"));
        // Emptied first, since they jump to each other.
        let emptied = own.iter().map(|chain| format!("-F {chain}\n"));
        let removed = own.iter().map(|chain| format!("-X {chain}\n"));
        let all = jumps.chain(emptied).chain(removed);
        self.script.extend(["*", name, "\n"]);
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
        assert_eq!(removal.kept, ["KUBE-POSTROUTING", "KUBE-MARK-MASQ"]);
        assert!(removal.kept_rules.contains("KUBE-LOOP-BACK"));
    }

    /// Once: a chain of kube-proxy's that has the name of one of the kubelet's kept a set from being removed.
    #[test]
    fn a_firewall_in_nat_is_kube_proxys() {
        let saved =
            "*nat\n:KUBE-FIREWALL - [0:0]\nCOMMIT\n*filter\n:KUBE-FIREWALL - [0:0]\nCOMMIT\n";
        assert_eq!(Removal::of(saved).script, "*nat\n-F KUBE-FIREWALL\n-X KUBE-FIREWALL\nCOMMIT\n");
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
