"""The texts of the mails, one function for each occasion."""


def compose(key, order):
    """Subject and body for a message of the broker."""
    return LETTERS[key](order)


def placed(order):
    return (f"We have your order ({order['reference']})",
            letter(order, "thank you. This is what you chose:", basket(order),
                   "We are asking your bank now and will write again in a moment."))


def authorised(order):
    return (f"Paid, with thanks ({order['reference']})",
            letter(order, f"your payment of {euros(order['total_cents'])} went through "
                          f"(authorisation {order['authorisation']}).",
                   basket(order), "Your parcel leaves on Tuesday."))


def declined(order):
    return (f"About your payment ({order['reference']})",
            letter(order, f"{order['reason']}, so nothing was charged.", basket(order),
                   "Everything stays on the shelf for you until Tuesday."))


LETTERS = {"order.placed": placed, "payment.authorised": authorised, "payment.declined": declined}


def letter(order, *paragraphs):
    return "\n\n".join((f"Dear {order['name']},", *paragraphs, "Yours,\nOrdinary Tuesday"))


def basket(order):
    lines = [(f"{line['quantity']} × {line['name']}", euros(line["quantity"] * line["price_cents"]))
             for line in order["lines"]]
    lines.append(("Total", euros(order["total_cents"])))
    width = max(len(name) for name, _ in lines) + 4
    return "\n".join(f"  {(name + ' ').ljust(width, '.')} {amount:>9}" for name, amount in lines)


def euros(cents):
    return f"€ {cents // 100}.{cents % 100:02}"
