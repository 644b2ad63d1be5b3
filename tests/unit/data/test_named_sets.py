"""Public data sets by name: the table, the user's folder, the hub's cache, and the hub itself."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import beir
from helpers.command import Run, refused
from helpers.hub import serving

from embedkit import InputError, Pairs, read_pairs, read_retrieval
from embedkit.data.datasets import read_named_sets, read_sets
from embedkit.data.named_sets import (
    NAMED_SETS,
    SUITES,
    Row,
    digest,
    expand,
    korsts_mteb,
    sick_test,
)

MISSING_ON_HUB = ("korsts",)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that EMBEDKIT_DATASETS names; the hub's cache is empty, and offline."""
    from huggingface_hub import constants

    own = tmp_path / "own"
    own.mkdir()
    monkeypatch.setenv("EMBEDKIT_DATASETS", str(own))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    return own


def rows(n: int) -> list[dict[str, object]]:
    return [
        {"sentence1": f"sentence {i}", "sentence2": f"another {i}", "score": i % 5}
        for i in range(n)
    ]


def tsv(n: int) -> str:
    lines = ["\t".join(map(str, row.values())) for row in rows(n)]
    return "\n".join(["sentence1\tsentence2\tscore", *lines]) + "\n"


def jsonl(records: list[dict[str, object]]) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def parquet(records: list[dict[str, object]]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(records), buffer)
    return buffer.getvalue()


def klue(n: int) -> list[dict[str, object]]:
    """As klue/klue has them: the score lies in a struct."""
    return [
        {"guid": f"g{i}", **row, "score": None, "labels": {"label": float(str(row["score"])) / 2}}
        for i, row in enumerate(rows(n))
    ]


def test_the_table() -> None:
    assert list(NAMED_SETS) == [known.name for known in NAMED_SETS.values()]
    for name, known in NAMED_SETS.items():
        on_hub = name not in MISSING_ON_HUB
        assert bool(re.fullmatch("[0-9a-f]{40}", known.revision)) is on_hub
        assert bool(known.repository) is on_hub
        assert bool(known.source) is not on_hub
        assert (known.documents > 0) is known.is_retrieval
    assert {name for names in SUITES.values() for name in names} <= NAMED_SETS.keys()
    assert not NAMED_SETS.keys() & SUITES.keys()
    assert [NAMED_SETS[name].rows for name in SUITES["sts7"]] == [
        *(3108, 1500, 3750, 3000, 1186, 1379, 4927)
    ]


def test_suites_are_replaced_and_each_set_is_there_once() -> None:
    pairs = Pairs.from_columns("mine", ["a", "b", "c"], ["a", "b", "d"], [1, 2, 3])
    expanded = expand(["stsb", "mteb-sts-ko", pairs, "klue-sts", "./sts7", Path("x.tsv")])
    assert expanded.items == [
        *("stsb", "klue-sts", "korsts-mteb", "sts17-ko", pairs, "./sts7", Path("x.tsv"))
    ]
    assert expanded.suites == {"mteb-sts-ko": ("klue-sts", "korsts-mteb", "sts17-ko")}


def test_the_users_folder(folder: Path, recwarn: pytest.WarningsRecorder) -> None:
    (folder / "stsb.tsv").write_text(tsv(1379))
    (folder / "sts16.csv").write_text(tsv(1186).replace("\t", ","))
    (folder / "biosses.jsonl").write_bytes(jsonl(rows(100)))
    (folder / "sts17-en.parquet").write_bytes(parquet(rows(250)))
    (folder / "sts22-en.jsonl.gz").write_bytes(gzip.compress(jsonl(rows(197))))
    (folder / "klue-sts.parquet").write_bytes(parquet(klue(519)))
    names = ["stsb", "sts16", "biosses", "sts17-en", "sts22-en", "klue-sts"]
    sets = [data for data in read_sets(names) if isinstance(data, Pairs)]
    assert [data.name for data in sets] == names
    assert [len(data.scores) for data in sets] == [NAMED_SETS[name].rows for name in names]
    assert sets[0].scores[:5].tolist() == [0, 1, 2, 3, 4]
    assert sets[-1].scores[:5].tolist() == [0, 0.5, 1, 1.5, 2]
    (folder / "klue-sts.parquet").unlink()
    for name, content in (
        ("klue-sts.tsv", tsv(519).encode()),
        ("klue-sts.jsonl", jsonl(klue(519))),
    ):
        (folder / name).write_bytes(content)
        assert read_pairs("klue-sts").scores[1] == (1 if name.endswith("tsv") else 0.5)
        (folder / name).unlink()
    assert not recwarn.list


