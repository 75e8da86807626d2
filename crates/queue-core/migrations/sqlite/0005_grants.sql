-- Version 5: a lane's pace keeps the grants that may still be taken back beside what is counted for good. What version 4
-- kept of its latest start is counted for good.

UPDATE lanes SET pace = json_object('counted', json(json_remove(pace, '$.latest'))) WHERE pace <> '{}';

-- 1: the turn is put off until a slot is freed, or until a holder has used its grant.
ALTER TABLE turns ADD COLUMN waits INTEGER NOT NULL DEFAULT 1 CHECK (waits IN (0, 1));
