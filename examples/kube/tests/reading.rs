//! What `kubectl get` prints, in its forms, and what it never prints.
#![allow(clippy::unwrap_used, missing_docs)]

use ipvs_kube::{Cluster, NotKnown};

const SERVICE: &str = r#"{"apiVersion":"v1","kind":"Service","metadata":{"namespace":"n","name":"s"},"spec":{"clusterIP":"10.96.0.1"}}"#;
const SLICE: &str = r#"{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"s-1"},"addressType":"IPv4","endpoints":[]}"#;
const NODE: &str = r#"{"apiVersion":"v1","kind":"Node","metadata":{"name":"a"}}"#;

fn read(texts: &[&str]) -> anyhow::Result<Cluster> {
    let mut cluster = Cluster::default();
    texts.iter().try_for_each(|text| cluster.read(text))?;
    Ok(cluster)
}

fn counts(cluster: &Cluster) -> [Option<usize>; 3] {
    [
        cluster.services.as_ref().map(Vec::len),
        cluster.slices.as_ref().map(Vec::len),
        cluster.nodes.as_ref().map(Vec::len),
    ]
}

#[test]
fn lists_objects_and_files_add_up() {
    let list = format!(r#"{{"kind":"List","apiVersion":"v1","items":[{SERVICE},{SLICE},{NODE}]}}"#);
    assert_eq!(counts(&read(&[&list]).unwrap()), [Some(1); 3]);
    assert_eq!(counts(&read(&[SERVICE, SLICE, NODE]).unwrap()), [Some(1); 3]);
    assert_eq!(counts(&read(&[&list, SERVICE]).unwrap()), [Some(2), Some(1), Some(1)]);
    // As the API answers: its items have no kind of their own.
    let typed = r#"{"kind":"ServiceList","apiVersion":"v1","items":[{"metadata":{"name":"s"}}]}"#;
    assert_eq!(counts(&read(&[typed]).unwrap()), [Some(1), None, None]);
}

#[test]
fn yaml_is_read_in_documents_and_lists() {
    let yaml = "\
---
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Service
  metadata: { namespace: n, name: s, annotations: { on: 'yes', version: '1.10' } }
  spec:
    clusterIP: 10.96.0.1
    ports:
    - port: 80
      targetPort: http
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: s-1 }
addressType: IPv4
endpoints: []
---
kind: Node
metadata:
  name: a
---
";
    let cluster = read(&[yaml]).unwrap();
    assert_eq!(counts(&cluster), [Some(1); 3]);
    let ports = cluster.services.unwrap().remove(0).spec.unwrap().ports.unwrap();
    assert_eq!(ports[0].port, 80);
}

#[test]
fn nothing_is_known_before_services_slices_and_the_node_are() {
    let missing = |texts: &[&str]| read(texts).unwrap().objects("a").map(|_| ()).unwrap_err();
    let empty = r#"{"kind":"List","apiVersion":"v1","items":[]}"#;
    assert_eq!(missing(&[]), NotKnown::Kind("Service"));
    assert_eq!(missing(&[empty]), NotKnown::Kind("Service"));
    assert_eq!(missing(&[SLICE, NODE]), NotKnown::Kind("Service"));
    assert_eq!(missing(&[SERVICE, NODE]), NotKnown::Kind("EndpointSlice"));
    assert_eq!(missing(&[SERVICE, SLICE]), NotKnown::Kind("Node"));
    let other = NODE.replace("\"a\"", "\"b\"");
    let error = NotKnown::Node { wanted: "a".into(), known: vec!["b".into()] };
    assert_eq!(missing(&[SERVICE, SLICE, &other]), error);
    // A kind's own list says that there are none.
    let none =
        [r#"{"kind":"ServiceList","items":[]}"#, r#"{"kind":"EndpointSliceList","items":[]}"#];
    assert!(read(&[none[0], none[1], NODE]).unwrap().objects("a").is_ok());
}

#[test]
fn other_kinds_are_skipped() {
    let pods =
        r#"{"kind":"List","items":[{"kind":"Pod","spec":{"containers":7}},{"kind":"ConfigMap"}]}"#;
    assert_eq!(counts(&read(&[pods]).unwrap()), [None; 3]);
    // A Service of Knative's API group is another kind by the same name.
    let knative = r#"{"kind":"Service","apiVersion":"serving.knative.dev/v1","metadata":{"name":"k"},"spec":7}"#;
    let slice = r#"{"kind":"EndpointSlice","apiVersion":"discovery.k8s.io/v1beta1","metadata":{}}"#;
    assert_eq!(counts(&read(&[knative]).unwrap()), [None; 3]);
    assert!(format!("{:#}", read(&[slice]).unwrap_err()).contains("discovery.k8s.io/v1"));
}

#[test]
fn documents_may_follow_one_another() {
    let service = r#"{"kind":"Service","apiVersion":"v1","metadata":{"name":"s"}}"#;
    let node = r#"{"kind":"Node","apiVersion":"v1","metadata":{"name":"n"}}"#;
    for between in ["\n", "", "\n---\n"] {
        let text = format!("{service}{between}{node}\n");
        assert_eq!(counts(&read(&[&text]).unwrap()), [Some(1), None, Some(1)], "{text}");
    }
    // What a list has in its metadata when it is whole.
    let whole =
        r#"{"kind":"ServiceList","items":[],"metadata":{"continue":"","resourceVersion":"7"}}"#;
    assert_eq!(counts(&read(&[whole]).unwrap()), [Some(0), None, None]);
}

#[test]
fn what_cannot_be_read_is_an_error_that_says_where() {
    for (text, words) in [
        ("", "there is nothing in it"),
        ("a: b: c", "neither JSON nor YAML"),
        ("{", "neither JSON nor YAML: EOF while parsing an object at line 1"),
        (
            r#"{"kind":"ServiceList","items":[],"metadata":{"continue":"more"}}"#,
            "ask for all of it",
        ),
        (r#"{"kind":"List","items":[],"metadata":{"continue":"more"}}"#, "ask for all of it"),
        ("[]", "no Kubernetes object"),
        ("{}", "no Kubernetes object"),
        ("hello", "no Kubernetes object"),
        ("null", "there is nothing in it"),
        (r#"{"kind":"List"}"#, "a List has items"),
        (r#"{"kind":"List","items":7}"#, "no Kubernetes object"),
        (r#"{"kind":"List","items":[7]}"#, "item 1"),
        (r#"{"kind":"Service","metadata":{"namespace":"n","name":"s"},"spec":{"ports":7}}"#, "n/s"),
        (
            r#"{"kind":"Service","metadata":{"namespace":"n","name":"s"},"spec":{"ports":[{"port":1e99}]}}"#,
            "n/s",
        ),
        (r#"{"kind":"ServiceList","items":[{"metadata":{"name":7}}]}"#, "item 1"),
    ] {
        let error = format!("{:#}", read(&[text]).expect_err(text));
        assert!(error.contains(words), "{text}: {error}");
    }
}

#[test]
fn lists_within_lists_end() {
    let deep = r#"{"kind":"List","items":["#.repeat(100_000);
    assert!(read(&[&deep]).is_err());
    let closed = format!("{}{}", r#"{"kind":"List","items":["#.repeat(1000), "]}".repeat(1000));
    assert!(read(&[&closed]).is_err());
}
