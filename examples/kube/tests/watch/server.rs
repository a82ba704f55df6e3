//! What the API server does to a watch: pages, cuts, errors, versions that are gone, objects that cannot be read.

use futures_util::FutureExt as _;
use serde_json::json;
use tokio::sync::oneshot;

use super::api::{Api, Asked, Fault, Nodes, Services, Slices};
use super::*;

/// The requests for Services after the first two, without their versions.
fn since(world: &World) -> Vec<&'static str> {
    let asked = world.api.asked(Services).split_off(2);
    asked
        .iter()
        .map(|asked| if matches!(asked, Asked::List { .. }) { "list" } else { "watch" })
        .collect()
}

/// Changes the endpoints of a Service, and waits until the watch gives them and nothing else.
async fn sees_the_next_change(world: &mut World, last: u8) {
    world.api.put(Slices, slice("web", "TCP", 8080, &[last]));
    let text = rules(&desired(&world.watch.next().await));
    assert!(text.contains(&format!("10.244.0.{last}:8080")), "{text}");
}

#[tokio::test]
async fn nothing_is_given_before_every_kind_was_listed_and_the_own_node_is_there() {
    let api = Api::start().await;
    populate(&api);
    api.delete(Nodes, OWN);
    let mut watch = watch(&api).await;
    let (release, held) = oneshot::channel::<()>();
    api.fail(Slices, [Fault::Until(held.map(|_| ()).boxed())]);
    let mut status = watch.status();
    idle(&mut watch, async {
        status
            .wait_for(|status| status.services.is_listed && status.nodes.is_listed)
            .await
            .unwrap();
    })
    .await;
    assert!(watch.objects().unwrap_err().to_string().contains("EndpointSlice"));
    release.send(()).unwrap();
    idle(&mut watch, async {
        status.wait_for(|status| status.slices.is_listed).await.unwrap();
    })
    .await;
    assert!(!status.borrow().is_known());
    let text = status.borrow().to_string();
    assert!(text.contains("is --node its name?"), "{text}");
    api.put(Nodes, node_object(OWN, 11));
    assert_eq!(watch.next().await.services.len(), 2);
    assert!(status.borrow().is_known() && status.borrow().is_connected());
}

#[tokio::test]
async fn a_list_that_fails_is_made_again_and_counts_once_it_is_whole() {
    let api = Api::start().await;
    populate(&api);
    for kind in [Services, Slices, Nodes] {
        api.page(kind, 1);
        let faults = [Fault::Status(500), Fault::Half, Fault::Text("no JSON"), Fault::Status(503)];
        api.fail(kind, faults);
    }
    let mut watch = watch(&api).await;
    let objects = watch.next().await;
    assert_eq!((objects.services.len(), objects.slices.len(), objects.nodes.len()), (2, 2, 2));
    let asked = api.asked(Services);
    let second = Asked::List { after: Some("shop/dns".to_owned()) };
    assert_eq!((asked.len() >= 6, asked.contains(&second)), (true, true), "{asked:?}");
    let status = watch.status().borrow().clone();
    assert!(status.is_connected() && status.services.error.is_some(), "{status}");
}

#[tokio::test]
async fn a_relist_that_breaks_off_at_its_second_page_removes_nothing() {
    let mut world = World::new().await;
    let before = rules(&world.desired());
    world.api.page(Services, 1);
    let page = || Fault::Until(async {}.boxed());
    world.api.fail(
        Services,
        [page(), Fault::Half, page(), Fault::Status(410), page(), Fault::Status(500)],
    );
    world.api.send(Services, &gone());
    let until = world.api.asked(Services).len() + 9;
    let World { api, watch } = &mut world;
    idle(watch, api.until_asked(Services, until)).await;
    assert_eq!(rules(&world.desired()), before);
    let lists = since(&world);
    assert_eq!(lists, ["list", "list", "list", "list", "list", "list", "list", "list", "watch"]);
    sees_the_next_change(&mut world, 9).await;
}

pub(super) fn gone() -> String {
    json!({ "type": "ERROR", "object": {
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired",
        "message": "too old resource version", "code": 410,
    } })
    .to_string()
}

