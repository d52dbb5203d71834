"""A Hugging Face hub of one's own: an HTTP server with the calls that fetching a repository needs, and faults on demand.

It answers as huggingface.co does: `/api/models/...` describes files with sizes and hashes, `/resolve/` sends git's files
itself and redirects to another address for those in LFS, which takes ranges and refuses a token. The ids of data sets
begin with `datasets/`; the hub's own conversion of one has the id `datasets/OWNER/NAME/refs/convert/parquet`.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote

COMMIT = "c0ffee" + "0" * 34
CONVERTED_COMMIT = "c0de" + "0" * 36
CONVERTED = "refs/convert/parquet"
LFS_FROM = 1000
"""Bytes from which on a file is in LFS."""


@dataclass
class FakeHub:
    """What it has, what it does wrong, and what it was asked for."""

    url: str
    repositories: dict[str, dict[str, bytes]]
    plain: dict[str, bytes] = field(default_factory=dict)
    """Files at other addresses than a hub's: path -> bytes."""
    commit: str = COMMIT
    """The one revision that it has."""
    status: int = 200
    """Of the API; 401 as for a repository that is private or does not exist, 418 for a bad token."""
    headers: dict[str, str] = field(default_factory=dict)
    """More of them on an answer with another status."""
    cut_after: dict[str, int] = field(default_factory=dict)
    """Path -> bytes after which the connection ends; asking for it again is answered by 503."""
    stall_after: dict[str, int] = field(default_factory=dict)
    """Path -> bytes after which nothing more comes until the server ends."""
    wrong: set[str] = field(default_factory=set)
    """Paths whose bytes are not those that the hub says."""
    ignores_ranges: bool = False
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    """(path, range) of each file that was sent."""
    tokens: list[tuple[str, str | None]] = field(default_factory=list)
    """(address, authorization) of each request."""
    ended: threading.Event = field(default_factory=threading.Event)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _sibling(path: str, data: bytes) -> dict[str, Any]:
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    lfs = {"lfs": {"sha256": _sha256(data), "size": len(data), "pointerSize": 130}} if len(data) >= LFS_FROM else {}
    return {"rfilename": path, "size": len(data), "blobId": blob, **lfs}


