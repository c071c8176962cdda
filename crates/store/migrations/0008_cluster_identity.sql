-- Which cluster is meant by a name of the configuration. A kubeconfig that leads elsewhere one day must not be taken for the same.
CREATE TABLE cluster (
    name TEXT NOT NULL PRIMARY KEY,
    identity TEXT NOT NULL UNIQUE
) STRICT;
