import os

import psycopg2
from flask import Flask, jsonify, request

app = Flask(__name__)


def connect():
    return psycopg2.connect(os.environ["DATABASE_URL"])


@app.get("/")
def books():
    with connect() as db, db.cursor() as cursor:
        cursor.execute("SELECT title, year FROM book ORDER BY year")
        rows = cursor.fetchall()
    return "<h1>Reading list</h1><ul>" + "".join(f"<li>{title} ({year})</li>" for title, year in rows) + "</ul>"


@app.post("/books")
def add():
    with connect() as db, db.cursor() as cursor:
        cursor.execute("INSERT INTO book (title, year) VALUES (%s, %s)", (request.json["title"], request.json["year"]))
    return jsonify(ok=True), 201
