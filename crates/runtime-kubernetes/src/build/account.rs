//! Service accounts: one of our own without a token, and the namespace's default one, which loses its token too.

use super::{Object, Order, labels, secrets};
use k8s_openapi::api::core::v1::{LocalObjectReference, ServiceAccount};

/// The account of every pod. The default one appears some time after its namespace; pods do not wait for it.
pub(super) const NAME: &str = "environment";

pub(super) fn objects(order: &Order<'_>) -> [Object; 2] {
    let pull = order.cluster.pull_secret.as_ref().map(|_| {
        vec![LocalObjectReference {
            name: secrets::PULL.to_owned(),
        }]
    });
    let account = |name: &str, pull| {
        Object::ServiceAccount(ServiceAccount {
            metadata: labels::meta(order, name),
            automount_service_account_token: Some(false),
            image_pull_secrets: pull,
            ..ServiceAccount::default()
        })
    };
    [account("default", None), account(NAME, pull)]
}
