"""mail: writes letters about orders and payments, and keeps them in an outbox instead of sending them.

GET /mails[?reference=]            GET /mails/<id>
"""

import os

from kit.broker import Broker
from kit.database import Database, rows
from kit.serve import Problem, Service, wait_for
from mail.letters import compose

MAX_MAILS = 100

service = Service("mail", 8085)
database = Database(os.environ.get("DATABASE_URL", "postgres://shop:shop@postgres:5432/shop"))
broker = Broker(service, os.environ.get("AMQP_URL", "amqp://shop:shop@rabbitmq:5672"))


def query(sql, *values):
    def work(cursor):
        cursor.execute(sql, values)
        return rows(cursor)
    return database.run(work)


@service.route("GET", "/mails")
def mails(request):
    reference = request.query.get("reference")
    return 200, {"mails": query(
        """SELECT id, reference, kind, recipient, subject, to_char(sent_at, 'DD Mon, HH24:MI') AS sent,
                  left(regexp_replace(body, '(\\s|\\.{2,})+', ' ', 'g'), 140) AS preview
           FROM outbox WHERE %s IS NULL OR reference = %s ORDER BY id DESC LIMIT %s""",
        reference, reference, MAX_MAILS)}


@service.route("GET", "/mails/([0-9]{1,12})")
def mail(_request, number):
    found = query("""SELECT id, reference, kind, recipient, subject, body,
                            to_char(sent_at, 'DD Mon YYYY, HH24:MI') AS sent FROM outbox WHERE id = %s""", number)
    if not found:
        raise Problem(404, "there is no such mail")
    return 200, found[0]


def write(key, order, _send):
    """Puts a letter into the outbox. A repeated message changes nothing."""
    subject, body = compose(key, order)
    recipient = f"{order['name']} <{order['email']}>"
    database.run(lambda cursor: cursor.execute(
        """INSERT INTO outbox (reference, kind, recipient, subject, body) VALUES (%s, %s, %s, %s, %s)
           ON CONFLICT (reference, kind) DO NOTHING""", (order["reference"], key, recipient, subject, body)))
    service.log(f"{key} for {order['reference']}")


def check_database():
    query("SELECT 1 FROM outbox LIMIT 1")


def background():
    wait_for(service, "postgres", check_database)
    broker.consume("mail", write)


if __name__ == "__main__":
    service.check("postgres", check_database)
    service.check("rabbitmq", broker.check)
    service.background(background)
    service.run()