def test_another_number_of_rows_is_said(folder: Path, run: Run) -> None:
    (folder / "stsb.tsv").write_text(tsv(40))
    with pytest.warns(UserWarning, match=r"stsb\.tsv: got 40 pairs; stsb has 1,379$"):
        read_pairs("stsb")
    done = run("evaluate", "stsb", "-m", "minilm")
    assert "warning: " in done.err
    assert "got 40 pairs; stsb has 1,379" in done.err
    assert "stsb: 40 rows were read; the public set has 1,379" in done.out


def test_retrieval_sets(folder: Path, recwarn: pytest.WarningsRecorder) -> None:
    documents = [{"_id": f"d{i}", "title": "t", "text": f"text {i}"} for i in range(9251)]
    queries = [{"_id": f"q{i}", "text": f"query {i}"} for i in range(600)]
    qrels = "".join(f"q{i}\td{i}\t1\n" for i in range(592))
    beir.write(folder / "ko-strategyqa", documents, queries, qrels, qrels_name="qrels/dev.tsv")
    (data,) = read_sets("retrieval-ko")
    assert data.name == "ko-strategyqa"
    assert read_retrieval("ko-strategyqa").judgements["q5"] == {"d5": 1}
    assert not recwarn.list
    with pytest.raises(InputError, match="stsb is a set of sentence pairs"):
        read_retrieval("stsb")
    with pytest.raises(InputError, match="scifact is a retrieval set"):
        read_pairs("scifact")
    with pytest.raises(InputError, match="sts7 is a suite; expected one data set"):
        read_pairs("sts7")


def test_all_that_are_missing_are_named_at_once(folder: Path, run: Run) -> None:
    (folder / "sts12.tsv").write_text(tsv(3108))
    error = refused(run("evaluate", "sts7", "-m", "no/such-model"))
    assert error.startswith(
        "sts13, sts14, sts15, sts16, stsb, sickr-test are missing; sts13 (mteb/sts13-sts): there "
    )
    assert "HF_HUB_OFFLINE forbids asking the hub" in error
    assert error.endswith(f"sts13.tsv, .csv, .jsonl or .parquet into {folder} (EMBEDKIT_DATASETS)")
    assert refused(run("datasets", "get", "korsts", "sts12")) == (
        f"korsts: is not on the hub in this form; put korsts.tsv, .csv, .jsonl or .parquet into "
        f"{folder} (EMBEDKIT_DATASETS), with the columns sentence1, sentence2 and score of "
        "KorSTS/sts-test.tsv of github.com/kakaobrain/kor-nlu-datasets"
    )


def test_wrong_names_and_folders(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match=r"stbs: there is no such file.* did you mean stsb"):
        read_sets(["stbs"])
    with pytest.raises(InputError, match=r"STSBenchmark: .* did you mean stsb"):  # MTEB's name
        read_sets(["STSBenchmark"])
    with pytest.raises(InputError, match=r"elsewhere: .*of this name; embedkit datasets lists"):
        read_sets(["elsewhere"])
    with pytest.raises(
        InputError, match=r"SST7: there is no data set of this name; did you mean sts7"
    ):
        read_named_sets(["SST7"])
    (folder / "stsb.tsv").write_text(tsv(1379))
    (folder / "stsb.jsonl").write_bytes(jsonl(rows(1379)))
    with pytest.raises(InputError, match=r"got stsb\.tsv and stsb\.jsonl; expected one"):
        read_pairs("stsb")
    (folder / "stsb.jsonl").unlink()
    Path("stsb").write_text("no table")
    assert len(read_pairs("stsb").scores) == 1379
    assert "stsb: taken from embedkit; name ./stsb" in capsys.readouterr().err
    monkeypatch.setenv("EMBEDKIT_DATASETS", "nowhere")
    with pytest.raises(InputError, match="EMBEDKIT_DATASETS is 'nowhere'; expected a folder"):
        read_pairs("stsb")


