-- Mails that would have been sent. Written by `mail`, which keeps them here instead.

CREATE TABLE outbox (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    reference text NOT NULL,
    kind      text NOT NULL,
    recipient text NOT NULL,
    subject   text NOT NULL,
    body      text NOT NULL,
    sent_at   timestamptz NOT NULL DEFAULT now(),
    -- The broker may deliver a message twice; a customer must not get the mail twice.
    UNIQUE (reference, kind)
);
