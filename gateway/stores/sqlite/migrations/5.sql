-- Recent requests keep their route.

ALTER TABLE activity ADD COLUMN route TEXT;
