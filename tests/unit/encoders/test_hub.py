"""Models of the hub: what it answers, and no connection, are told in one sentence each.

A local HTTP server plays the hub, with the status codes and headers that it sends. Each test runs
a process of its own, because huggingface_hub reads its environment when it is imported.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers.hub import serving

pytestmark = pytest.mark.process

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {"config.json": b"{}", "model.safetensors": b"not read here"}


class Refusal(NamedTuple):
    status: int
    code: str | None
    message: str


UNKNOWN = Refusal(401, "RepoNotFound", "Invalid username or password.")
ANONYMOUS = {
    "unknown": UNKNOWN,
    "gated": Refusal(
        401,
        "GatedRepo",
        "Access to model some/gated is restricted. You must have access to it and be "
        "authenticated to access it. Please log in.",
    ),
    "rev": Refusal(404, "RevisionNotFound", "Invalid rev id: v9"),
    "disabled": Refusal(403, None, "Access to this resource is disabled."),
    "down": Refusal(503, None, "Service Unavailable"),
}
LOGGED_IN = {
    "unknown": Refusal(404, "RepoNotFound", "Repository not found"),
    "gated": Refusal(403, "GatedRepo", "You are not in the authorized list."),
}
MINE, WRONG = "hf_mine", "hf_wrong"
BAD_TOKEN = Refusal(401, None, "Invalid credentials in Authorization header")


class Hub(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        name = re.findall(r"/some/([a-z]+)", self.path)[0]
        token = self.headers.get("Authorization")
        refusals = ANONYMOUS if token is None else LOGGED_IN
        refusal = refusals.get(name) if token != f"Bearer {WRONG}" else BAD_TOKEN
        if "/api/models/" not in self.path:
            self.file(refusal)
        elif refusal is not None and name != "gated":  # whose description everybody sees
            self.answer(refusal.status, b"", refusal)
        elif "/tree/" in self.path:
            sizes = {name: len(content) for name, content in FILES.items()}
            tree = [
                {"type": "file", "path": name, "size": size, "oid": name}
                for name, size in sizes.items()
            ]
            self.answer(200, json.dumps(tree).encode())
        else:
            self.answer(200, json.dumps({"id": f"some/{name}", "sha": COMMIT}).encode())

    do_HEAD = do_GET  # noqa: N815

    def file(self, refusal: Refusal | None) -> None:
        if refusal is not None:
            self.answer(refusal.status, b"", refusal)
            return
        content = FILES[self.path.rpartition("/")[2]]
        cut = "/some/cut/" in self.path and self.command == "GET"
        self.answer(200, content, length=len(content) + cut)

    def answer(
        self, status: int, body: bytes, refusal: Refusal | None = None, length: int | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{len(body)}"')
        if refusal is not None:
            self.send_header("X-Error-Message", refusal.message)
            if refusal.code is not None:
                self.send_header("X-Error-Code", refusal.code)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    with serving(Hub) as address:
        yield address


PROGRAM = """
import json, sys
from embedkit import InputError
from embedkit.encoders.hub import find_folder

results = {}
for model, options in json.loads(sys.argv[1]).items():
    try:
        results[model] = str(find_folder(model, **options))
    except InputError as error:
        results[model] = str(error)
