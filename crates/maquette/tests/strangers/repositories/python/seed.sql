INSERT INTO book (title, year) VALUES ('The Mythical Man-Month', 1975), ('A Pattern Language', 1977);
