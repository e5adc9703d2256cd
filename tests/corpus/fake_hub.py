"""A hub on this machine: the few answers `datasets` and `huggingface_hub` ask of the real one.

In: folders of data sets by name. Out: an HTTP server on 127.0.0.1 that knows one commit of each.
"""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    data_sets: dict[str, Path]
    asked: list[str]

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.asked.append(path)
        for name, folder in self.data_sets.items():
            if path.startswith(f"/api/datasets/{name}/tree/"):
                return self._json([self._entry(f, folder) for f in sorted(folder.rglob("*"))])
            if path in (f"/api/datasets/{name}", f"/api/datasets/{name}/revision/{COMMIT}"):
                files = [f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()]
                siblings = [{"rfilename": file} for file in sorted(files)]
                return self._json({"id": name, "sha": COMMIT, "siblings": siblings})
            start = f"/datasets/{name}/resolve/{COMMIT}/"
            if path.startswith(start) and (folder / path.removeprefix(start)).is_file():
                return self._file((folder / path.removeprefix(start)).read_bytes())
        code = {"X-Error-Code": "RepoNotFound" if "/api/" in path else "EntryNotFound"}
        return self._answer(404, b"{}", code)

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        for name, folder in self.data_sets.items():
            if path == f"/api/datasets/{name}/paths-info/{COMMIT}":
                asked = [folder / file for file in json.loads(body)["paths"]]
                return self._json([self._entry(f, folder) for f in asked if f.exists()])
        return self._answer(404, b"{}", {})

    def _entry(self, path: Path, folder: Path) -> dict:
        name = path.relative_to(folder).as_posix()
        if path.is_dir():
            return {"type": "directory", "path": name, "oid": "0" * 40}
        content = path.read_bytes()
        oid = hashlib.sha1(content).hexdigest()
        return {"type": "file", "path": name, "size": len(content), "oid": oid}

    def _json(self, value: object) -> None:
        self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _file(self, content: bytes) -> None:
        headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
        wanted = self.headers.get("Range")
        if wanted is None:
            return self._answer(200, content, headers)
        first, last = wanted.removeprefix("bytes=").split("-")
        stop = min(int(last or len(content)), len(content) - 1)
        headers["Content-Range"] = f"bytes {first}-{stop}/{len(content)}"
        return self._answer(206, content[int(first) : stop + 1], headers)

    def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None: ...


@contextmanager
def fake_hub(data_sets: dict[str, Path]) -> Iterator[tuple[str, list[str]]]:
    """The server's address and the paths asked of it, while it runs."""
    handler = type("Handler", (Hub,), {"data_sets": data_sets, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", handler.asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
