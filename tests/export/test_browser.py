"""The page of docs/export.md in a headless browser: it answers as we do and asks nobody else.

Needs Debian's chromium and npm (for transformers.js); skipped where one is missing.
"""

import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tinymemorylm.export.onnx import export_onnx
from tinymemorylm.export.source import Source
from tinymemorylm.language_model import LanguageModel

DOCUMENT = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
PAGE = re.search(r"```html\n(.*?)```", DOCUMENT, re.DOTALL)
LIBRARY = re.findall(r"^cp (node_modules/\S+) page/$", DOCUMENT, re.MULTILINE)
TRANSFORMERS_JS = "@huggingface/transformers@4.3.1"
OWN_HOST_ONLY = "default-src 'self' 'unsafe-inline' 'wasm-unsafe-eval' blob: data:"
QUESTION = "What is a river?"
VISITOR = """<script type="module">
const refused = [];
const tell = (found) => fetch("/found", { method: "POST", body: JSON.stringify(found) });
const until = async (f) => { while (!f()) await new Promise((r) => setTimeout(r, 100)); };
addEventListener("securitypolicyviolation", (event) => refused.push(event.blockedURI));
addEventListener("unhandledrejection", (event) => tell({ error: String(event.reason) }));
addEventListener("error", (event) => tell({ error: event.message }));
await until(() => document.title === "ready");
document.querySelector("#said").value = QUESTION;
document.querySelector("form").requestSubmit();
await until(() => document.querySelector("#answer").textContent);
const asked = performance.getEntriesByType("resource").map((entry) => entry.name);
tell({ answer: document.querySelector("#answer").textContent, refused, asked });
</script>""".replace("QUESTION", json.dumps(QUESTION))


def browser() -> str | None:
    names = ("chromium", "chromium-headless-shell")
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


pytestmark = [
    pytest.mark.skipif(browser() is None, reason="no chromium on this machine"),
    pytest.mark.skipif(shutil.which("npm") is None, reason="no npm to install transformers.js by"),
]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The files the document copies from npm's packages."""
    folder = tmp_path_factory.mktemp("npm")
    install = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", TRANSFORMERS_JS]
    done = subprocess.run(install, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"npm can't install {TRANSFORMERS_JS}: {done.stderr[-300:]}")
    return [folder / path for path in LIBRARY]


class Visited(SimpleHTTPRequestHandler):
    """Serves the page, followed by a script that plays the visitor, and hears what it found."""

    def __init__(self, *arguments: Any, found: dict[str, Any], done: threading.Event, **more: Any):
        self.found, self.done = found, done
        super().__init__(*arguments, **more)

    def end_headers(self) -> None:
        self.send_header("Content-Security-Policy", OWN_HOST_ONLY)
        super().end_headers()

    def do_POST(self) -> None:
        self.found |= json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(204)
        self.end_headers()
        self.done.set()

    def log_message(self, format: str, *arguments: object) -> None: ...


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, dict[str, Any], threading.Event]]:
    found: dict[str, Any] = {}
    done = threading.Event()
    handler = partial(Visited, directory=str(folder), found=found, done=done)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", found, done
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    "dtype",
    ["fp32", *(pytest.param(dtype, marks=pytest.mark.slow) for dtype in ("int8", "q4"))],
)
def test_the_page_answers_and_asks_only_its_own_host(
    parity_source: Source, library: list[Path], tmp_path: Path, dtype: Any
):
    assert PAGE is not None and len(library) == 3
    page = tmp_path / "page"
    export_onnx(parity_source, page / "models" / "haiku", (dtype,))
    for path in library:
        shutil.copyfile(path, page / path.name)
    (page / "index.html").write_text(PAGE[1] + VISITOR)
    with served(page) as (address, found, done):
        visitor = subprocess.Popen(
            [
                *[str(browser()), "--headless", "--no-sandbox", "--disable-gpu"],
                *[f"--user-data-dir={tmp_path}/profile", "--remote-debugging-port=0"],
                *["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", address],
            ],
            stderr=subprocess.DEVNULL,
        )
        try:
            assert done.wait(300)
        finally:
            visitor.kill()
            visitor.wait()
    assert "error" not in found, found
    assert found["refused"] == []
    assert found["asked"] and all(name.startswith(address) for name in found["asked"])
    assert any(name.endswith(".onnx") for name in found["asked"])
    if dtype == "fp32":
        lm = LanguageModel(parity_source.model, parity_source.tokenizer)
        expected = lm.chat(QUESTION, temperature=0, max_new_tokens=60)
        assert found["answer"] == expected
