"""A webhook in a box: appends each message that is posted to a file. Arguments: address, port, file, a wanted Authorization."""

import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    """Takes a message."""

    def do_POST(self) -> None:
        """Keep a message as a line."""
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if sys.argv[4:] and self.headers["Authorization"] != sys.argv[4]:
            self.send_response(401)
            self.end_headers()
            return
        with Path(sys.argv[3]).open("ab") as messages:
            messages.write(content + b"\n")
        self.send_response(200)
        self.end_headers()


if __name__ == "__main__":
    HTTPServer((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
