"""A receiver of notices: the webhook to which REPARTEE_NOTICE_URL points."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def webhook():
    """A webhook that keeps the messages that it receives in `told`, and responds with `status`."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self):
            server.told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(server.status)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.told, server.status = [], 200
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