#[tokio::test]
async fn a_version_that_is_gone_is_listed_anew_be_it_said_by_the_answer_or_by_an_event() {
    let mut world = World::new().await;
    world.api.send(Services, &gone());
    let World { api, watch } = &mut world;
    idle(watch, api.until_asked(Services, 4)).await;
    assert_eq!(since(&world), ["list", "watch"]);

    world.api.fail(Services, [Fault::Status(410)]);
    world.api.end(Services);
    let World { api, watch } = &mut world;
    idle(watch, api.until_asked(Services, 7)).await;
    assert_eq!(since(&world)[2..], ["watch", "list", "watch"]);
    let error = world.watch.status().borrow().services.error.clone().unwrap();
    assert_eq!(
        error,
        "they cannot be watched: the API server says 410 Injected: as the test wants it"
    );
    sees_the_next_change(&mut world, 9).await;
}

#[tokio::test]
async fn a_watch_that_ended_goes_on_from_the_last_bookmark() {
    let mut world = World::new().await;
    let version = world.api.bookmark(Services);
    world.api.end(Services);
    let World { api, watch } = &mut world;
    idle(watch, api.until_asked(Services, 3)).await;
    let last = world.api.asked(Services).pop();
    assert_eq!(last, Some(Asked::Watch { from: version, bookmarks: true }));
}