def test_the_test_split_of_sick(
    folder: Path, shared_data: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of SICK without its training and trial pairs, in any order and spelling of spaces."""
    parts = [read_pairs(shared_data(f"sts_en/sick_{x}.tsv")) for x in ("train", "trial")]
    known = [
        Row(f"  {first.upper()}", second, score)
        for pairs in parts
        for first, second, score in zip(
            pairs.sentence1, pairs.sentence2, pairs.scores.tolist(), strict=True
        )
    ]
    others = [Row(f"made up {i}", "A dog.", 3.0) for i in range(4927)]
    mixed = [*known[2500:], *others, *known[:2500]]
    assert sick_test(mixed) == others
    assert digest(known[0]) != digest(known[0]._replace(score=1.0))


def test_korsts_as_mteb_has_it(folder: Path, shared_data: Callable[[str], Path]) -> None:
    """The numbers of rows and characters, and the mean score, are those that mteb publishes."""
    (folder / "korsts.tsv").symlink_to(shared_data("sts_ko/korsts_test.tsv"))
    pairs = read_pairs("korsts-mteb")
    assert len(pairs.scores) == 1376
    assert sum(map(len, pairs.sentence1)) == 40440
    assert sum(map(len, pairs.sentence2)) == 40137
    assert pairs.scores.mean() == pytest.approx(2.6053539244186066, abs=1e-12)
    assert len(read_pairs("korsts").scores) == 1379
    assert korsts_mteb([Row('"a" b', "c", 1.0), Row('"a', '"b', 2.0)]) == [Row("a b", "c", 1.0)]


def cached(cache: Path, name: str, files: dict[str, bytes]) -> list[Path]:
    """A snapshot in the hub's cache, as huggingface_hub lays it out."""
    known = NAMED_SETS[name]
    home = cache / f"datasets--{known.repository.replace('/', '--')}"
    paths = []
    for file, content in files.items():
        blob = home / "blobs" / hashlib.sha256(content).hexdigest()
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        path = home / "snapshots" / known.revision / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(blob)
        paths.append(path)
    return paths


def test_a_cache_laid_out_by_hand(
    folder: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder, run: Run
) -> None:
    cache = tmp_path / "cache"
    (stsb,) = cached(cache, "stsb", {"test.jsonl.gz": gzip.compress(jsonl(rows(1379)), mtime=0)})
    cached(cache, "klue-sts", {"sts/validation-00000-of-00001.parquet": parquet(klue(519))})
    cached(
        cache,
        "scifact",
        {
            "corpus/corpus-00000-of-00001.parquet": parquet(
                [{"_id": f"{i}", "title": "", "text": f"text {i}"} for i in range(5183)]
            ),
            "queries.jsonl": jsonl([{"_id": f"{i}", "text": "?"} for i in range(300)]),
            "qrels/test.jsonl": jsonl(
                [{"query-id": f"{i}", "corpus-id": f"{i}", "score": 1.0} for i in range(300)]
            ),
        },
    )
    assert [data.name for data in read_sets(["stsb", "klue-sts", "scifact"])] == [
        *("stsb", "klue-sts", "scifact")
    ]
    assert read_retrieval("scifact").judgements["7"] == {"7": 1}
    assert not recwarn.list
    listed = run("datasets", "--json").json
    assert {row["name"] for row in listed["datasets"] if row["stored"] == "cached"} == {
        *("stsb", "klue-sts", "scifact")
    }
    assert listed["suites"]["retrieval-ko"] == ["ko-strategyqa"]
    stsb.resolve().write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"test\.jsonl\.gz: got the hash .* delete the file"):
        read_pairs("stsb")


class Hub(BaseHTTPRequestHandler):
    """The hub's answers: files, and for some repositories a failure."""

    files: dict[str, dict[str, bytes]] = {  # noqa: RUF012
        "mteb/stsbenchmark-sts": {
            "README.md": b"",
            "test.jsonl.gz": gzip.compress(jsonl(rows(1379)), mtime=0),
        },
        "klue/klue": {"sts/validation-00000-of-00001.parquet": parquet(klue(519))},
        "taeminlee/Ko-StrategyQA": {
            "corpus.jsonl": jsonl([{"_id": f"d{i}", "text": "t"} for i in range(9251)]),
            "queries.jsonl": jsonl([{"_id": f"q{i}", "text": "t"} for i in range(592)]),
            "qrels/dev.jsonl": jsonl(
                [{"query-id": f"q{i}", "corpus-id": "d1", "score": 1.0} for i in range(592)]
            ),
            "qrels/train.jsonl": b"",
        },
        "mteb/sts14-sts": {"test.jsonl.gz": b"cut"},
        "mteb/sts16-sts": {"train.jsonl.gz": b""},
    }
    refusals = {  # noqa: RUF012
        "mteb/sts12-sts": (404, "RepoNotFound", "Repository not found"),
        "mteb/sts13-sts": (403, "GatedRepo", "You are not in the authorized list."),
        "mteb/biosses-sts": (503, None, "Service Unavailable"),
    }
    over = threading.Event()  # until then one repository has no answer

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        repository = re.findall(r"/datasets/([^/]+/[^/]+)", self.path)[0]
        if repository == "mteb/sts15-sts":
            self.over.wait()
        if repository in self.refusals:
            self.answer(*self.refusals[repository])
        elif "/api/" in self.path:
            known = self.files.get(repository, {})
            revision = self.path.rpartition("/")[2].partition("?")[0]
            siblings = [{"rfilename": name} for name in known]
            info = {"id": repository, "sha": revision, "siblings": siblings}
            self.answer(200, body=json.dumps(info).encode())
        else:
            file = re.findall("/resolve/[0-9a-f]{40}/(.*)", self.path)[0]
            self.answer(200, body=self.files[repository][file], cut=repository == "mteb/sts14-sts")

    do_HEAD = do_GET  # noqa: N815

    def answer(
        self,
        status: int,
        code: str | None = None,
        message: str = "",
        *,
        body: bytes = b"",
        cut: bool = False,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) + cut))
        revision = re.findall("[0-9a-f]{40}", self.path)
        self.send_header("X-Repo-Commit", revision[0] if revision else "")
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        if code is not None:
            self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", message)
        self.end_headers()
        if self.command == "GET":
            with suppress(BrokenPipeError):  # of a reader that did not wait
                self.wfile.write(body)


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    with serving(Hub) as address:
        yield address
        Hub.over.set()


