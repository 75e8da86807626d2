-- The queue, version 1. All times are milliseconds of the store's own clock, which starts at the wall time of the
-- queue's creation and never goes back.

CREATE TABLE jobs (
    id            INTEGER PRIMARY KEY,
    artifact_id   TEXT    NOT NULL UNIQUE,
    artifact_json TEXT    NOT NULL,
    resolver_hint TEXT,
    -- Where the next request goes.
    lane          TEXT    NOT NULL,
    role          TEXT    NOT NULL CHECK (role IN ('metadata', 'landing', 'artifact')),
    -- The lane in which a slot is held now.
    slot          TEXT,
    priority      INTEGER NOT NULL CHECK (priority BETWEEN 0 AND 9),
    -- The turn that the job waits for: its priority, or 10 once two of its processes have died.
    class         INTEGER NOT NULL CHECK (class BETWEEN 0 AND 10),
    state         TEXT    NOT NULL CHECK (state IN ('queued', 'in_progress', 'done', 'skipped', 'error')),
    reason        TEXT,
    attempts      INTEGER NOT NULL DEFAULT 0,
    losses        INTEGER NOT NULL DEFAULT 0,
    throttles     INTEGER NOT NULL DEFAULT 0,
    max_attempts  INTEGER,
    available_at  INTEGER NOT NULL,
    -- Grows by one at each lease and is kept after the settlement, so that a repeated one is recognised.
    lease_token   INTEGER NOT NULL DEFAULT 0,
    lease_request INTEGER,
    leased_at     INTEGER,
    worker_id     TEXT,
    -- What settled lease_token: the state that it led to and a digest of the settlement.
    settlement    TEXT,
    checkpoint    TEXT,
    last_error    TEXT,
    outcome_json  TEXT,
    store         TEXT,
    path          TEXT,
    sha256        TEXT,
    -- 0: ended, and what it recorded is not published yet. 1: published. NULL: not ended.
    published     INTEGER,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    finished_at   INTEGER,
    CHECK ((state = 'in_progress') = (worker_id IS NOT NULL)),
    CHECK (slot IS NULL OR state = 'in_progress'),
    CHECK ((published IS NULL) = (state IN ('queued', 'in_progress')))
) STRICT;

CREATE INDEX jobs_ready ON jobs (lane, class, role, available_at, id) WHERE state = 'queued';
CREATE INDEX jobs_available ON jobs (available_at) WHERE state = 'queued';
CREATE INDEX jobs_held ON jobs (worker_id, lease_request) WHERE state = 'in_progress';
CREATE INDEX jobs_slot ON jobs (slot) WHERE slot IS NOT NULL;
CREATE INDEX jobs_unpublished ON jobs (id) WHERE published = 0;
CREATE INDEX jobs_error ON jobs (id) WHERE state = 'error';
CREATE UNIQUE INDEX jobs_path ON jobs (store, path COLLATE NOCASE) WHERE path IS NOT NULL;

-- What is remembered of a host. A lane without a row has nothing to remember.
CREATE TABLE lanes (
    lane          TEXT    PRIMARY KEY,
    not_before    INTEGER NOT NULL DEFAULT 0,
    cause         TEXT,
    -- Slots given while it reopens step by step; NULL: as many as configured.
    reopening     INTEGER,
    failures      INTEGER NOT NULL DEFAULT 0,
    served_at     INTEGER NOT NULL DEFAULT 0,
    penalty       TEXT,
    pace          TEXT    NOT NULL DEFAULT '{}',
    paused_until  INTEGER NOT NULL DEFAULT 0,
    pause_reason  TEXT
) STRICT, WITHOUT ROWID;

CREATE INDEX lanes_closed ON lanes (not_before);
CREATE INDEX lanes_paused ON lanes (paused_until) WHERE paused_until > 0;

-- One row for each (lane, class) with queued jobs. open_at is a lower bound on when it may give; visit orders the
-- turns that open at the same millisecond.
CREATE TABLE turns (
    lane    TEXT    NOT NULL,
    class   INTEGER NOT NULL,
    open_at INTEGER NOT NULL,
    visit   INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (lane, class)
) STRICT, WITHOUT ROWID;

CREATE INDEX turns_open ON turns (class, open_at, visit, lane);

CREATE TABLE workers (
    id         TEXT    PRIMARY KEY,
    host       TEXT    NOT NULL,
    pid        INTEGER NOT NULL,
    version    TEXT    NOT NULL,
    started_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX workers_expiry ON workers (expires_at);

-- One row: the exact counts, the store's clock, and what the scheduler counts. Read at the start of each
-- transaction and written at its end, if it changed.
CREATE TABLE tally (
    id           INTEGER PRIMARY KEY CHECK (id = 1),
    queued       INTEGER NOT NULL DEFAULT 0,
    in_progress  INTEGER NOT NULL DEFAULT 0,
    done         INTEGER NOT NULL DEFAULT 0,
    skipped      INTEGER NOT NULL DEFAULT 0,
    error        INTEGER NOT NULL DEFAULT 0,
    clock_ms     INTEGER NOT NULL DEFAULT 0,
    grants       INTEGER NOT NULL DEFAULT 0,
    visits       INTEGER NOT NULL DEFAULT 0,
    -- How often something happened that could make something leasable, or ended the last job in progress.
    epoch        INTEGER NOT NULL DEFAULT 0,
    paused_until INTEGER NOT NULL DEFAULT 0,
    pause_reason TEXT
) STRICT;

INSERT INTO tally (id) VALUES (1);

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE cache (
    key        TEXT    PRIMARY KEY,
    value      TEXT    NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE history (
    id     INTEGER PRIMARY KEY,
    job    INTEGER NOT NULL,
    at     INTEGER NOT NULL,
    event  TEXT    NOT NULL,
    reason TEXT,
    worker TEXT
) STRICT;

CREATE INDEX history_job ON history (job, id);
