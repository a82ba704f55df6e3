//! What passes over the watched objects send to the kernel.

use ipvs_netlink::blocking::Client;
use ipvs_netlink::fake::Kernel;
use ipvs_netlink::wire::Command::{self, DelDest, GetDest, GetService, NewDest, SetDest};
use ipvs_netlink::{Report, Syncer};

use super::api::{Fault, Services, Slices};
use super::noting::{Noting, Sends};
use super::*;

/// A cluster that is watched, and a node whose table is kept as it says.
struct Node {
    world: World,
    kernel: Kernel,
    client: Client,
    sends: Sends,
    syncer: Syncer,
}

impl Node {
    async fn new(options: &Options) -> Self {
        let kernel = Kernel::new();
        let (link, sends) = Noting::new(kernel.link());
        let client = Client::connect_with(link).unwrap();
        let syncer = Syncer::new(options.policy());
        let mut node = Self { world: World::new().await, kernel, client, sends, syncer };
        let desired = node.world.desired();
        assert!(node.pass(desired).is_success());
        node
    }

    fn pass(&mut self, desired: Desired) -> Report {
        self.sends.lock().unwrap().clear();
        self.syncer.want(desired.rules);
        self.client.pass(&mut self.syncer)
    }

    /// Waits for the next change, and tells what the pass over it sends: the commands of each datagram.
    async fn next(&mut self) -> Vec<Vec<Command>> {
        let desired = desired(&self.world.watch.next().await);
        let report = self.pass(desired);
        assert!(report.is_success(), "{report}");
        let sends = self.sends.lock().unwrap();
        let named = |number: &u8| Command::from_number(*number).unwrap();
        sends.iter().map(|commands| commands.iter().map(named).collect()).collect()
    }

    fn table(&self) -> String {
        self.kernel.connect().unwrap().ruleset().unwrap().to_string()
    }
}

#[tokio::test]
async fn an_endpoint_added_or_removed_is_one_send_and_one_replaced_is_two() {
    let mut node = Node::new(&Options::default()).await;
    let put = |node: &Node, endpoints: &[u8]| {
        node.world.api.put(Slices, slice("dns", "UDP", 5353, endpoints));
    };
    put(&node, &[3, 4, 5]);
    assert_eq!(node.next().await, [[NewDest]]);
    put(&node, &[4, 5]);
    assert_eq!(node.next().await, [[DelDest]]);
    put(&node, &[4, 6]);
    assert_eq!(node.next().await, [[NewDest], [DelDest]]);
    let table = node.table();
    assert!(table.contains("10.244.0.6:5353") && !table.contains("10.244.0.5:5353"), "{table}");
}

/// Whether it has connections, IPVS alone knows: its service is read, and no other.
#[tokio::test]
async fn an_endpoint_of_tcp_has_weight_0_before_it_goes() {
    let mut node = Node::new(&Options::default()).await;
    node.world.api.put(Slices, slice("web", "TCP", 8080, &[1, 2, 5]));
    assert_eq!(node.next().await, [[NewDest]]);
    node.world.api.put(Slices, slice("web", "TCP", 8080, &[1, 2]));
    assert_eq!(node.next().await, [[SetDest], [GetService], [GetDest], [DelDest]]);
}

#[tokio::test]
async fn an_event_that_changes_no_rule_sends_nothing() {
    let mut node = Node::new(&Options::default()).await;
    let mut headless = service("db", "None", "TCP", 5432);
    headless["spec"]["clusterIP"] = json!("None");
    node.world.api.put(Services, headless);
    assert!(node.next().await.is_empty());
    node.world.api.put(Slices, slice("db", "TCP", 5432, &[8]));
    assert!(node.next().await.is_empty());
    let mut not_ready = slice("db", "TCP", 5432, &[8]);
    not_ready["endpoints"][0]["conditions"] = json!({ "ready": false });
    node.world.api.put(Slices, not_ready);
    assert!(node.next().await.is_empty());
}

#[tokio::test]
async fn an_emptied_list_is_withheld() {
    let mut node = Node::new(&Options::default()).await;
    let before = node.table();
    node.world.api.forget(Services);
    node.world.api.send(Services, &server::gone());
    let emptied = desired(&node.world.watch.next().await);
    assert_eq!(emptied.rules.services().len(), 0);
    let report = node.pass(emptied);
    let excess = report.excess.expect("the losses are withheld");
    assert_eq!((excess.services, node.table()), (2, before.clone()));
    // Once the Services are back, nothing differs.
    node.world.api.put(Services, service("web", "10.96.0.10", "TCP", 80));
    node.world.api.put(Services, service("dns", "10.96.0.53", "UDP", 53));
    while node.world.watch.next().await.services.len() < 2 {}
    let whole = node.world.desired();
    assert!(node.pass(whole).is_success());
    assert!(node.sends.lock().unwrap().is_empty());
    assert_eq!(node.table(), before);
}

#[tokio::test]
async fn an_api_server_that_is_away_has_the_table_stay() {
    let mut node = Node::new(&Options::default()).await;
    let before = node.table();
    node.world.api.go().await;
    node.world.until(|status| !status.services.is_connected).await;
    // A pass in between, as a timer makes one, finds nothing to do.
    let desired = node.world.desired();
    assert!(node.pass(desired).is_success());
    assert!(node.sends.lock().unwrap().is_empty());
    node.world.api.fail(Services, [Fault::Status(410), Fault::Status(500), Fault::Half]);
    node.world.api.come().await;
    node.world.until(Status::is_connected).await;
    assert_eq!(node.table(), before);
    node.world.api.put(Slices, slice("dns", "UDP", 5353, &[3, 4, 5]));
    assert_eq!(node.next().await, [[NewDest]]);
}
