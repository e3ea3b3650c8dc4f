use serde_json::{Value as Json, json};

use super::{Row, constant, input, output, row};

/// Labels of nodes, deadlines.
pub(super) fn nodes() -> Vec<Row> {
    let labels = json!({"beta.kubernetes.io/arch": "amd64", "beta.kubernetes.io/os": "linux"});
    let by = |parameter: Json| json!({"nodeSelector": {"nodeSelectorJson": parameter}});
    vec![
        row("node labels", json!({"nodeSelector": {"labels": labels}})).spec(json!({"nodeSelector": labels})),
        row("node labels of an input", by(input("param_1")))
            .parameters(json!({"param_1": labels}))
            .spec(json!({"nodeSelector": labels})),
        row("node labels of a constant", by(constant(labels.clone()))).spec(json!({"nodeSelector": labels})),
        row("no node labels", by(input("param_1"))).parameters(json!({"param_1": {}})),
        row("node labels that are null", by(output("t", "o")))
            .parameters(json!({"t.o": null}))
            .notes(&["/nodeSelector/nodeSelectorJson"]),
        row("deadline as text", json!({"activeDeadlineSeconds": "20"}))
            .spec(json!({"activeDeadlineSeconds": 20})),
        row("deadline as a number", json!({"activeDeadlineSeconds": 90}))
            .spec(json!({"activeDeadlineSeconds": 90})),
        row("deadline of zero", json!({"activeDeadlineSeconds": "0"})),
        row("deadline below zero", json!({"activeDeadlineSeconds": "-20"}))
            .notes(&["/activeDeadlineSeconds"]),
    ]
}