def _entry(sibling: dict[str, Any]) -> dict[str, Any]:
    lfs = sibling.get("lfs")
    entry = {"type": "file", "path": sibling["rfilename"], "size": sibling["size"], "oid": sibling["blobId"]}
    return entry | ({"lfs": {"oid": lfs["sha256"], "size": lfs["size"], "pointerSize": lfs["pointerSize"]}} if lfs else {})


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        hub = self.hub
        hub.tokens.append((self.path, self.headers.get("Authorization")))
        path = self.path.partition("?")[0]
        if path.startswith("/api/models/"):
            self._api(path)
        elif path.startswith("/api/datasets/"):
            self._dataset_api(unquote(path))
        elif path.startswith("/plain/") and path[7:] in hub.plain:
            self._file(path[7:], hub.plain[path[7:]])
        elif path.startswith("/lfs/"):
            name, _, rest = path[5:].partition("@")
            if self.headers.get("Authorization"):
                self._answer(400, b"only one auth mechanism allowed")
            else:
                self._file(rest, hub.repositories[name][rest])
        else:
            self._resolve(path)

    def do_HEAD(self) -> None:
        hub = self.hub
        hub.tokens.append((self.path, self.headers.get("Authorization")))
        name, rest, data = self._find(self.path)
        if hub.status != 200:
            return self._answer(hub.status, b"", hub.headers)
        if data is None:
            return self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
        commit = CONVERTED_COMMIT if name.endswith(CONVERTED) else hub.commit
        headers = {"X-Repo-Commit": commit, "ETag": f'"{_sha256(data)}"', "Content-Length": str(len(data))}
        if len(data) < LFS_FROM:
            return self._answer(200, b"", headers)
        address = hub.url.replace("127.0.0.1", "localhost")
        headers |= {"X-Linked-Etag": f'"{_sha256(data)}"', "X-Linked-Size": str(len(data)), "Content-Length": "0"}
        return self._answer(302, b"", headers | {"Location": f"{address}/lfs/{name}@{rest}"})

    def do_POST(self) -> None:
        """What there is of some paths: `/api/datasets/OWNER/NAME/paths-info/REVISION`."""
        hub = self.hub
        asked = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())["paths"]
        hub.tokens.append((self.path, self.headers.get("Authorization")))
        if hub.status != 200:
            return self._answer(hub.status, b'{"error": "no"}', hub.headers)
        files = hub.repositories.get(unquote(self.path).removeprefix("/api/").partition("/paths-info/")[0], {})
        found = [_entry(_sibling(path, files[path])) for path in asked if path in files]
        return self._answer(200, json.dumps(found).encode(), {"Content-Type": "application/json"})

    def _find(self, path: str) -> tuple[str, str, bytes | None]:
        """(repository, path in it, content) of an address with `/resolve/COMMIT/`."""
        path = path.replace("/resolve/main/", f"/resolve/{self.hub.commit}/")
        name, _, rest = path[1:].partition(f"/resolve/{self.hub.commit}/")
        if not rest:
            name, _, rest = path[1:].partition(f"/resolve/{CONVERTED_COMMIT}/")
            name = f"{name}/{CONVERTED}"
        return name, rest, self.hub.repositories.get(name, {}).get(rest)

    def _resolve(self, path: str) -> None:
        hub = self.hub
        name, rest, data = self._find(path)
        if data is None:
            self._answer(404, b"Entry not found", {"X-Error-Code": "EntryNotFound"})
        elif len(data) < LFS_FROM:
            self._file(rest, data)
        else:  # localhost is another host than 127.0.0.1: no client may send it the token of the first
            address = hub.url.replace("127.0.0.1", "localhost")
            self._answer(302, b"", {"Location": f"{address}/lfs/{name}@{rest}"})

    def _api(self, path: str) -> None:
        hub = self.hub
        name, _, revision = path.removeprefix("/api/models/").partition("/revision/")
        if hub.status != 200:
            return self._answer(hub.status, b'{"error": "no"}', hub.headers)
        if name not in hub.repositories:
            return self._answer(404, b'{"error": "Repository not found"}', {"X-Error-Code": "RepoNotFound"})
        if revision not in {"", "main", hub.commit}:
            return self._answer(404, b'{"error": "Invalid rev id"}', {"X-Error-Code": "RevisionNotFound"})
        siblings = [_sibling(file, data) for file, data in hub.repositories[name].items()]
        body = {"_id": "1", "id": name, "modelId": name, "sha": hub.commit, "private": False, "siblings": siblings}
        return self._answer(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _dataset_api(self, path: str) -> None:
        hub = self.hub
        owner, name, *rest = path.removeprefix("/api/datasets/").split("/")
        repository, what, revision = f"datasets/{owner}/{name}", "".join(rest[:1]), "/".join(rest[1:])
        if hub.status != 200:
            return self._answer(hub.status, b'{"error": "no"}', hub.headers)
        if repository not in hub.repositories:
            return self._answer(401, b'{"error": "Repository not found"}', {"X-Error-Code": "RepoNotFound"})
        commit = hub.commit
        if revision in {CONVERTED, CONVERTED_COMMIT} and f"{repository}/{CONVERTED}" in hub.repositories:
            commit, repository = CONVERTED_COMMIT, f"{repository}/{CONVERTED}"
        elif revision not in {"", "main", commit}:
            return self._answer(404, b'{"error": "Invalid rev id"}', {"X-Error-Code": "RevisionNotFound"})
        body: object = {"_id": "1", "id": f"{owner}/{name}", "sha": commit, "private": False, "siblings": []}
        if what == "tree":
            body = [_entry(_sibling(file, data)) for file, data in hub.repositories[repository].items()]
        return self._answer(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _file(self, path: str, data: bytes) -> None:
        hub = self.hub
        wanted = self.headers.get("Range")
        hub.requests.append((path, wanted))
        if path in hub.wrong:
            data = bytes(byte ^ 1 for byte in data)
        status, headers, total = 200, {}, len(data)
        if wanted is not None and not hub.ignores_ranges:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, end = int(first), min(total, int(last) + 1 if last else total)
            status, headers = 206, {"Content-Range": f"bytes {start}-{end - 1}/{total}"}
            data = data[start:end]
        headers["Content-Length"] = str(len(data))
        cut = hub.cut_after.get(path)
        if cut is None:
            stall = hub.stall_after.pop(path, len(data))
            self._answer(status, data[:stall], headers)
            if stall < len(data):
                hub.ended.wait()
        elif cut < 0:
            self._answer(503, b"later")
        else:
            hub.cut_after[path] = -1
            self._answer(status, data[:cut], headers)
            self.close_connection = True

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up, as those do that are killed, is no error of the server."""


@contextmanager
def fake_hub(repositories: dict[str, dict[str, bytes]]) -> Iterator[FakeHub]:
    """Serve `repositories` (id -> path -> bytes) until the block ends."""
    handler = type("Handler", (_Handler,), {})
    with _Server(("127.0.0.1", 0), handler) as server:
        hub = FakeHub(f"http://127.0.0.1:{server.server_address[1]}", repositories)
        handler.hub = hub  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hub
        finally:
            hub.ended.set()
            server.shutdown()
            thread.join()
