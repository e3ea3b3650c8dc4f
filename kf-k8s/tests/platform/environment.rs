use serde_json::{Value as Json, json};

use super::{Row, constant, input, output, row};

/// Environment variables.
pub(super) fn rows() -> Vec<Row> {
    let secret = |mut item: Json| {
        item["keyToEnv"] = json!([{"secretKey": "password", "envVar": "SECRET_VAR"}]);
        json!({"secretAsEnv": [item]})
    };
    let map = |mut item: Json| {
        item["keyToEnv"] = json!([{"configMapKey": "foo", "envVar": "MAP_VAR"}]);
        json!({"configMapAsEnv": [item]})
    };
    let has = |row: Row, name: &str, kind: &str, reference: Json| {
        row.main(json!({"env": [{"name": name, "valueFrom": {kind: reference}}]}))
    };
    let of_secret = |row: Row, reference: Json| has(row, "SECRET_VAR", "secretKeyRef", reference);
    let of_map = |row: Row, reference: Json| has(row, "MAP_VAR", "configMapKeyRef", reference);
    let reference = |name: &str, key: &str| json!({"name": name, "key": key});
    vec![
        of_secret(
            row("secret variable, deprecated name", secret(json!({"secretName": "my-secret"}))),
            reference("my-secret", "password"),
        ),
        of_secret(
            row(
                "secret variable, a parameter comes before the deprecated name",
                secret(json!({"secretName": "not-used", "secretNameParameter": constant("my-secret")})),
            ),
            reference("my-secret", "password"),
        ),
        of_secret(
            row("secret variable of an input", secret(json!({"secretNameParameter": input("param_1")})))
                .parameters(json!({"param_1": "secret-name"})),
            reference("secret-name", "password"),
        ),
        of_secret(
            row(
                "secret variable of an output, optional",
                secret(json!({"secretNameParameter": output("t", "o"), "optional": true})),
            )
            .parameters(json!({"t.o": "s"})),
            json!({"name": "s", "key": "password", "optional": true}),
        ),
        of_secret(
            row("secret variable, not optional", secret(json!({"secretName": "s", "optional": false}))),
            json!({"name": "s", "key": "password", "optional": false}),
        ),
        row(
            "secret variable of an input that is null",
            secret(json!({"secretNameParameter": input("param_1")})),
        )
        .parameters(json!({"param_1": null}))
        .notes(&["/secretAsEnv/0/secretNameParameter"]),
        of_map(
            row("config map variable, deprecated name", map(json!({"configMapName": "my-cm"}))),
            reference("my-cm", "foo"),
        ),
        of_map(
            row(
                "config map variable of an input, optional",
                map(json!({
                    "configMapName": "not-used", "configMapNameParameter": input("a"), "optional": true,
                })),
            )
            .parameters(json!({"a": "my-cm"})),
            json!({"name": "my-cm", "key": "foo", "optional": true}),
        ),
        row("config map variable of an input that is null", map(json!({"configMapNameParameter": input("a")})))
            .parameters(json!({"a": null}))
            .notes(&["/configMapAsEnv/0/configMapNameParameter"]),
        row(
            "several keys, several kinds",
            json!({
                "secretAsEnv": [{
                    "secretNameParameter": constant("my-secret"),
                    "keyToEnv": [
                        {"secretKey": "password", "envVar": "PASSWORD"}, {"secretKey": "user", "envVar": "NAME"},
                    ],
                }],
                "fieldPathAsEnv": [
                    {"name": "KFP_RUN_NAME", "fieldPath": "metadata.annotations['pipelines.kubeflow.org/run_name']"},
                    {"name": "IP", "fieldPath": "status.podIP"},
                ],
            }),
        )
        .main(json!({"env": [
            {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "my-secret", "key": "password"}}},
            {"name": "NAME", "valueFrom": {"secretKeyRef": {"name": "my-secret", "key": "user"}}},
            {"name": "KFP_RUN_NAME", "valueFrom": {
                "fieldRef": {"fieldPath": "metadata.annotations['pipelines.kubeflow.org/run_name']"},
            }},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        ]})),
    ]
}
