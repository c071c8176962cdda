-- What a configured repository was found to be on its forge. A name may be taken over by another repository; an id may not.
CREATE TABLE binding (
    project TEXT NOT NULL,
    source TEXT NOT NULL,
    address TEXT NOT NULL,
    repository TEXT NOT NULL,
    webhook INTEGER,
    webhook_digest TEXT,
    PRIMARY KEY (project, source)
) STRICT, WITHOUT ROWID;