PROGRAM = """
import json, sys, warnings
from embedkit import InputError
from embedkit.data import named_files
from embedkit.data.datasets import read_sets

warnings.simplefilter("error")
results = {}
for name in sys.argv[1:]:
    named_files.TIMEOUT = 1 if name == "sts15" else 600
    try:
        results[name] = [data.name for data in read_sets(name)]
    except InputError as error:
        results[name] = str(error)
print(json.dumps(results))
"""


@pytest.mark.process
def test_the_hub(hub: str, tmp_path: Path) -> None:
    """huggingface_hub reads its environment when it is imported, so this is another process."""
    others = ("HF_", "HUGGING", "EMBEDKIT_")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(others)}
    ours = {
        "HF_HOME": str(tmp_path),
        "HF_ENDPOINT": hub,
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_ETAG_TIMEOUT": "600",
        "HF_HUB_DOWNLOAD_TIMEOUT": "600",
        "NO_PROXY": "127.0.0.1",
    }
    names = ["stsb", "klue-sts", "ko-strategyqa", "sts12", "sts13", "sts14", "sts15", "sts16"]

    def read(*names: str, **more: str) -> dict[str, object]:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *names],
            check=False,
            capture_output=True,
            text=True,
            env=kept | ours | more,
        )
        assert done.returncode == 0, done.stderr
        results: dict[str, object] = json.loads(done.stdout)
        return results

    got = read(*names, "biosses")
    assert [got.pop(name) for name in names[:3]] == [["stsb"], ["klue-sts"], ["ko-strategyqa"]]
    or_put = ".tsv, .csv, .jsonl or .parquet into the folder that EMBEDKIT_DATASETS names"
    cut, slow = str(got.pop("sts14")), str(got.pop("sts15"))
    assert cut.startswith("sts14 (mteb/sts14-sts): there is no copy of it, revision '6031580f")
    assert f"the connection to {hub} failed (peer closed connection" in cut
    assert cut.endswith(f"check that this machine is online, and its proxy, or put sts14{or_put}")
    assert f"the connection to {hub} failed (timed out)" in slow
    no_copy = "there is no copy of it, and"
    assert got == {
        "sts12": f"sts12 (mteb/sts12-sts): {no_copy} the hub has no such data set, or it is "
        "private; check the spelling, and for a private data set log in with `hf auth login` or "
        "set HF_TOKEN",
        "sts13": f"sts13 (mteb/sts13-sts): {no_copy} it is gated on the hub; ask for access at "
        f"{hub}/datasets/mteb/sts13-sts and log in with `hf auth login` or set HF_TOKEN",
        "sts16": "sts16: mteb/sts16-sts at 4d8694f8f0e0100860b497b999b3dbed754a0513 lacks the "
        f"files of the split test; put sts16{or_put}",
        "biosses": f"biosses (mteb/biosses-sts): {no_copy} the hub answers with HTTP 503 (Service "
        f"Unavailable); see {hub}/datasets/mteb/biosses-sts, or try again later",
    }
    # What an earlier run has left needs no hub.
    assert read("stsb", HF_ENDPOINT="http://127.0.0.1:9")["stsb"] == ["stsb"]
