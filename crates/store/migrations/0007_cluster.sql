-- The cluster on which an environment is; a cell of this machine where it is empty. It never changes, whatever the project's target is.
ALTER TABLE environment ADD COLUMN cluster TEXT;
