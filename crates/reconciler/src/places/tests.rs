//! What is left on a cluster.

use super::*;
use runtime::simulator::Simulator;

fn name(text: &str) -> ClusterName {
    text.parse().unwrap()
}

#[tokio::test]
async fn what_only_a_cluster_has_is_left_there_for_an_hour() {
    let cluster: Arc<dyn Runtime> = Arc::new(Simulator::new());
    let clusters = Clusters([(name("staging"), cluster)].into());
    let store = Store::in_memory().await.unwrap();
    let places = Places::new(store, Arc::new(Simulator::new()), clusters);
    let found = |text: &str| Resource {
        environment: text.parse().unwrap(),
        kind: "namespace".to_owned(),
        name: text.to_owned(),
    };
    let (there, elsewhere) = (found("e000000001"), found("e000000002"));
    places
        .found(&name("staging"), std::slice::from_ref(&there))
        .await
        .unwrap();
    let minutes = |count: u64| Timestamp(1_000_000 + count * 60_000);
    assert!(places.may_remove(&elsewhere.environment, minutes(0)), "a cell's");
    assert!(!places.may_remove(&there.environment, minutes(0)));
    assert!(!places.may_remove(&there.environment, minutes(59)));
    assert!(places.may_remove(&there.environment, minutes(60)));
}
