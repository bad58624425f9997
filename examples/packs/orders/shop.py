#!/usr/bin/env python3
"""A small shop with an HTTP interface: `shop.py [PORT]` (0: a free one) serves on 127.0.0.1 and says where.

    GET /orders/ID          an order
    POST /quotes            {"lines"}           -> {"total"}
    POST /reservations      {"order", "lines"}  -> 201 {"reservation"}, or 409 {"missing"}
    DELETE /reservations/N  gives the stock back
    POST /payments          {"order", "amount"} -> 201 {"receipt"}, 402 declined, 503 not now
    POST /shipments         {"order"}           -> 201 {"tracking"}
    POST /backorders        {"order", "lines"}  -> 201 {"backorder"}
    GET /stock, /journal    what there is, and what was done

What a POST does it does once for each Idempotency-Key.
"""
import json, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PRICES = {"tea": 450, "cup": 1200, "pot": 3900}
ORDERS = {
    1: {"id": 1, "customer": "ada", "lines": [{"article": "tea", "count": 2}, {"article": "cup", "count": 1}]},
    2: {"id": 2, "customer": "slow", "lines": [{"article": "pot", "count": 1}]},
    3: {"id": 3, "customer": "broke", "lines": [{"article": "cup", "count": 3}]},
    4: {"id": 4, "customer": "ada", "lines": [{"article": "pot", "count": 50}]},
}
UNAVAILABLE = {"slow": 2}  # how often the bank of a customer does not answer before it does
DECLINED = {"broke"}


class Shop:
    def __init__(self):
        self.lock = threading.Lock()
        self.stock = {"tea": 10, "cup": 10, "pot": 5}
        self.reservations, self.answers, self.journal, self.asked = {}, {}, [], {}

    def once(self, key, what, act):
        """Does something once for a key, and answers the same each time."""
        with self.lock:
            if key is None or key not in self.answers:
                answer = act()
                if answer[0] < 300:
                    self.journal.append(what)
                if key is None or answer[0] >= 500:
                    return answer
                self.answers[key] = answer
            return self.answers[key]

    def quote(self, body):
        return 200, {"total": sum(PRICES[line["article"]] * line["count"] for line in body["lines"])}

    def reserve(self, body):
        missing = [line["article"] for line in body["lines"] if self.stock[line["article"]] < line["count"]]
        if missing:
            return 409, {"missing": missing}
        for line in body["lines"]:
            self.stock[line["article"]] -= line["count"]
        self.reservations[body["order"]] = body["lines"]
        return 201, {"reservation": body["order"]}

    def release(self, number):
        with self.lock:
            for line in self.reservations.pop(number, []):
                self.stock[line["article"]] += line["count"]
            self.journal.append(f"release {number}")
        return 200, {}

    def pay(self, body):
        customer = ORDERS[body["order"]]["customer"]
        if customer in DECLINED:
            return 402, {"message": "the card is declined"}
        self.asked[customer] = self.asked.get(customer, 0) + 1
        if self.asked[customer] <= UNAVAILABLE.get(customer, 0):
            return 503, {"message": "the bank does not answer"}
        return 201, {"receipt": f"R-{body['order']}-{body['amount']}"}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        shop, (kind, number) = self.server.shop, self.place()
        if kind == "orders" and number in ORDERS:
            self.answer(200, ORDERS[number])
        elif kind in ("stock", "journal"):
            self.answer(200, getattr(shop, kind))
        else:
            self.answer(404, {"message": "there is no such thing"})

    def do_DELETE(self):
        kind, number = self.place()
        self.answer(*(self.server.shop.release(number) if kind == "reservations" else (404, {})))

    def do_POST(self):
        shop, (kind, _) = self.server.shop, self.place()
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        order = body.get("order")
        acts = {
            "reservations": lambda: shop.reserve(body),
            "payments": lambda: shop.pay(body),
            "shipments": lambda: (201, {"tracking": f"T-{order}"}),
            "backorders": lambda: (201, {"backorder": f"B-{order}"}),
        }
        if kind == "quotes":
            self.answer(*shop.quote(body))
        elif kind in acts:
            self.answer(*shop.once(self.headers.get("Idempotency-Key"), f"{kind} {order}", acts[kind]))
        else:
            self.answer(404, {"message": "there is no such thing"})

    def place(self):
        parts = self.path.strip("/").split("/")
        return parts[0], int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else None

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if status == 503:
            self.send_header("Retry-After", "1")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int((sys.argv[1:] or ["8200"])[0])), Handler)
    server.shop = Shop()
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
