-- Version 2: a worker process says to which store (machine and output folder) its jobs' files and manifest lines
-- belong. NULL: its work has no files, or it is a process of version 1.

ALTER TABLE workers ADD COLUMN store TEXT;

-- Whether a process holds a job that must run alone is asked with every lease, however many jobs it holds.
CREATE INDEX jobs_alone ON jobs (worker_id) WHERE state = 'in_progress' AND class = 10;

-- 1: pruned. The row and its key stay, but what it would take to run the job again is gone.
ALTER TABLE jobs ADD COLUMN slim INTEGER NOT NULL DEFAULT 0 CHECK (slim IN (0, 1));

-- Version 1 only emptied the row. One without a payload from the start looks like that too, but it has an outcome, or
-- a line of history that says how it ended without one.
UPDATE jobs SET slim = 1
WHERE state IN ('done', 'skipped', 'error') AND published = 1 AND artifact_json = '{}' AND outcome_json IS NULL
    AND last_error IS NULL AND NOT EXISTS (SELECT 1 FROM history WHERE job = jobs.id);

-- What can be pruned, by age. A job enters at the end of its state when it is published, and leaves for good when pruned.
CREATE INDEX jobs_whole ON jobs (state, finished_at) WHERE published = 1 AND slim = 0;

-- Values that nobody asks for again go when others are written.
CREATE INDEX cache_expiry ON cache (expires_at);
