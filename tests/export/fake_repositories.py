"""A hub on this machine that takes uploads: the answers `huggingface_hub` needs to make a commit.

In: a token it accepts. Out: an HTTP server on 127.0.0.1, and the files committed to it.
"""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_fake"


class Repositories(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    files: dict[str, dict[str, bytes]]
    private: dict[str, bool]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urlsplit(self.path).path
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._answer(401, {"error": "Invalid username or password."})
        if path == "/api/validate-yaml":
            return self._answer(200, {"errors": [], "warnings": []})
        if path == "/api/repos/create":
            wanted = json.loads(body)
            name = f"{wanted['organization']}/{wanted['name']}"
            if name.startswith("someone-else/"):
                return self._answer(403, {"error": "You don't have the rights."})
            known = name in self.files
            self.files.setdefault(name, {})
            private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
            self.private.setdefault(name, private)
            return self._answer(409 if known else 200, {"url": self._address(name)})
        _, _, _, owner, repo, what, _ = path.split("/")
        if what == "preupload":
            paths = [file["path"] for file in json.loads(body)["files"]]
            plain = {"uploadMode": "regular", "shouldIgnore": False, "oid": None}
            return self._answer(200, {"files": [{"path": p, **plain} for p in paths]})
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                content = base64.b64decode(line["value"]["content"])
                self.files[f"{owner}/{repo}"][line["value"]["path"]] = content
        self._answer(
            200,
            {
                "success": True,
                "commitOid": COMMIT,
                "commitUrl": f"{self._address(f'{owner}/{repo}')}/commit/{COMMIT}",
            },
        )

    def _address(self, name: str) -> str:
        return f"http://{self.headers['Host']}/{name}"

    def _answer(self, status: int, value: object) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None: ...


@contextmanager
def fake_repositories() -> Iterator[tuple[str, type[Repositories]]]:
    """The server's address, and what it holds: `files` and `private` by repository."""
    handler = type("Handler", (Repositories,), {"files": {}, "private": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", handler
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
