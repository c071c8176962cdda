"""catalog: what the shop sells, from PostgreSQL.

GET /categories            GET /products[?category=&q=&skus=a,b]            GET /products/<sku>
"""

import os

from kit.database import Database, rows
from kit.serve import Problem, Service, wait_for

MAX_PRODUCTS = 200

service = Service("catalog", 8081)
database = Database(os.environ.get("DATABASE_URL", "postgres://shop:shop@postgres:5432/shop"))


def query(sql, *values):
    def work(cursor):
        cursor.execute(sql, values)
        return rows(cursor)
    return database.run(work)


@service.route("GET", "/categories")
def categories(_request):
    return 200, {"categories": query("SELECT slug, name FROM category ORDER BY position")}


@service.route("GET", "/products")
def products(request):
    category, text = request.query.get("category"), request.query.get("q")
    skus = request.query["skus"].split(",")[:MAX_PRODUCTS] if "skus" in request.query else None
    found = query(
        """SELECT sku, product.name, category, category.name AS category_name, tagline, price_cents, featured
           FROM product JOIN category ON slug = category
           WHERE (%s IS NULL OR category = %s)
             AND (%s IS NULL OR position(lower(%s) IN lower(product.name || ' ' || tagline || ' ' || description)) > 0)
             AND (%s IS NULL OR sku = ANY (%s))
           ORDER BY featured DESC, category.position, product.name LIMIT %s""",
        category, category, text, text, skus, skus, MAX_PRODUCTS)
    return 200, {"products": found}


@service.route("GET", "/products/([a-z0-9-]{1,64})")
def product(_request, sku):
    found = query(
        """SELECT sku, product.name, category, category.name AS category_name, tagline, description, price_cents
           FROM product JOIN category ON slug = category WHERE sku = %s""", sku)
    if not found:
        raise Problem(404, "we do not sell that")
    return 200, found[0]


def check():
    """Healthy means: the tables are there, not only the server."""
    query("SELECT 1 FROM product LIMIT 1")


if __name__ == "__main__":
    service.check("postgres", check)
    service.background(lambda: wait_for(service, "postgres", check))
    service.run()