/// Taints.
pub(super) fn tolerations() -> Vec<Row> {
    let toleration = |n: i64| {
        json!({
            "key": format!("key{n}"), "operator": "Equal", "value": format!("value{n}"), "effect": "NoExecute",
            "tolerationSeconds": 3600 + n,
        })
    };
    // As structs of protobuf have it.
    let double = |n: i64| {
        let mut toleration = toleration(n);
        toleration["tolerationSeconds"] = json!(3600.0 + n as f64);
        toleration
    };
    let by = |parameter: Json| json!({"tolerations": [{"tolerationJson": parameter}]});
    vec![
        row(
            "toleration",
            json!({"tolerations": [
                {"key": "key1", "operator": "Equal", "value": "value1", "effect": "NoSchedule"},
                {"operator": "Exists"},
                {"key": "key2", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": "3600"},
            ]}),
        )
        .spec(json!({"tolerations": [
            {"key": "key1", "operator": "Equal", "value": "value1", "effect": "NoSchedule"},
            {"operator": "Exists"},
            {"key": "key2", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 3600},
        ]})),
        row(
            "toleration, constant",
            by(constant(json!({
                "key": "key1", "operator": "Equal", "value": "value1", "effect": "NoSchedule",
                "tolerationSeconds": null,
            }))),
        )
        .spec(json!({"tolerations": [
            {"key": "key1", "operator": "Equal", "value": "value1", "effect": "NoSchedule"},
        ]})),
        row("toleration of an input", by(input("param_1")))
            .parameters(json!({"param_1": double(1)}))
            .spec(json!({"tolerations": [toleration(1)]})),
        row(
            "tolerations of a list, an object and plain ones",
            json!({"tolerations": [
                {"tolerationJson": input("param_1")},
                {"tolerationJson": input("param_2"), "key": "not-used", "value": "not-used"},
                {"key": "key5", "operator": "Equal", "value": "value5", "effect": "NoSchedule"},
            ]}),
        )
        .parameters(json!({"param_1": [double(1), toleration(2), double(3)], "param_2": toleration(4)}))
        .spec(json!({"tolerations": [
            toleration(1), toleration(2), toleration(3), toleration(4),
            {"key": "key5", "operator": "Equal", "value": "value5", "effect": "NoSchedule"},
        ]})),
        row("toleration, an empty object", by(input("param_1"))).parameters(json!({"param_1": {}})),
        row("toleration, an empty list", by(input("param_1"))).parameters(json!({"param_1": []})),
        row("toleration that is null", by(input("param_1")))
            .parameters(json!({"param_1": null}))
            .notes(&["/tolerations/0/tolerationJson"]),
    ]
}

/// Nodes and pods.
pub(super) fn affinity() -> Vec<Row> {
    let condition = |key: &str, value: &str| json!({"key": key, "operator": "In", "values": [value]});
    let node = |row: Row, affinity: Json| row.spec(json!({"affinity": {"nodeAffinity": affinity}}));
    let required =
        |term: Json| json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}});
    let preferred = |weight: Json, term: Json| json!({"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": weight, "preference": term}]});
    let disk = json!({"matchExpressions": [condition("disktype", "ssd")]});
    let name = json!({"matchFields": [condition("metadata.name", "node-1")]});
    let by = |parameter: Json| json!({"nodeAffinity": [{"nodeAffinityJson": parameter}]});
    let security = json!({"matchExpressions": [condition("security", "S1")]});
    let zone = "topology.kubernetes.io/zone";
    vec![
        node(row("node affinity, labels", json!({"nodeAffinity": [disk]})), required(disk.clone())),
        node(row("node affinity, fields", json!({"nodeAffinity": [name]})), required(name.clone())),
        node(
            row(
                "node affinity, both, preferred, and one of nothing",
                json!({"nodeAffinity": [
                    {"matchExpressions": disk["matchExpressions"], "matchFields": name["matchFields"], "weight": 100.0},
                    {"weight": 3},
                ]}),
            )
            .notes(&["`/nodeAffinity/1` is left out"]),
            preferred(
                json!(100),
                json!({"matchExpressions": disk["matchExpressions"], "matchFields": name["matchFields"]}),
            ),
        ),
        node(
            row("node affinity, a required constant", by(constant(required(disk.clone())))),
            required(disk.clone()),
        ),
        node(
            row("node affinity, a preferred input", by(input("a")))
                .parameters(json!({"a": preferred(json!(100.0), disk.clone())})),
            preferred(json!(100), disk.clone()),
        ),
        row("node affinity, an empty object", by(constant(json!({})))),
        row("node affinity that is null", by(output("t", "o")))
            .parameters(json!({"t.o": null}))
            .notes(&["/nodeAffinity/0/nodeAffinityJson"]),
        row(
            "pod affinity",
            json!({"podAffinity": [{
                "matchPodExpressions": security["matchExpressions"], "matchPodLabels": {"app": "store"},
                "topologyKey": zone, "namespaces": ["team-a"],
            }]}),
        )
        .spec(json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{
            "labelSelector": {"matchExpressions": security["matchExpressions"], "matchLabels": {"app": "store"}},
            "topologyKey": zone, "namespaces": ["team-a"],
        }]}}})),
        row(
            "pod affinity, preferred and not, beside and not",
            json!({"podAffinity": [
                {"matchPodExpressions": security["matchExpressions"], "topologyKey": zone, "weight": 10, "anti": true},
                {"matchNamespaceLabels": {"team": "a"}, "topologyKey": zone, "anti": true},
                {
                    "matchPodLabels": {"app": "store"}, "topologyKey": zone, "weight": 20.0,
                    "matchNamespaceExpressions": [{"key": "team", "operator": "Exists"}],
                },
                {"topologyKey": zone},
            ]}),
        )
        .spec(json!({"affinity": {
            "podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 20, "podAffinityTerm": {
                "labelSelector": {"matchLabels": {"app": "store"}}, "topologyKey": zone,
                "namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "Exists"}]},
            }}]},
            "podAntiAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [
                    {"namespaceSelector": {"matchLabels": {"team": "a"}}, "topologyKey": zone},
                ],
                "preferredDuringSchedulingIgnoredDuringExecution": [{
                    "weight": 10, "podAffinityTerm": {"labelSelector": security, "topologyKey": zone},
                }],
            },
        }}))
        .notes(&["`/podAffinity/3` is left out"]),
        row(
            "pod affinity of an input",
            json!({"podAffinity": [{"podAffinityJson": input("a"), "weight": 5}, {"podAffinityJson": input("none")}]}),
        )
        .parameters(json!({"a": {"labelSelector": security, "topologyKey": zone}, "none": null}))
        .spec(json!({"affinity": {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 5, "podAffinityTerm": {"labelSelector": security, "topologyKey": zone}},
        ]}}}))
        .notes(&["/podAffinity/1/podAffinityJson"]),
    ]
}

/// Devices.
pub(super) fn devices() -> Vec<Row> {
    let claimed = |row: Row, templates: &[&str]| {
        let claims: Vec<Json> = templates.iter().map(|name| json!({"name": name})).collect();
        let pod: Vec<Json> =
            templates.iter().map(|name| json!({"name": name, "resourceClaimTemplateName": name})).collect();
        row.main(json!({"resources": {"claims": claims}})).spec(json!({"resourceClaims": pod}))
    };
    let template = |name: &str| json!({"resourceClaimTemplateName": name});
    vec![
        claimed(
            row("devices", json!({"podResourceClaims": [template("gpu"), template("nic")]})),
            &["gpu", "nic"],
        ),
        claimed(
            row(
                "devices of a list, an object and null",
                json!({"podResourceClaims": [
                    {"resourceClaimJson": input("list")}, {"resourceClaimJson": constant(template("tpu"))},
                    {"resourceClaimJson": input("none")},
                ]}),
            )
            .parameters(json!({"list": [template("gpu"), template("nic")], "none": null}))
            .notes(&["/podResourceClaims/2"]),
            &["gpu", "nic", "tpu"],
        ),
    ]
}
