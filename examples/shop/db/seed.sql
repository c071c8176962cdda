-- A small stock, three customers and two orders of theirs, so that no page is empty.
-- Mail addresses end in names that RFC 2606 reserves: nobody real can be reached.

INSERT INTO category (slug, name, position) VALUES
    ('paper', 'Paper', 1),
    ('table', 'Table', 2),
    ('light', 'Light', 3),
    ('green', 'Green', 4),
    ('wall',  'Wall',  5),
    ('time',  'Time',  6);

INSERT INTO product (sku, category, name, tagline, price_cents, featured, description) VALUES
    ('paper-daybook', 'paper', 'Tuesday Daybook', 'A page for every ordinary day', 1850, true,
     'Three hundred and sixty-five pages, all of them Tuesdays. Lies flat, takes ink, forgives crossings-out.'),
    ('paper-field', 'paper', 'Field Notes for Indoors', 'Squared paper, soft corners', 950, false,
     'Fits the pocket of a dressing gown. For expeditions between the kettle and the window.'),
    ('paper-ledger', 'paper', 'Ledger of Small Wins', 'Ruled in two columns', 1400, false,
     'On the left what you meant to do, on the right what you did. The right one is wider.'),
    ('paper-sketch', 'paper', 'Unfinished Sketchbook', '120 g, cream, stitched', 2200, false,
     'Begins with a half-drawn line by our bookbinder. What it becomes is up to you.'),

    ('table-morning', 'table', 'Morning Mug', 'Holds exactly one quiet', 1600, true,
     'Thrown a little thick, so that it stays warm through a long paragraph.'),
    ('table-second', 'table', 'Second Cup', 'For when the first did not help', 1600, false,
     'The same clay as the Morning Mug, fired hotter. Slightly larger, no questions asked.'),
    ('table-guest', 'table', 'Guest Mug', 'Looks better than yours', 1900, false,
     'A glaze for visitors. Put it at the front of the cupboard and say nothing.'),
    ('table-soup', 'table', 'Two-Hand Mug', 'Soup, mostly', 2100, false,
     'Wide, low and steady. It wants both hands, and that is the point of it.'),

    ('light-reading', 'light', 'One More Chapter', 'A reading lamp', 7900, true,
     'Throws a circle of light as large as an open book, and not an inch further.'),
    ('light-desk', 'light', 'Clerk', 'A desk lamp that means business', 8900, false,
     'Nods when you push it. Stays where you put it. Has never been late.'),
    ('light-dusk', 'light', 'Dusk', 'A lamp for the hour between', 6400, false,
     'Warm linen shade, brass foot. Best at ten past six in November.'),
    ('light-hall', 'light', 'Left On', 'A lamp for the hall', 5200, false,
     'The one that is on when you come home. Uses almost nothing and asks for less.'),

    ('green-fern', 'green', 'Forgiving Fern', 'Lives on neglect and praise', 2400, false,
     'Water it when you remember. It has made its peace with you.'),
    ('green-upright', 'green', 'Upright Citizen', 'Tall, calm, reliable', 3800, true,
     'Stands in the corner and improves the room. Turns towards the light once a week, and so should you.'),
    ('green-trailing', 'green', 'Slow Trailer', 'Grows towards the good chair', 2900, false,
     'A leaf a fortnight. By spring it will have reached the bookshelf.'),
    ('green-pocket', 'green', 'Window-Sill Succulent', 'Small and entirely self-sufficient', 1200, false,
     'Needs sun, a spoon of water and to be left alone on Sundays.'),

    ('wall-noon', 'wall', 'Noon, No Shadows', 'A print in four colours', 3400, false,
     'Shapes that were cut from paper by somebody who had the whole afternoon.'),
    ('wall-harbour', 'wall', 'Harbour, Remembered', 'A print in five colours', 3400, true,
     'Not how the harbour looks, but how you tell it afterwards.'),
    ('wall-hills', 'wall', 'Hills by Bus', 'A print in three colours', 2800, false,
     'Seen from a window seat, upper deck, left side. Signed by the bus.'),
    ('wall-moons', 'wall', 'Several Moons', 'A print in two colours', 2600, false,
     'An honest record of one night with a lot of clouds.'),

    ('time-kitchen', 'time', 'Kitchen Clock', 'Ticks softly, keeps secrets', 4600, false,
     'Reads well from the stove. Knows when the eggs are done, will not tell.'),
    ('time-late', 'time', 'Five Minutes Late', 'A clock for the polite', 4900, true,
     'Adjusted so that you arrive exactly when the host is ready.'),
    ('time-nap', 'time', 'Afternoon Clock', 'Has a slow stretch after two', 5400, false,
     'Perfectly accurate. It only feels longer between lunch and tea.'),
    ('time-travel', 'time', 'Travelling Clock', 'Folds flat, wakes gently', 3900, false,
     'For rooms that are not yours. Its alarm clears its throat first.');

INSERT INTO customer (email, name) VALUES
    ('ada@example.com', 'Ada Birch'),
    ('jonas@example.net', 'Jonas Okafor'),
    ('mei@example.org', 'Mei Lindqvist');

INSERT INTO customer_order (reference, customer_id, status, total_cents, test_card, announced)
    SELECT 'TUES-0001', id, 'paid'::order_status, 3450, 'approved', true FROM customer WHERE email = 'ada@example.com'
    UNION ALL
    SELECT 'TUES-0002', id, 'declined', 7900, 'declined', true FROM customer WHERE email = 'jonas@example.net';

INSERT INTO order_line (order_id, sku, name, quantity, price_cents)
    SELECT o.id, p.sku, p.name, 1, p.price_cents
    FROM customer_order o
    JOIN (VALUES ('TUES-0001', 'paper-daybook'), ('TUES-0001', 'table-morning'), ('TUES-0002', 'light-reading'))
        AS bought (reference, sku) USING (reference)
    JOIN product p USING (sku);

INSERT INTO outbox (reference, kind, recipient, subject, body) VALUES
    ('TUES-0001', 'payment.authorised', 'Ada Birch <ada@example.com>', 'Paid, with thanks (TUES-0001)',
     E'Dear Ada Birch,\n\nyour payment of € 34.50 went through. Your parcel leaves on Tuesday.\n\nOrdinary Tuesday'),
    ('TUES-0002', 'payment.declined', 'Jonas Okafor <jonas@example.net>', 'About your payment (TUES-0002)',
     E'Dear Jonas Okafor,\n\nyour card was declined, so nothing was charged. Your lamp waits for you.\n\nOrdinary Tuesday');
