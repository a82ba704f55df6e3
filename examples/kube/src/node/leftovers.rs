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

/// Removes them; says what was removed.
pub(crate) async fn remove() -> Result<Vec<String>> {
    let mut done = Vec::new();
    for (save, restore) in PROGRAMS {
        let Some(saved) = run_if_there(save, &[], "").await? else { continue };
        let script = removal(&saved);
        if !script.is_empty() {
            run(restore, &["--noflush"], &script)
                .await
                .with_context(|| format!("kube-proxy's chains stay ({save})"))?;
            let count = script.lines().filter(|line| line.starts_with("-X ")).count();
            done.push(format!("{count} chains of kube-proxy removed by {restore}"));
        }
    }
    if let Some(names) = run_if_there("ipset", &["list", "-name"], "").await? {
        let own: Vec<_> = names.lines().filter(|name| is_set(name)).collect();
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

fn is_chain(name: &str) -> bool {
    CHAINS.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

fn is_set(name: &str) -> bool {
    ["KUBE-", "KUBE-6-"]
        .into_iter()
        .filter_map(|prefix| name.strip_prefix(prefix))
        .any(|rest| SETS.contains(&rest))
}

/// From what `iptables-save` printed to what `iptables-restore --noflush` takes to remove kube-proxy's chains, and the
/// rules of other chains that jump there; empty where nothing is kube-proxy's.
fn removal(saved: &str) -> String {
    let mut script = Vec::new();
    let (mut table, mut chains, mut jumps) = ("", Vec::new(), Vec::new());
    for line in saved.lines() {
        if let Some(name) = line.strip_prefix('*') {
            (table, chains, jumps) = (name, Vec::new(), Vec::new());
        } else if let Some(chain) = line.strip_prefix(':') {
            let name = chain.split(' ').next().unwrap_or_default();
            chains.extend(is_chain(name).then_some(name));
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let words: Vec<_> = rule.split(' ').collect();
            let is_own = words.first().is_some_and(|chain| is_chain(chain));
            // A comment can say anything; the target is what follows the last `-j` or `-g`.
            let target = words.iter().rposition(|word| ["-j", "-g"].contains(word));
            let target = target.and_then(|at| words.get(at + 1));
            if !is_own && target.is_some_and(|target| is_chain(target)) {
                jumps.push(format!("-D {rule}"));
            }
        } else if line == "COMMIT" && !chains.is_empty() {
            script.push(format!("*{table}"));
            script.append(&mut jumps);
            // Emptied first, since they jump to each other.
            script.extend(chains.iter().map(|chain| format!("-F {chain}")));
            script.extend(chains.iter().map(|chain| format!("-X {chain}")));
            script.push("COMMIT".to_owned());
        }
    }
    script.into_iter().map(|line| line + "\n").collect()
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
        assert_eq!(removal(SAVED), expected);
        assert_eq!(removal(""), "");
    }

    #[test]
    fn sets_are_kube_proxys_by_their_whole_names() {
        for name in ["KUBE-CLUSTER-IP", "KUBE-6-LOAD-BALANCER-FW", "KUBE-NODE-PORT-TCP"] {
            assert!(is_set(name), "{name}");
        }
        for name in ["KUBE-SRC-7Y6GE2O2Q7MAB4XP", "KUBE-CLUSTER-IP-2", "CLUSTER-IP"] {
            assert!(!is_set(name), "{name}");
        }
    }
}