#[tokio::test]
async fn a_connection_cut_within_a_line_loses_no_event() {
    let mut world = World::new().await;
    world.api.cut(Slices, r#"{"type":"MODIFIED","object":{"metadata":{"name":"web-1","#);
    sees_the_next_change(&mut world, 9).await;
    assert!(matches!(
        world.api.asked(Slices)[..],
        [Asked::List { .. }, Asked::Watch { .. }, Asked::Watch { .. }]
    ));
}

#[tokio::test]
async fn a_line_that_cannot_be_read_has_the_objects_listed_anew() {
    for line in
        ["what is this", r#"{"type":"NEW","object":{}}"#, "[]", r#"{"type":"ADDED","object":7}"#]
    {
        let mut world = World::new().await;
        world.api.send(Services, line);
        let World { api, watch } = &mut world;
        idle(watch, api.until_asked(Services, 4)).await;
        assert_eq!(since(&world), ["list", "watch"], "{line}");
        assert!(world.watch.status().borrow().services.error.is_some());
    }
}

#[tokio::test]
async fn an_object_that_cannot_be_read_stays_as_it_was_and_is_noted() {
    let mut world = World::new().await;
    let before = rules(&world.desired());
    let mut wrong = service("web", "10.96.0.10", "TCP", 80);
    wrong["spec"]["ports"][0]["port"] = json!("eighty");
    world.api.put(Services, wrong.clone());
    wrong["metadata"]["name"] = json!("other");
    let _ = world.watch.next().await;
    world.api.put(Services, wrong);
    let both = desired(&world.watch.next().await);
    assert_eq!(rules(&both), before);
    let notes: Vec<_> = both.notes.iter().map(ToString::to_string).collect();
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(
        notes[0].starts_with("Service shop/other: it is left out: it cannot be read: "),
        "{notes:?}"
    );
    assert!(
        notes[1].starts_with("Service shop/web: its last state that could be read is kept"),
        "{notes:?}"
    );

    // Not even a list takes the last state away.
    world.api.send(Services, &gone());
    let World { api, watch } = &mut world;
    idle(watch, api.until_asked(Services, 4)).await;
    assert_eq!(world.desired(), both);

    world.api.put(Services, service("web", "10.96.0.10", "TCP", 81));
    let mended = desired(&world.watch.next().await);
    assert!(rules(&mended).contains("10.96.0.10:81") && mended.notes.len() == 1, "{mended}");
}

#[tokio::test]
async fn what_a_newer_cluster_may_send_is_noted_and_takes_nothing_else_away() {
    let mut world = World::new().await;
    let before = rules(&world.desired());
    let mut quantum = service("quantum", "10.96.0.99", "QUIC", 443);
    quantum["spec"]["type"] = json!("Quantum");
    quantum["spec"]["entangled"] = json!({ "with": 7 });
    world.api.put(Services, quantum);
    let with = desired(&world.watch.next().await);
    // Of its type and of its protocol.
    assert_eq!((rules(&with), with.notes.len()), (before.clone(), 2), "{with}");
    world.api.put(Services, json!({ "metadata": { "namespace": "shop", "name": "bare" } }));
    assert_eq!(rules(&desired(&world.watch.next().await)), before);
}

#[tokio::test]
async fn events_that_come_twice_or_late_change_nothing() {
    let mut world = World::new().await;
    let old = slice("web", "TCP", 8080, &[1, 2]);
    sees_the_next_change(&mut world, 9).await;
    for version in ["1", "101"] {
        let mut old = old.clone();
        old["metadata"]["resourceVersion"] = json!(version);
        world.api.send(Slices, &json!({ "type": "MODIFIED", "object": old }).to_string());
        world.api.send(Slices, &json!({ "type": "DELETED", "object": old }).to_string());
    }
    // One after the other: this comes last.
    let mut status = slice("dns", "UDP", 5353, &[3, 4]);
    status["metadata"]["managedFields"] = json!([{ "manager": "another" }]);
    world.api.put(Slices, status);
    world.api.put(Slices, slice("dns", "UDP", 5353, &[5]));
    let text = rules(&desired(&world.watch.next().await));
    assert!(text.contains("10.244.0.9:8080") && text.contains("10.244.0.5:5353"), "{text}");
    assert!(!text.contains("10.244.0.1:8080"), "{text}");
}

#[tokio::test]
async fn changes_of_what_no_rule_depends_on_are_none() {
    let mut world = World::new().await;
    let mut heartbeat = node_object(OWN, 11);
    heartbeat["status"]["conditions"] = json!([{ "type": "Ready", "status": "True" }]);
    world.api.put(Nodes, heartbeat);
    let mut other = node_object("node-b", 12);
    other["metadata"]["labels"]["topology.kubernetes.io/zone"] = json!("zone-b");
    world.api.put(Nodes, other);
    let mut annotated = service("web", "10.96.0.10", "TCP", 80);
    annotated["metadata"]["annotations"] = json!({ "note": "nothing" });
    world.api.put(Services, annotated);
    let bookmarks = world.api.asked(Services).len() + 1;
    world.api.end(Services);
    let World { api, watch } = &mut world;
    idle(watch, api.until_asked(Services, bookmarks)).await;
    // What comes after them on the same connection is seen, and by it that they were read.
    world.api.put(Nodes, node_object("node-c", 13));
    assert_eq!(world.watch.next().await.nodes.len(), 3);
}

#[tokio::test]
async fn the_own_node_is_kept_as_it_was_when_the_cluster_loses_it() {
    let mut world = World::new().await;
    let before = rules(&world.desired());
    world.api.delete(Nodes, OWN);
    let without = desired(&world.watch.next().await);
    assert_eq!(rules(&without), before);
    let note = without.notes[0].to_string();
    assert_eq!(note, "Node node-a: the cluster has it no more: its last state is kept");
}

#[tokio::test]
async fn an_api_server_that_is_away_changes_nothing_and_is_found_again() {
    let mut world = World::new().await;
    let before = world.desired();
    world.api.go().await;
    let is_away = |status: &Status| {
        [&status.services, &status.slices, &status.nodes].iter().all(|kind| !kind.is_connected)
    };
    let status = world.until(is_away).await;
    let errors: Vec<_> = status.errors().collect();
    assert_eq!(errors.len(), 3, "{errors:?}");
    assert!(errors.iter().all(|(_, why)| why.contains("they cannot be")), "{errors:?}");
    assert!(status.is_known() && world.desired() == before);
    // What happens meanwhile comes later.
    world.api.put(Slices, slice("web", "TCP", 8080, &[7]));
    world.api.come().await;
    let text = rules(&desired(&world.watch.next().await));
    assert!(text.contains("10.244.0.7:8080"), "{text}");
    world.until(Status::is_connected).await;
}

#[tokio::test]
async fn an_api_server_that_falls_silent_is_asked_anew() {
    let api = Api::start().await;
    populate(&api);
    let silence = || Fault::Until(std::future::pending().boxed());
    api.fail(Services, [silence()]);
    let options = WatchOptions { api_timeout: Duration::from_secs(1), ..options(&api) };
    let mut watch = Watch::new(OWN, &options).await.unwrap();
    assert_eq!(watch.next().await.services.len(), 2);
    assert!(watch.status().borrow().services.error.is_some());
    // The watch itself is silent then.
    idle(&mut watch, api.until_asked(Services, 4)).await;
}
