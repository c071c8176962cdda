"""payments: authorises what it is asked to, as a payment provider's test mode would.

It keeps nothing and has no API but /healthz: orders come and outcomes go through RabbitMQ.
"""

import hashlib
import os

from kit.broker import Broker
from kit.serve import Service

# Beyond this even the good test card is declined, as a bank might.
LIMIT_CENTS = 100_000

service = Service("payments", 8084)
broker = Broker(service, os.environ.get("AMQP_URL", "amqp://shop:shop@rabbitmq:5672"))


def authorise(_key, order, send):
    """Answers each order with an outcome, always the same one for the same order."""
    if order["test_card"] != "approved":
        reason = "the card was declined"
    elif order["total_cents"] > LIMIT_CENTS:
        reason = "the amount is above the card's limit"
    else:
        code = hashlib.sha256(order["reference"].encode()).hexdigest()[:6].upper()
        send("payment.authorised", {**order, "authorisation": code})
        service.log(f"{order['reference']} authorised")
        return
    send("payment.declined", {**order, "reason": reason})
    service.log(f"{order['reference']} declined: {reason}")


if __name__ == "__main__":
    service.check("rabbitmq", broker.check)
    service.background(lambda: broker.consume("payments", authorise))
    service.run()
