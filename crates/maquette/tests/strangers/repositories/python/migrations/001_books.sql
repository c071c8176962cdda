CREATE TABLE book (id serial PRIMARY KEY, title text NOT NULL, year integer NOT NULL);
