-- What the shop sells. Read by `catalog`.

CREATE TABLE category (
    slug     text PRIMARY KEY CHECK (slug ~ '^[a-z][a-z-]*$'),
    name     text NOT NULL,
    position integer NOT NULL UNIQUE
);

CREATE TABLE product (
    sku         text PRIMARY KEY CHECK (sku ~ '^[a-z][a-z0-9-]*$'),
    category    text NOT NULL REFERENCES category,
    name        text NOT NULL,
    tagline     text NOT NULL,
    description text NOT NULL,
    price_cents integer NOT NULL CHECK (price_cents > 0),
    featured    boolean NOT NULL DEFAULT false
);

CREATE INDEX product_category ON product (category);
