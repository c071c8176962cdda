CREATE TABLE instance (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    id TEXT NOT NULL
) STRICT;

CREATE TABLE pull_request (
    project TEXT NOT NULL,
    source TEXT NOT NULL,
    number INTEGER NOT NULL,
    title TEXT NOT NULL,
    author TEXT NOT NULL,
    branch TEXT NOT NULL,
    head TEXT NOT NULL,
    base TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'closed', 'merged')),
    fork INTEGER NOT NULL,
    trusted INTEGER NOT NULL,
    draft INTEGER NOT NULL,
    labels_json TEXT NOT NULL,
    web_url TEXT,
    observed INTEGER NOT NULL,
    closed_reads INTEGER NOT NULL,
    PRIMARY KEY (project, source, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE delivery (
    project TEXT NOT NULL,
    source TEXT NOT NULL,
    delivery TEXT NOT NULL,
    kind TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (project, source, delivery)
) STRICT, WITHOUT ROWID;
CREATE INDEX delivery_at ON delivery (at);

CREATE TABLE environment (
    id TEXT PRIMARY KEY,
    project TEXT NOT NULL,
    origin_json TEXT NOT NULL,
    label TEXT NOT NULL,
    created INTEGER NOT NULL,
    wanted INTEGER NOT NULL,
    reason TEXT NOT NULL,
    approved_commit TEXT,
    head_json TEXT NOT NULL,
    newest INTEGER,
    live INTEGER,
    failed INTEGER,
    power TEXT NOT NULL CHECK (power IN ('running', 'frozen', 'stopped')),
    ended INTEGER,
    live_at INTEGER,
    nudged INTEGER,
    overrides_json TEXT NOT NULL
) STRICT;
-- One pull request, one branch, one base: one environment. A clone may be cloned, and a golden made, more than once.
CREATE UNIQUE INDEX environment_origin ON environment (project, origin_json)
    WHERE ended IS NULL AND json_extract(origin_json, '$.clone') IS NULL AND origin_json <> '"golden"';
CREATE UNIQUE INDEX environment_label ON environment (label) WHERE ended IS NULL AND origin_json <> '"golden"';
CREATE INDEX environment_project ON environment (project, created);

CREATE TABLE generation (
    environment TEXT NOT NULL REFERENCES environment (id),
    generation INTEGER NOT NULL,
    inputs TEXT NOT NULL,
    spec_json TEXT NOT NULL,
    policy_commit TEXT,
    restores INTEGER,
    created INTEGER NOT NULL,
    outcome TEXT CHECK (outcome IN ('live', 'failed', 'superseded')),
    failure_json TEXT,
    notes_json TEXT NOT NULL,
    PRIMARY KEY (environment, generation)
) STRICT, WITHOUT ROWID;

CREATE TABLE data_fact (
    environment TEXT NOT NULL,
    service TEXT NOT NULL,
    fact_json TEXT NOT NULL,
    PRIMARY KEY (environment, service)
) STRICT, WITHOUT ROWID;

CREATE TABLE attempt (
    environment TEXT NOT NULL,
    generation INTEGER NOT NULL,
    step TEXT NOT NULL,
    count INTEGER NOT NULL,
    last INTEGER NOT NULL,
    next INTEGER,
    failure_json TEXT,
    succeeded INTEGER NOT NULL,
    PRIMARY KEY (environment, generation, step)
) STRICT, WITHOUT ROWID;

CREATE TABLE step (
    environment TEXT NOT NULL,
    generation INTEGER NOT NULL,
    step TEXT NOT NULL,
    began INTEGER NOT NULL,
    ended INTEGER,
    ok INTEGER,
    PRIMARY KEY (environment, generation, step)
) STRICT, WITHOUT ROWID;

CREATE TABLE event (
    id INTEGER PRIMARY KEY,
    environment TEXT,
    project TEXT NOT NULL,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    text TEXT NOT NULL
) STRICT;
CREATE INDEX event_environment ON event (environment, id);
CREATE INDEX event_project ON event (project, id);

CREATE TABLE ledger (
    environment TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    intended INTEGER NOT NULL,
    gone INTEGER,
    PRIMARY KEY (environment, kind, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE receipt (
    environment TEXT PRIMARY KEY,
    completed INTEGER NOT NULL,
    receipt_json TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE announcement (
    project TEXT NOT NULL,
    source TEXT NOT NULL,
    number INTEGER NOT NULL,
    comment_id TEXT,
    comment_digest TEXT,
    status_commit TEXT,
    status_digest TEXT,
    PRIMARY KEY (project, source, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE token (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    hash BLOB NOT NULL UNIQUE,
    created INTEGER NOT NULL,
    expires INTEGER
) STRICT;

CREATE TABLE link (
    hash BLOB PRIMARY KEY,
    subject TEXT NOT NULL,
    scope TEXT,
    expires INTEGER NOT NULL,
    uses_left INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE session (
    hash BLOB PRIMARY KEY,
    subject TEXT NOT NULL,
    scope TEXT,
    host TEXT NOT NULL,
    created INTEGER NOT NULL,
    expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE golden (
    id TEXT PRIMARY KEY,
    project TEXT NOT NULL,
    engine TEXT NOT NULL,
    migrations_json TEXT NOT NULL,
    seeded INTEGER NOT NULL,
    chain_json TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('making', 'ready', 'failed')),
    failure_json TEXT,
    created INTEGER NOT NULL,
    last_used INTEGER NOT NULL,
    private_to TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX golden_project ON golden (project, created);