print(json.dumps(results))
"""


def find(cache: Path, models: dict[str, dict[str, object]], **environment: str) -> dict[str, str]:
    """What `find_folder` returned or raised for each model, in a process of that environment."""
    ours = {"HF_HOME": str(cache), "HF_HUB_DISABLE_PROGRESS_BARS": "1", "NO_PROXY": "127.0.0.1"}
    ours |= {"HF_HUB_ETAG_TIMEOUT": "600", "HF_HUB_DOWNLOAD_TIMEOUT": "600"}
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(models)],
        check=False,
        capture_output=True,
        text=True,
        env=kept | ours | environment,
    )
    assert done.returncode == 0, done.stderr
    results: dict[str, str] = json.loads(done.stdout)
    return results


@pytest.mark.slow
def test_what_the_hub_answers_without_a_login(hub: str, tmp_path: Path) -> None:
    models: dict[str, dict[str, object]] = {
        f"some/{name}": {} for name in ("good", "cut", *ANONYMOUS)
    }
    models["some/rev"] = {"revision": "v9"}
    got = find(tmp_path, models, HF_ENDPOINT=hub)
    folder = Path(got.pop("some/good"))
    assert folder.name == COMMIT
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES
    cut = got.pop("some/cut")
    assert cut.startswith(
        "model 'some/cut': there is no such folder, it is not in the local cache, and the "
        f"connection to {hub} failed (peer closed connection without sending complete message body"
    )
    assert got == {
        name: f"model '{name}': there is no such folder, and {problem}"
        for name, problem in {
            "some/unknown": "the hub has no such model, or it is private; check the spelling, and "
            "for a private model log in with `hf auth login` or set HF_TOKEN",
            "some/gated": f"it is gated on the hub; ask for access at {hub}/some/gated and log in "
            "with `hf auth login` or set HF_TOKEN",
            "some/rev": "the hub has no revision 'v9' of it; expected a branch, a tag or a commit "
            f"of {hub}/some/rev",
            "some/disabled": "the hub answers with HTTP 403 (Access to this resource is "
            f"disabled.); see {hub}/some/disabled, or try again later",
            "some/down": f"the hub answers with HTTP 503 (Service Unavailable); see "
            f"{hub}/some/down, or try again later",
        }.items()
    }


def test_what_the_hub_answers_to_a_token(hub: str, tmp_path: Path) -> None:
    got = find(tmp_path, {f"some/{x}": {} for x in LOGGED_IN}, HF_ENDPOINT=hub, HF_TOKEN=MINE)
    assert got == {
        "some/unknown": "model 'some/unknown': there is no such folder, and the hub has no such "
        "model, or it is private; check the spelling, and for a private model the rights of your "
        "token",
        "some/gated": "model 'some/gated': there is no such folder, and it is gated on the hub; "
        f"ask for access at {hub}/some/gated with the account of your token",
    }
    got = find(tmp_path, {"some/good": {}}, HF_ENDPOINT=hub, HF_TOKEN=WRONG)
    assert got["some/good"].endswith(
        ", and the hub refuses your token; log in with `hf auth login` or set HF_TOKEN"
    )


ELSEWHERE = "name a folder that `hf download some/good --local-dir FOLDER` made elsewhere"


def test_no_connection(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"  # nobody listens, or gets the port
        got = find(tmp_path, {"some/good": {}}, HF_ENDPOINT=endpoint)["some/good"]
    assert got == (
        "model 'some/good': there is no such folder, it is not in the local cache, and the "
        f"connection to {endpoint} failed ([Errno 111] Connection refused); check that this "
        f"machine is online, and its proxy, or {ELSEWHERE}"
    )


def test_a_cache_that_cannot_be_written(hub: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = str(tmp_path / "file" / "hub")
    got = find(tmp_path, {"some/good": {}}, HF_ENDPOINT=hub, HF_HUB_CACHE=cache)["some/good"]
    problem = f"[Errno 20] Not a directory: '{tmp_path / 'file'}"
    assert got.startswith(
        f"model 'some/good': there is no such folder, and it could not be downloaded ({problem}"
    )


def test_the_hub_may_not_be_asked(hub: str, tmp_path: Path) -> None:
    """By the environment, or by an argument; both read what an earlier run has left."""
    find(tmp_path, {"some/good": {}}, HF_ENDPOINT=hub)
    offline = find(
        tmp_path,
        {"some/good": {}, "some/other": {}},
        HF_HUB_OFFLINE="1",
    )
    assert Path(offline["some/good"]).name == COMMIT
    elsewhere = ELSEWHERE.replace("good", "other")
    assert offline["some/other"] == (
        "model 'some/other': there is no such folder, it is not in the local cache, and "
        f"HF_HUB_OFFLINE forbids asking the hub; unset it, or {elsewhere}"
    )
    got = find(
        tmp_path,
        {"some/good": {"revision": "v9", "local_files_only": True}},
        HF_ENDPOINT=hub,
    )
    assert got["some/good"] == (
        "model 'some/good': there is no such folder, revision 'v9' is not in the local cache, "
        f"and local_files_only forbids asking the hub; allow it, or {ELSEWHERE}"
    )
