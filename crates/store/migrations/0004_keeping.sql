-- A step that waits for room is tried until there is some; its failures are not counted.
ALTER TABLE attempt ADD COLUMN waits INTEGER NOT NULL DEFAULT 0;
-- Why and since when an environment does not run although somebody wants it.
ALTER TABLE environment ADD COLUMN suspended_json TEXT;
-- Sources whose forge does not let us read: since when, and for how long that was seen. A row is there while it is so.
CREATE TABLE lost_access (
    project TEXT NOT NULL,
    source TEXT NOT NULL,
    since INTEGER NOT NULL,
    last INTEGER NOT NULL,
    seen INTEGER NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (project, source)
) STRICT, WITHOUT ROWID;
CREATE INDEX environment_ended ON environment (ended);
CREATE INDEX receipt_completed ON receipt (completed);
