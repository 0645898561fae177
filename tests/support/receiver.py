"""A receiver of notices: the webhook to which REPARTEE_NOTICE_URL points."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def webhook():
    """A webhook that keeps the messages that it receives in `notices`, and responds with `status`."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self):
            server.notices.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(server.status)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.notices, server.status = [], 200
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
