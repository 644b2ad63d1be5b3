"""Damaged folders, texts and data files by the thousand: each gives a result or one sentence.

    PYTHONPATH=tests python -m robustness.hostile [--cases 10000] [--kind NAME] [--out FILE]

A case is made from the seed and its number alone. Cases run in a process of its own whose memory is
limited; one that dies, hangs or grows is found by its number. Exit code 1 if any case ends in
anything but a result or an InputError of one line, runs code, or takes more memory than `MEMORY`.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import json
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
from helpers import tiny
from helpers.families import FAMILIES
from helpers.paths import TESTS

from embedkit import Embedder, InputError
from embedkit.cli import main as command
from embedkit.scoring.loading import load_scorer
from robustness import damage
from robustness.damage import DAMAGES, REFUSED, Trap

RECIPES = (None, "mean@1,-1/normalize", "cls+mean")  # None: a plain folder of transformers
KINDS = (*DAMAGES, "data_files")
MEMORY = 1 << 30  # bytes that a case may take
SECONDS = 60  # that a case may take
MESSAGE = 10_000  # characters that an error may have
_BAD_EVENTS = ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "socket.connect")
_TEXTS = ("a man plays guitar", "rain", "그는 책을 읽고 있다")


class Case(NamedTuple):
    """A case and how it ended.

    Attributes:
        outcome: result, refused, or what went wrong.
        detail: the error's text.
        grown: bytes of memory that it took at its peak.
    """

    number: int
    source: str
    kind: str
    outcome: str
    detail: str
    seconds: float
    grown: int


def make_sources(root: Path) -> dict[str, Path]:
    """Whole folders to damage: families plain and saved, a Dense, a head, and cross-encoders."""
    sources = {}
    for family in FAMILIES:
        plain = tiny.make_model(root / family, family, layers=2)
        for number, recipe in enumerate(RECIPES):
            name = family if recipe is None else f"{family} {recipe}"
            sources[name] = plain
            if recipe is not None:
                sources[name] = root / f"{family}-{number}"
                Embedder.from_pretrained(plain, recipe).save_pretrained(sources[name])
    pooler = Embedder.from_pretrained(sources["bert"], "pooler/normalize")
    pooler.save_pretrained(root / "dense")
    sources["bert with a dense"] = root / "dense"
    from embedkit.scoring.pair_regressor import PairRegressor
    from embedkit.scoring.regressor_folder import save_head

    pairs = [(f"a cat {number}", f"the man reads {number}") for number in range(30)]
    head = PairRegressor(pooler).fit(pairs, np.arange(30) / 3)
    save_head(head, root / "head")
    sources["bert with a head"] = root / "head"
    from embedkit.scoring.cross_encoder import CrossEncoder

    for reads in ("pooler", "mean"):
        sources[f"cross-encoder {reads}"] = root / f"cross-encoder-{reads}"
        made = CrossEncoder.untrained(sources["bert"], reads, (0, 5))
        made.save_pretrained(sources[f"cross-encoder {reads}"])
    return sources


def is_one_sentence(message: str) -> bool:
    return message.isprintable() and 0 < len(message) <= MESSAGE


def attempt(random: Random, folder: Path) -> str:
    """Load the folder and encode: `result`, `refused: ...`, or an exception that is none."""
    texts = list(_TEXTS)
    hostile = random.random()
    if hostile < 0.3:
        texts += [damage.text(random) for _ in range(random.randrange(1, 6))]
    if hostile < 0.005:
        texts += [damage.long_text(random) for _ in range(random.randrange(1, 4))]
    if 0.005 < hostile < 0.02:
        texts.append(random.choice(damage.BROKEN_TEXTS))
    try:
        if any((folder / name).exists() for name in ("head.json", "cross_encoder.json")):
            scores = load_scorer(str(folder))([("a man", text) for text in texts])
            assert scores.shape == (len(texts),)
        else:
            embedder = Embedder.from_pretrained(folder)
            vectors = embedder.encode(texts, show_progress=False)
            assert vectors.dtype == np.float32, vectors.dtype
            assert vectors.shape == (len(texts), embedder.dimension), vectors.shape
            if random.random() < 0.1:
                embedder.save_pretrained(folder.parent / "saved")
    except InputError as error:
        if not is_one_sentence(str(error)):
            raise AssertionError(f"no sentence: {str(error)[:3000]!r}") from error
        return f"refused: {error}"
    return "result"


# The command line


def run_command(arguments: list[str], model: Path) -> str:
    """The command in this process; what it prints for people has no control characters."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    code = 0
    with (
        mock.patch.object(sys, "argv", ["embedkit", *arguments, "-m", str(model)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            command()
        except SystemExit as end:
            code = int(end.code or 0)
    out_text, err_text = (s.buffer.getvalue().decode() for s in (out, err))  # type: ignore[attr-defined]
    assert code in (0, 2), f"exit code {code}: {err_text[:500]!r}"
    # What score prints is data, verbatim; a bar writes a line over itself.
    shown = err_text if arguments[0] == "score" else err_text + out_text
    for line in shown.replace("\r", "\n").split("\n"):
        assert line.isprintable(), f"not printable: {line[:300]!r}"
    if code == 2 and err_text.startswith("error: "):
        assert is_one_sentence(err_text.removeprefix("error: ").removesuffix("\n")), err_text
    return "result" if code == 0 else f"refused: {err_text}"


# A process that runs cases


class Hang(BaseException):
    """A case took longer than `SECONDS`."""


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Time for one case: of the processor, and ten times that on the clock, where it may wait."""

    def stop(*_: object) -> None:
        raise Hang

    kinds = {signal.ITIMER_PROF: signal.SIGPROF, signal.ITIMER_REAL: signal.SIGALRM}
    old = {number: signal.signal(number, stop) for number in kinds.values()}
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, 10 * SECONDS)
    try:
        yield
    finally:
        for timer in kinds:
            signal.setitimer(timer, 0)
        for number, handler in old.items():
            signal.signal(number, handler)


def run_case(number: int, seed: int, sources: dict[str, Path], root: Path, only: str = "") -> Case:
    """Make a case in `root`, run it and take it away.

    Args:
        number: of the case.
        seed: of all cases.
        sources: whole folders, by name.
        root: an empty folder.
        only: a kind of damage, instead of any.
    """
    random = Random(f"{seed}:{number}")  # noqa: S311
    name = only or random.choice(KINDS)
    home = root / f"case-{number}"
    trap = Trap(home / "marker", home / "outside")
    folder = home / "model"
    home.mkdir()
    source = random.choice(sorted(sources))
    arguments: list[str] = []
    if name == "data_files":
        source = "bert"
        arguments = damage.data_file(random, home)
    else:
        shutil.copytree(sources[source], folder)
        shutil.copytree(sources["bert"], trap.outside)
        DAMAGES[name](random, folder, trap)
    events.clear()
    started, before = time.perf_counter(), _reset_peak()
    try:
        with limited():
            if arguments:
                ended = run_command(arguments, sources["bert"])
            else:
                ended = attempt(random, folder)
    except Hang:
        ended = f"hang: more than {SECONDS} s"
    except MemoryError as error:
        ended = f"memory: {error}"
    except BaseException as error:
        ended = f"crash: {type(error).__name__}: {str(error)[:500]} at {_place(error)}"
    grown = _peak() - before
    outcome, _, detail = ended.partition(": ")
    if outcome == "result" and name in REFUSED:
        outcome, detail = "not refused", ""
    if grown > MEMORY:
        outcome, detail = "memory", f"{grown >> 20} MiB; {ended}"
    if trap.marker.exists() or events:
        outcome, detail = "ran code", f"{events[:3]}; {ended}"
    case = Case(number, source, name, outcome, detail[:700], time.perf_counter() - started, grown)
    shutil.rmtree(home, ignore_errors=True)
    return case


def _place(error: BaseException) -> str:
    """Where in embedkit an exception came from."""
    lines, trace = [], error.__traceback__
    while trace is not None:
        lines.append(f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}")
        trace = trace.tb_next
    return " > ".join(lines[-6:])


def _status(field: str) -> int:
    """Bytes, by Linux's name for them."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) << 10
    raise ValueError(field)


def _reset_peak() -> int:
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark is now what there is
    return _status("VmRSS")


def _peak() -> int:
    return _status("VmHWM")


events: list[str] = []  # what the audit hook saw in the case


def _watch(root: str, event: str, arguments: tuple[Any, ...]) -> None:
    if event in _BAD_EVENTS:
        events.append(f"{event} {str(arguments)[:200]}")
    elif event == "exec" and getattr(arguments[0], "co_filename", "").startswith(root):
        events.append(f"exec {arguments[0].co_filename}")


def worker(options: argparse.Namespace) -> None:
    """Run the cases from number `first` on, and print each as a line of JSON."""
    root = Path(tempfile.mkdtemp(prefix="hostile-", dir=options.root))
    sources = {p.name.replace("|", "/"): p for p in Path(options.sources).iterdir()}
    for name in sources:  # loads libraries, which takes memory that no case is to blame for
        attempt(Random(0), sources[name])  # noqa: S311
    run_command(["score", "first_look"], sources["bert"])
    sys.addaudithook(functools.partial(_watch, str(root)))
    for number in range(options.first, options.first + options.cases):
        print(json.dumps({"starts": number}), flush=True)
        limit = _status("VmSize") + 2 * MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        case = run_case(number, options.seed, sources, root, options.kind)
        print(json.dumps(case._asdict()), flush=True)
    shutil.rmtree(root, ignore_errors=True)


def cases(options: argparse.Namespace, sources: Path, scratch: Path) -> Iterator[Case]:
    """All cases, from workers that are started anew where one dies."""
    number, end = options.first, options.first + options.cases
    while number < end:
        count = min(options.chunk, end - number)
        code = [
            sys.executable,
            "-m",
            "robustness.hostile",
            "--worker",
            "--first",
            str(number),
            "--cases",
            str(count),
        ]
        code += ["--seed", str(options.seed), "--kind", options.kind]
        code += ["--sources", str(sources), "--root", str(scratch)]
        last, ended = number - 1, False
        with subprocess.Popen(
            code, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(TESTS)}
        ) as process:
            assert process.stdout is not None
            buffer = b""
            while True:
                ready, _, _ = select.select([process.stdout], [], [], 15 * SECONDS)
                if not ready:
                    process.kill()
                    break
                block = os.read(process.stdout.fileno(), 1 << 16)
                if not block:
                    ended = True
                    break
                *lines, buffer = (buffer + block).split(b"\n")
                for line in lines:
                    if line.startswith(b'{"starts"'):
                        number = json.loads(line)["starts"]
                    elif line.startswith(b'{"number"'):
                        case = Case(**json.loads(line))
                        last = case.number
                        yield case
        if last < number or not ended:
            why = f"exit code {process.returncode}" if ended else "killed: it answered no signal"
            yield Case(number, "?", options.kind or "?", "died", why, 0, 0)
            last = number
        number = last + 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", default="", help=f"one of {', '.join(KINDS)}")
    parser.add_argument("--chunk", type=int, default=1000, help="cases of one process")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--sources", help=argparse.SUPPRESS)
    parser.add_argument("--root", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "sources"
        folder.mkdir()
        made = make_sources(Path(scratch) / "made")
        for name, source in made.items():
            shutil.copytree(source, folder / name.replace("/", "|"))
        table: Counter[tuple[str, str]] = Counter()
        failures, slowest, largest = [], 0.0, 0
        for done, case in enumerate(cases(options, folder, Path(scratch)), start=1):
            table[case.kind, case.outcome] += 1
            slowest, largest = max(slowest, case.seconds), max(largest, case.grown)
            if case.outcome not in ("result", "refused"):
                failures.append(case._asdict())
                print(f"case {case.number}: {case[1:5]}", file=sys.stderr)
            if done % 500 == 0:
                print(f"{done} of {options.cases}, {len(failures)} failed", file=sys.stderr)
    outcomes = sorted(
        {outcome for _, outcome in table}, key=lambda o: (o not in ("result", "refused"), o)
    )
    print(f"{'kind of damage':24}" + "".join(f"{outcome:>12}" for outcome in outcomes))
    for name in (*sorted({kind for kind, _ in table}), "all"):
        counts = [
            sum(n for (kind, o), n in table.items() if o == outcome and name in (kind, "all"))
            for outcome in outcomes
        ]
        print(f"{name:24}" + "".join(f"{count:12,}" for count in counts))
    print(f"slowest case {slowest:.1f} s, most memory of a case {largest >> 20} MiB")
    if options.out:
        options.out.write_text(json.dumps(failures, indent=1, ensure_ascii=False) + "\n")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
