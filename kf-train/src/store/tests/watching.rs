//! What the server's owner sees.

use super::*;

#[tokio::test]
async fn changes_under_the_prefix_alone() {
    let server = served().await;
    let mut watch = server.watch("agents/");
    let client = client(&server).await;
    assert!(watch.snapshot().is_empty());
    client.set("agents/0", "one").await.unwrap();
    client.set("agents/1", "two").await.unwrap();
    client.set("agent", "no").await.unwrap();
    watch.changed().await.unwrap();
    let seen = watch.snapshot();
    assert_eq!(seen.keys().collect::<Vec<_>>(), ["agents/0", "agents/1"]);
    assert!(seen.values().all(|entry| entry.connected) && seen["agents/0"].value == "one");
    assert!(seen["agents/0"].revision < seen["agents/1"].revision);
    assert!(seen["agents/0"].set_at <= seen["agents/1"].set_at);
    client.set("other", "").await.unwrap();
    tokio::time::timeout(SHORT, watch.changed()).await.unwrap_err();
    client.set("agents/0", "one").await.unwrap();
    watch.changed().await.unwrap();
    assert!(watch.snapshot()["agents/0"].revision > seen["agents/1"].revision);
    client.delete("agents/1").await.unwrap();
    watch.changed().await.unwrap();
    assert_eq!(watch.snapshot().len(), 1);
    assert_eq!(server.snapshot("agent").len(), 2);
    drop(server);
    assert!(matches!(watch.changed().await, Err(Error::StoreEnded)));
}

#[tokio::test]
async fn the_end_of_a_connection_is_told_at_once() {
    let server = served().await;
    let mut watch = server.watch("agents/");
    let (dies, lives) = (client(&server).await, client(&server).await);
    for key in ["agents/0", "agents/1"] {
        dies.set(key, "").await.unwrap();
    }
    lives.set("agents/1", "taken over").await.unwrap();
    watch.changed().await.unwrap();
    let began = Instant::now();
    drop(dies);
    while watch.snapshot()["agents/0"].connected {
        watch.changed().await.unwrap();
    }
    assert!(began.elapsed() < LONG / 10);
    assert!(watch.snapshot()["agents/1"].connected);
    // What is no agent's ends unnoticed.
    drop(client(&server).await);
    tokio::time::timeout(SHORT, watch.changed()).await.unwrap_err();
    lives.set("agents/0", "back").await.unwrap();
    watch.changed().await.unwrap();
    assert!(watch.snapshot()["agents/0"].connected);
}

#[tokio::test]
async fn a_thousand_keys_are_cheap() {
    let server = served().await;
    let client = client(&server).await;
    let entries: Vec<_> = (0..1000).map(|i| (format!("agents/{i:04}"), "x".repeat(100))).collect();
    client.multi_set(&entries).await.unwrap();
    let began = Instant::now();
    for _ in 0..100 {
        assert_eq!(server.snapshot("agents/").len(), 1000);
    }
    println!("a snapshot of 1,000 keys: {:?}", began.elapsed() / 100);
}
