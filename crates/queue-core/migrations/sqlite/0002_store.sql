-- Version 2: a worker process says to which store (machine and output folder) its jobs' files and manifest lines
-- belong. NULL: its work has no files, or it is a process of version 1.

ALTER TABLE workers ADD COLUMN store TEXT;
