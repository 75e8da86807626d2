-- Version 4: what a host says and shows of its own pace: a Crawl-delay, an announced limit, what it was seen to bear, and
-- how many requests it has served since its lane opened. A small JSON object; NULL: it has said and served nothing.

ALTER TABLE lanes ADD COLUMN host TEXT;
