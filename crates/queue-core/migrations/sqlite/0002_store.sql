-- Version 2: a worker process says to which store (machine and output folder) its jobs' files and manifest lines
-- belong. NULL: its work has no files, or it is a process of version 1.

ALTER TABLE workers ADD COLUMN store TEXT;

-- Whether a process holds a job that must run alone is asked with every lease, however many jobs it holds.
CREATE INDEX jobs_alone ON jobs (worker_id) WHERE state = 'in_progress' AND class = 10;
