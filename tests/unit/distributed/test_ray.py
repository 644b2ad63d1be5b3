"""What is refused before Ray starts anything; the rest is in tests/robustness/test_ray.py."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import tiny
from helpers.command import Run

from embedkit import Embedder, InputError

ray = pytest.importorskip("ray", reason="not installed: ray")
door = pytest.importorskip("embedkit.distributed.ray", reason="not installed: ray")
AUTO = (
    "precision is 'auto', which each machine would choose by its own speed; expected one for all "
    "of them, such as float32 or bfloat16"
)


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """No cluster may be started, and none may be asked."""

    def fail(*_: object, **__: object) -> None:
        pytest.fail("Ray was started")

    monkeypatch.setattr(ray, "init", fail)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that is taken, so that nobody else gets it, and where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield int(taken.getsockname()[1])


@pytest.mark.usefixtures("no_ray")
@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.1:{closed_port}", "Connection refused"),
        ("nowhere.invalid:6379", "nowhere.invalid:6379': "),
        ("here", "expected HOST:PORT, auto or local"),
        ("ray://127.0.0.1:10001", "expected HOST:PORT, auto or local"),
    ],
)
def test_an_address_without_a_cluster_is_refused_at_once(
    address: str, reason: str, closed_port: int
) -> None:
    given = address.format(closed_port=closed_port)
    with pytest.raises(InputError, match=f"^Ray's address is '{given}': ") as error:
        door.connected(given).__enter__()
    assert reason in str(error.value)


@pytest.mark.process
@pytest.mark.usefixtures("no_ray")
def test_what_answers_but_is_no_cluster_is_refused_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "_HEALTH_SECONDS", 2.0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(
            InputError, match=rf"what answers there is no head of Ray {ray.__version__}"
        ):
            door.connected(address).__enter__()


@pytest.mark.usefixtures("no_ray")
def test_wrong_arguments_are_refused(tmp_path: Path) -> None:
    model = tiny.make_bert(tmp_path / "model", layers=1, width=16)
    embedder = Embedder.from_pretrained(model, device="cpu")
    with pytest.raises(InputError, match=AUTO):
        door.ClusterEmbedder(embedder)
    with pytest.raises(InputError, match=AUTO):
        door.encode_dataset(None, embedder)
    embedder = Embedder.from_pretrained(model, precision="float32", device="cpu")
    with pytest.raises(InputError, match="this process is connected to no cluster of Ray; exp"):
        door.ClusterEmbedder(embedder)
    with pytest.raises(InputError, match=r"dataset is \[\]; expected a Dataset of Ray"):
        door.encode_dataset([], embedder)


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"num_cpus": 0}, "num_cpus is 0; expected a whole number from 1"),
        ({"size": 0}, "size is 0; expected a whole number from 1"),
        ({"num_gpus": "1"}, "num_gpus is '1'; expected a number from 0"),
        ({"num_gpus": -1}, "num_gpus is -1; expected a number from 0"),
    ],
)
def test_numbers_of_actors_are_checked(wrong: dict[str, int], expected: str) -> None:
    with pytest.raises(InputError) as error:
        door.Actors(**wrong)
    assert str(error.value) == expected


@pytest.mark.usefixtures("no_ray", "no_model")
def test_the_command_refuses_before_a_model_is_loaded(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed_port: int
) -> None:
    texts, out = tmp_path / "texts.txt", tmp_path / "out"
    texts.write_text("rain\n")
    done = run("encode", texts, "--out", out, "--ray")
    assert (done.code, done.err.splitlines()) == (2, [f"error: {AUTO}"])
    asked = ("--precision", "float32")
    done = run("encode", "--device", "cpu", "--ray", texts, "--out", out, *asked)
    assert (done.code, done.err) == (
        2,
        "error: got --ray and --device, --devices or --workers; "
        "Ray gives its actors their devices\n",
    )
    for words in ([texts, "--ray", "nowhere"], ["--ray", "nowhere", texts]):
        done = run("encode", "--out", out, *asked, *words)
        expected = "error: --ray is 'nowhere'; expected HOST:PORT, auto, local or nothing\n"
        assert (done.code, done.err) == (2, expected)
    done = run("encode", texts, "--out", out, *asked, "--ray", f"127.0.0.1:{closed_port}")
    assert done.code == 2
    assert done.err.endswith("Connection refused\n")
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "embedkit.distributed.ray")
    monkeypatch.delattr("embedkit.distributed.ray")
    done = run("encode", texts, "--out", out, *asked, "--ray")
    assert (done.code, done.err) == (
        2,
        "error: embedkit.distributed.ray needs ray, which is not installed; run pip install "
        "'embedkit[ray]'\n",
    )
    assert not out.exists()
