//! Volumes for tests: directories of the one node, because a cluster for tests has nothing that makes volumes.

use crate::rig::IMAGE;
use k8s_openapi::api::{
    core::v1::{PersistentVolume, Pod},
    storage::v1::StorageClass,
};
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams},
};
use serde_json::json;
use std::time::Duration;

/// Each is used once.
const VOLUMES: u32 = 30;

/// Some volumes of a class of their own.
pub(crate) struct Volumes {
    client: Client,
    pub(crate) class: String,
}

impl Volumes {
    /// Makes them. The user of pods has to be able to write, so a pod of root's makes the directories.
    pub(crate) async fn new(client: Client, class: &str) -> Self {
        let volumes = Self {
            client,
            class: class.to_owned(),
        };
        volumes
            .run("for i in $(seq 1 30); do mkdir -p /volumes/$i; chmod 777 /volumes/$i; done")
            .await;
        let kind = json!({
            "metadata": {"name": class},
            "provisioner": "kubernetes.io/no-provisioner",
        });
        let classes: Api<StorageClass> = Api::all(volumes.client.clone());
        classes
            .create(&PostParams::default(), &serde_json::from_value(kind).unwrap())
            .await
            .unwrap();
        let api: Api<PersistentVolume> = Api::all(volumes.client.clone());
        for number in 1..=VOLUMES {
            let volume = json!({
                "metadata": {"name": format!("{class}-{number}")},
                "spec": {
                    "accessModes": ["ReadWriteOnce", "ReadWriteMany"],
                    "capacity": {"storage": "2Gi"},
                    "hostPath": {"path": format!("/var/lib/{class}/{number}")},
                    "persistentVolumeReclaimPolicy": "Retain",
                    "storageClassName": class,
                },
            });
            api.create(&PostParams::default(), &serde_json::from_value(volume).unwrap())
                .await
                .unwrap();
        }
        volumes
    }

    /// Removes all of it.
    pub(crate) async fn remove(self) {
        let how = DeleteParams::default();
        let api: Api<PersistentVolume> = Api::all(self.client.clone());
        for number in 1..=VOLUMES {
            api.delete(&format!("{}-{number}", self.class), &how).await.unwrap();
        }
        let classes: Api<StorageClass> = Api::all(self.client.clone());
        classes.delete(&self.class, &how).await.unwrap();
        self.run("rm -rf /volumes/*").await;
    }

    /// Runs commands on the node's directory, as root.
    async fn run(&self, commands: &str) {
        let pod = json!({
            "metadata": {"name": self.class, "namespace": "default"},
            "spec": {
                "restartPolicy": "Never",
                "automountServiceAccountToken": false,
                "containers": [{
                    "name": "main",
                    "image": IMAGE,
                    "command": ["ash", "-c", commands],
                    "securityContext": {"runAsUser": 0},
                    "volumeMounts": [{"name": "volumes", "mountPath": "/volumes"}],
                }],
                "volumes": [{
                    "name": "volumes",
                    "hostPath": {"path": format!("/var/lib/{}", self.class), "type": "DirectoryOrCreate"},
                }],
            },
        });
        let api: Api<Pod> = Api::namespaced(self.client.clone(), "default");
        api.create(&PostParams::default(), &serde_json::from_value(pod).unwrap())
            .await
            .unwrap();
        for _ in 0..600 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let phase = api
                .get(&self.class)
                .await
                .unwrap()
                .status
                .and_then(|status| status.phase);
            match phase.as_deref() {
                Some("Succeeded") => {
                    api.delete(&self.class, &DeleteParams::default()).await.unwrap();
                    while api.get_opt(&self.class).await.unwrap().is_some() {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    return;
                }
                Some("Failed") => break,
                _ => {}
            }
        }
        panic!("the pod {} in the namespace default did not succeed", self.class);
    }
}
