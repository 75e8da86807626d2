-- Version 3: a worker process says which caps and paces it has, so that another can say where its own differ. NULL: it
-- sends no requests, or it is a process of an earlier version.

ALTER TABLE workers ADD COLUMN limits TEXT;
