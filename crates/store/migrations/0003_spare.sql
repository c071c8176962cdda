-- A project may have more than one spare at a time: one that is removed while the next is made.
DROP INDEX environment_origin;
CREATE UNIQUE INDEX environment_origin ON environment (project, origin_json)
    WHERE ended IS NULL AND json_extract(origin_json, '$.clone') IS NULL AND origin_json NOT IN ('"golden"', '"spare"');
