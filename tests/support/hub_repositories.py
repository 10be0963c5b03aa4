"""Repositories on a Hugging Face hub of loopback: created, listed, committed to and fetched by the hub's own client."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

Tree = dict[str, bytes]


@dataclass
class Hub:
    url: str
    repositories: dict[str, list[tuple[str, Tree]]] = field(default_factory=dict)
    """By name, commits with all their files, the newest last."""
    private: set[str] = field(default_factory=set)
    may_write: bool = True
    wrong_cards: tuple[str, ...] = ()
    """What is said of the head of a card that is to be committed."""
    pushed_between: Tree = field(default_factory=dict)
    """Files that somebody else commits once a repository was looked at."""
    requests: list[str] = field(default_factory=list)

    def files(self, name: str) -> Tree:
        """The newest files of a repository."""
        return self.repositories[name][-1][1]


@contextmanager
def hub_repositories() -> Iterator[Hub]:
    """Serves a hub without repositories until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.hub = hub = Hub(url=f"http://127.0.0.1:{server.server_port}")  # pyright: ignore
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> Hub:
        return self.server.hub  # pyright: ignore

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""

    def do_HEAD(self) -> None:
        self._get(with_body=False)

    def do_GET(self) -> None:
        self._get(with_body=True)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"POST {path}")
        if path == "/api/validate-yaml":
            errors = [{"message": text} for text in self.hub.wrong_cards]
            return self._json({"warnings": [], "errors": errors}, status=400 if errors else 200)
        if not self.hub.may_write:
            return self._refuse(403, "")
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        name = "/".join(path.split("/")[3:5])
        if "/preupload/" in path:
            files = [
                {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                for one in json.loads(body)["files"]
            ]
            return self._json({"files": files})
        if "/commit/" in path:
            return self._commit(name, [json.loads(line) for line in body.splitlines() if line.strip()])
        return self._refuse(404, "")

    def _create(self, asked: dict[str, Any]) -> None:
        name = "/".join(filter(None, [asked.get("organization"), asked["name"]]))
        if name in self.hub.repositories:
            return self._json(
                {"error": "You already created this model repo", "url": f"{self.hub.url}/{name}"}, status=409
            )
        self.hub.repositories[name] = [("0" * 40, {".gitattributes": b""})]
        if asked.get("private") or asked.get("visibility") == "private":
            self.hub.private.add(name)
        return self._json({"url": f"{self.hub.url}/{name}", "name": name, "id": name})

    def _commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        tree = dict(self.hub.files(name))
        parent = next(line["value"].get("parentCommit") for line in lines if line["key"] == "header")
        if parent not in (None, self.hub.repositories[name][-1][0]):
            return self._refuse(412, "")
        for line in lines:
            if line["key"] == "file":
                tree[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            elif line["key"] == "deletedFile":
                del tree[line["value"]["path"]]
        commit = hashlib.sha1(repr(sorted(tree.items())).encode()).hexdigest()
        self.hub.repositories[name].append((commit, tree))
        self._json({"commitUrl": f"{self.hub.url}/{name}/commit/{commit}", "commitOid": commit, "pullRequestUrl": None})

    def _get(self, *, with_body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        parts = path.strip("/").split("/")
        name = "/".join(parts[2:4]) if parts[0] == "api" else "/".join(parts[:2])
        if name not in self.hub.repositories:
            return self._refuse(404, "RepoNotFound")
        at = 5 if parts[0] == "api" else 3
        revision = parts[at] if len(parts) > at else "main"
        found = [one for one in self.hub.repositories[name] if revision in ("main", one[0])]
        if not found:
            return self._refuse(404, "RevisionNotFound")
        commit, tree = found[-1]
        if parts[0] != "api":
            return self._file(commit, tree, "/".join(parts[4:]), with_body=with_body)
        if len(parts) > 4 and parts[4] == "tree":
            entries = [
                {"type": "file", "path": one, "size": len(tree[one]), "oid": _oid(tree[one])} for one in sorted(tree)
            ]
            return self._json(entries)
        if self.hub.pushed_between:
            self.hub.repositories[name].append(("2" * 40, {**tree, **self.hub.pushed_between}))
        siblings = [{"rfilename": one} for one in sorted(tree)]
        return self._json({"id": name, "sha": commit, "private": name in self.hub.private, "siblings": siblings})

    def _file(self, commit: str, tree: Tree, path: str, *, with_body: bool) -> None:
        if path not in tree:
            return self._refuse(404, "EntryNotFound")
        self.send_response(200)
        self.send_header("Content-Length", str(len(tree[path])))
        self.send_header("ETag", f'"{_oid(tree[path])}"')
        self.send_header("X-Repo-Commit", commit)
        self.end_headers()
        if with_body:
            self.wfile.write(tree[path])

    def _json(self, plain: Any, *, status: int = 200) -> None:
        body = json.dumps(plain).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", code or "refused")
        self.send_header("Content-Length", "0")
        self.end_headers()


def _oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
