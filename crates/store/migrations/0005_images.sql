-- What an image's name stood for when a registry was asked last, so that a registry that is away holds nothing up.
CREATE TABLE image_name (
    reference TEXT PRIMARY KEY,
    told TEXT NOT NULL,
    facts_json TEXT NOT NULL,
    looked INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
-- The images that were brought to the runtime.
CREATE TABLE image (
    digest TEXT PRIMARY KEY,
    reference TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    created INTEGER NOT NULL,
    last_used INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
