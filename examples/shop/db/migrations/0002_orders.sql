-- Who buys what. Written by `orders`.

CREATE TABLE customer (
    id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email text NOT NULL UNIQUE CHECK (email LIKE '%_@_%'),
    name  text NOT NULL
);

CREATE TYPE order_status AS ENUM ('placed', 'paid', 'declined');

-- `order` is a reserved word, hence the longer name.
CREATE TABLE customer_order (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    reference   text NOT NULL UNIQUE,
    customer_id bigint NOT NULL REFERENCES customer,
    status      order_status NOT NULL DEFAULT 'placed',
    total_cents integer NOT NULL CHECK (total_cents > 0),
    test_card   text NOT NULL,
    placed_at   timestamptz NOT NULL DEFAULT now(),
    -- False until the broker has confirmed `order.placed`; such orders are announced again later.
    announced   boolean NOT NULL DEFAULT false
);

CREATE INDEX customer_order_unannounced ON customer_order (id) WHERE NOT announced;

CREATE TABLE order_line (
    order_id    bigint NOT NULL REFERENCES customer_order ON DELETE CASCADE,
    sku         text NOT NULL REFERENCES product,
    name        text NOT NULL,
    quantity    integer NOT NULL CHECK (quantity BETWEEN 1 AND 99),
    price_cents integer NOT NULL CHECK (price_cents > 0),
    PRIMARY KEY (order_id, sku)
);
