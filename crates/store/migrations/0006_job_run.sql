-- Runs of jobs that somebody asked for, one after the other: how each ended, or that it was cut.
CREATE TABLE job_run (
    environment TEXT NOT NULL REFERENCES environment (id),
    job TEXT NOT NULL,
    number INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    asked_by TEXT NOT NULL,
    started INTEGER NOT NULL,
    ended INTEGER,
    exit INTEGER,
    timed_out INTEGER NOT NULL DEFAULT 0,
    message TEXT,
    PRIMARY KEY (environment, job, number)
) STRICT, WITHOUT ROWID;
-- One run of a job at a time.
CREATE UNIQUE INDEX job_run_open ON job_run (environment, job) WHERE ended IS NULL;
