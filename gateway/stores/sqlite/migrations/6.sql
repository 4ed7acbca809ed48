-- Recent requests keep why they failed. `refused_by` is JSON.

ALTER TABLE activity ADD COLUMN upstream_status INTEGER;
ALTER TABLE activity ADD COLUMN reason TEXT;
ALTER TABLE activity ADD COLUMN refused_by TEXT;
