ALTER TABLE book ADD CONSTRAINT book_once UNIQUE (title);
