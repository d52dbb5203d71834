"""A server of objects of one's own: plain HTTP and as much of S3 as reading takes, with ranges, and faults on demand.

The first part of a path is the bucket: `/bucket/folder/a.tar`. Requests for which an S3 client would sign are answered in
S3's way, with its XML, and all others as a file server does.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest

from jobs import remote_files, remote_tar


@dataclass
class ObjectStore:
    """What it has, what it does wrong, and what it was asked for."""

    url: str
    objects: dict[str, bytes] = field(default_factory=dict)
    """`bucket/key` -> content."""
    statuses: list[int] = field(default_factory=list)
    """Of the next answers to GET that ask for content, 0 for a good one; then all are good."""
    cuts: list[int] = field(default_factory=list)
    """Bytes after which the connection ends in the next good answers to GET."""
    refuses: int = 0
    """The status of every answer, if not 0."""
    ranges: bool = True
    """Whether ranges are understood; if not, it does not say so."""
    sizes: bool = True
    """Whether it says how large an object is."""
    tags: bool = True
    """Whether it says which version of an object it is."""
    on_get: object = None
    """Called before content is sent, with the path."""
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    """(method, path with query, range)."""
    authorizations: list[str | None] = field(default_factory=list)

    def put(self, path: str, data: bytes) -> str:
        """Have an object; returns its address over HTTP."""
        self.objects[path] = data
        return f"{self.url}/{path}"

    def gets(self, path: str) -> list[str | None]:
        """The ranges in which an object was asked for."""
        return [wanted for method, asked, wanted in self.requests if method == "GET" and asked.lstrip("/") == path]


class _Handler(BaseHTTPRequestHandler):
    store: ObjectStore
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # a body after its headers would wait 40 ms each time

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def do_HEAD(self) -> None:
        self._object(body=False)

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        if "list-type" in query:
            self._list(query)
        else:
            self._object(body=True)

    def _object(self, *, body: bool) -> None:
        store = self.store
        wanted = self.headers.get("Range")
        store.requests.append((self.command, self.path, wanted))
        store.authorizations.append(self.headers.get("Authorization"))
        path = unquote(urlsplit(self.path).path).lstrip("/")
        data = store.objects.get(path)
        status = store.refuses or (store.statuses.pop(0) if body and store.statuses else 0)
        if status:
            return self._error(status)
        if data is None:
            return self._error(404)
        if body and callable(store.on_get):
            store.on_get(path)
            data = store.objects[path]
        tag = f'"{hashlib.md5(data).hexdigest()}"'
        if self.headers.get("If-Match") not in (None, tag):
            return self._error(412)
        headers = {"ETag": tag, "Last-Modified": "Sat, 28 Nov 2026 12:00:00 GMT"} if store.tags else {}
        status, total = 200, len(data)
        if wanted is not None and store.ranges:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, end = int(first), min(total, int(last) + 1 if last else total)
            if start >= total:
                return self._error(416)
            status, data = 206, data[start:end]
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{total}"
        if store.sizes:
            headers["Content-Length"] = str(len(data))
        else:
            headers["Connection"] = "close"
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            cut = store.cuts.pop(0) if store.cuts else len(data)
            self.wfile.write(data[:cut])
            self.close_connection = cut < len(data) or not store.sizes
        return None

    def _list(self, query: dict[str, list[str]]) -> None:
        store = self.store
        store.requests.append((self.command, self.path, None))
        if store.refuses:
            return self._error(store.refuses)
        bucket, prefix = urlsplit(self.path).path.strip("/"), query.get("prefix", [""])[0]
        keys = sorted(path.partition("/")[2] for path in store.objects if path.startswith(f"{bucket}/{prefix}"))
        items = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(store.objects[f'{bucket}/{key}'])}</Size>"
            '<LastModified>2026-11-28T12:00:00.000Z</LastModified><ETag>"x"</ETag></Contents>'
            for key in keys
        )
        body = (
            '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(keys)}</KeyCount><MaxKeys>1000</MaxKeys>"
            f"<IsTruncated>false</IsTruncated>{items}</ListBucketResult>"
        )
        return self._answer(200, body.encode())

    def _error(self, status: int) -> None:
        code = {403: "AccessDenied", 404: "NoSuchKey", 412: "PreconditionFailed", 416: "InvalidRange", 503: "SlowDown"}
        words = code.get(status, "InternalError")
        message = (
            "At least one of the pre-conditions you specified did not hold" if status == 412 else f"{words} says the store"
        )
        body = f'<?xml version="1.0"?><Error><Code>{words}</Code><Message>{message}</Message></Error>'
        self._answer(status, body.encode())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/xml")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up, as those do that are killed, is no error of the server."""


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    """Serve until the block ends."""
    handler = type("Handler", (_Handler,), {})
    with _Server(("127.0.0.1", 0), handler) as server:
        store = ObjectStore(f"http://127.0.0.1:{server.server_address[1]}")
        handler.store = store  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield store
        finally:
            server.shutdown()
            thread.join()


def s3_environment(store: ObjectStore) -> dict[str, str]:
    """Variables by which S3 clients find the store, whatever else is set on this machine."""
    return {
        "AWS_ENDPOINT_URL": store.url,
        "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "not-so-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/nowhere/config",
        "AWS_SHARED_CREDENTIALS_FILE": "/nowhere/credentials",
        "NO_PROXY": "127.0.0.1",
    }


@contextmanager
def store_of_this_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    """A store that this process's `s3://` leads to; trouble with it passes, or not, at once."""
    with object_store() as store:
        for name, value in s3_environment(store).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(remote_tar, "FIRST_PAUSE_SECONDS", 0.001)
        remote_files._shared_filesystem.cache_clear()
        yield store
        remote_files._shared_filesystem.cache_clear()
