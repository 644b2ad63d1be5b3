"""What options can be set to: in --help, by Tab in a shell, and in the tables of the API."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import shellingham
from helpers.command import LEAVES, Run, refused
from huggingface_hub import constants

from embedkit.cli import app, choices
from embedkit.cli.encode import _STDIN_FORMATS
from embedkit.data.builtin import SHIPPED
from embedkit.data.named_sets import NAMED_SETS, SUITES
from embedkit.data.tables import READERS
from embedkit.embedder.precision import AUTO, PRECISIONS
from embedkit.encoders.encoder import ENGINES
from embedkit.evaluation.correlation import AGGREGATIONS
from embedkit.retrieval.faiss_index import KINDS, RANKINGS
from embedkit.retrieval.fusion import MODES
from embedkit.scoring.cross_encoder_network import READS
from embedkit.scoring.pair_regressor import HEADS
from embedkit.similarity import SIMILARITIES
from embedkit.training.bi_encoder import LOSSES
from embedkit.vectors.shards import DTYPES


def test_the_names_are_those_of_the_tables() -> None:
    """The tables load numpy, torch, scikit-learn or faiss, so --help cannot read them."""
    assert tuple(SIMILARITIES) == choices.SIMILARITIES
    assert tuple(RANKINGS) == choices.INDEX_SIMILARITIES
    assert tuple(KINDS) == choices.INDEX_KINDS
    assert choices.MODES == MODES
    assert tuple(AGGREGATIONS) == choices.AGGREGATIONS
    assert (AUTO, *PRECISIONS) == choices.PRECISIONS
    assert (AUTO, *ENGINES) == choices.ENGINES
    assert choices.DTYPES == DTYPES
    assert tuple(HEADS) == choices.HEADS
    assert tuple(LOSSES) == choices.LOSSES
    assert tuple(READS) == choices.READS
    assert {f".{name}" for name in _STDIN_FORMATS if name != "txt"} <= set(READERS)


# --help


SIMILARITY = "[cosine|dot|euclidean|manhattan]..."
PRECISION = "[auto|float32|bfloat16|float16|int8]"
KIND = "[flat|hnsw|FACTORY]"
METAVARS = {
    "compare": {
        "precision": PRECISION,
        "head": "[ridge|mlp|isotonic]",
        "similarity": SIMILARITY,
        "aggregation": "[all|mean|wmean]",
        "index": KIND,
        "lang": "[en|ko]",
    },
    "evaluate": {"precision": PRECISION, "similarity": SIMILARITY, "index": KIND},
    "encode": {
        "precision": PRECISION,
        "dtype": "[float32|float16]",
        "input_format": "[txt|csv|tsv|jsonl]",
    },
    "index build": {"kind": "[flat|hnsw|auto|FACTORY]", "similarity": "[cosine|dot|euclidean]"},
}


@pytest.mark.parametrize("command", METAVARS)
def test_choices_are_shown_as_choices(command: str) -> None:
    shown = {option.name: option.metavar for option in LEAVES[tuple(command.split())].params}
    assert {name: shown[name] for name in METAVARS[command]} == METAVARS[command]


@pytest.mark.parametrize("path", LEAVES, ids="-".join)
def test_every_option_has_a_group_and_every_help_is_a_sentence(path: tuple[str, ...]) -> None:
    for param in LEAVES[path].params:
        if param.param_type_name == "option" and param.name not in ("help", "quiet"):
            assert param.rich_help_panel, param.name
        assert param.help[0].isupper(), param.name
        assert param.help.endswith("."), param.name


@pytest.mark.parametrize("width", [80, 120])
def test_groups_in_help(run: Run, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lines = run("encode", "--help").out.splitlines()
    assert max(map(len, lines)) <= width
    titles = [line.split(" ")[1] for line in lines if line.startswith("╭─")]
    assert titles == ["Arguments", "Options", "Output", "Model", "Data", "Prompts"]


def test_tables_in_a_pipe_are_as_wide_as_columns(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert "Documents" in run("datasets").out
    monkeypatch.setenv("COLUMNS", "80")
    lines = run("datasets").out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "Licence" in lines[0]
    assert "Documents" not in lines[0]


@pytest.mark.process
def test_the_command_line_starts_without_numpy_and_torch() -> None:
    program = "import sys, embedkit.cli; print({'numpy', 'torch', 'pyarrow'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout == "set()\n"


# Wrong choices


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("compare first_look --lang de", "unknown language 'de'; choose from en, ko"),
        (
            "compare first_look --precision half",
            "precision is 'half'; expected one of auto, float32, bfloat16, float16",
        ),
        (
            "compare first_look --head tree --train first_look",
            "unknown head 'tree'; choose from ridge, mlp, isotonic, or give a regressor",
        ),
        (
            "compare first_look -s cosine,cosin",
            "unknown similarity 'cosin'; choose from cosine, dot, euclidean, manhattan",
        ),
        (
            "evaluate first_look --aggregation sum",
            "unknown aggregation 'sum'; choose from all, mean, wmean",
        ),
        (
            "encode x.txt --out v --dtype float64",
            "dtype is 'float64'; expected one of float32, float16",
        ),
        (
            "encode - --out v --format xml",
            "--format is 'xml'; expected one of txt, csv, tsv, jsonl",
        ),
    ],
)
@pytest.mark.usefixtures("no_forward")
def test_a_wrong_choice_is_one_sentence(
    run: Run, command: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.txt").write_text("a cat\n")
    assert refused(run(*command.split())).startswith(problem)


# Completion in a shell


@pytest.fixture
def complete(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., list[str]]:
    """What Tab offers at the end of a line, by the protocol of bash, zsh or fish."""

    def offer(line: str, shell: str = "bash") -> list[str]:
        # A last word in quotes is not closed yet.
        words = shlex.split(f"{line}'") if "'" in line else line.split(" ")
        monkeypatch.setenv("_EMBEDKIT_COMPLETE", f"complete_{shell}")
        monkeypatch.setenv("COMP_WORDS", line)  # of bash
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        monkeypatch.setenv("_TYPER_COMPLETE_ARGS", line)  # of zsh and fish
        monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
        with pytest.raises(SystemExit) as end:
            app(prog_name="embedkit")
        assert not end.value.code
        out, err = capsys.readouterr()
        assert err == ""
        return out.splitlines()

    return offer


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("embedkit comp", ["compare"]),
        ("embedkit compare --aggregation ", ["all", "mean", "wmean"]),
        ("embedkit compare --precision f", ["float32", "float16"]),
        ("embedkit compare x.tsv --lang ", ["en", "ko"]),
        ("embedkit compare --head m", ["mlp"]),
        ("embedkit compare -s c", ["cosine"]),
        ("embedkit compare -s cosine,d", ["cosine,dot"]),
        ("embedkit compare -s 'cosine m", ["cosine manhattan"]),
        ("embedkit compare --recipes mean+cl", ["mean+cls"]),
        ("embedkit compare --baseline max", ["max", "max_content"]),
        ("embedkit compare first", [*SHIPPED]),
        ("embedkit compare a.tsv --select first", [*SHIPPED]),
        ("embedkit evaluate first_look -m m", ["minilm"]),
        ("embedkit evaluate x --device c", ["cpu", "cuda"]),
        ("embedkit evaluate x.tsv --index h", ["hnsw"]),
        ("embedkit encode x.txt --dtype float1", ["float16"]),
        ("embedkit encode - --format c", ["csv"]),
        ("embedkit encode x.txt --encoding cp", ["cp949"]),
        ("embedkit index build v --similarity ", ["cosine", "dot", "euclidean"]),
        ("embedkit index build v --kind f", ["flat"]),
        ("embedkit train head first_look --recipe idf", ["idf_mean"]),
        ("embedkit compare --lang ko --lang k", ["ko"]),  # refused when it runs
        ("embedkit compare ./", []),  # then bash offers files
    ],
)
def test_completion_in_bash(
    complete: Callable[..., list[str]], line: str, offered: list[str]
) -> None:
    assert complete(line) == (offered or [""])


def test_completion_leaves_files_to_the_shell(
    complete: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert complete("embedkit compare ") == [*SHIPPED, *NAMED_SETS, *SUITES]
    assert complete("embedkit evaluate sts7") == ["sts7"]
    Path("folder").mkdir()
    for line in ("embedkit compare ", "embedkit compare fo", "embedkit evaluate x f"):
        assert complete(line) == [""]
    assert complete("embedkit compare fi") == [*SHIPPED]


def test_completion_in_zsh_and_fish(complete: Callable[..., list[str]]) -> None:
    assert complete("embedkit compare x --lang ", "zsh") == ['_arguments \'*: :(("en"', '"ko"))\'']
    assert complete("embedkit compare x --lang ", "fish") == ["en", "ko"]
    assert complete("embedkit encode x --dtype float1", "fish") == ["float16"]


def test_completion_of_models_in_the_cache(
    complete: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("models--klue--bert-base", "models--bert-base-uncased", "datasets--klue--klue"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert complete("embedkit compare x -m ") == ["minilm", "bert-base-uncased", "klue/bert-base"]
    assert complete("embedkit search i -m klue") == ["klue/bert-base"]


@pytest.mark.parametrize(
    ("shell", "file"),
    [
        ("bash", ".bash_completions/embedkit.sh"),
        ("zsh", ".zfunc/_embedkit"),
        ("fish", ".config/fish/completions/embedkit.fish"),
    ],
)
def test_completion_is_shown_and_installed(
    shell: str,
    file: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(shellingham, "detect_shell", lambda: (shell, f"/bin/{shell}"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for option in ("--show-completion", "--install-completion"):
        with pytest.raises(SystemExit) as end:
            app([option], prog_name="embedkit")
        assert not end.value.code
    script = (tmp_path / file).read_text()
    assert f"_EMBEDKIT_COMPLETE=complete_{shell}" in script
    assert capsys.readouterr().out.startswith(script.strip())


@pytest.mark.process
def test_completion_in_a_real_bash(tmp_path: Path) -> None:
    """The installed command and the script that it prints, in a bash with Tab at the end."""
    folder = Path(sys.executable).parent
    program = """
    eval "$(_EMBEDKIT_COMPLETE=source_bash embedkit)"
    COMP_WORDS=(embedkit compare first_look --aggregation "")
    COMP_CWORD=4
    $(complete -p embedkit | sed 's/.*-F \\([^ ]*\\).*/\\1/') embedkit "" --aggregation
    printf '%s\\n' "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        ["bash", "--norc", "-c", program],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(tmp_path)},
    )
    assert (done.stdout.split(), done.stderr) == (["all", "mean", "wmean"], "")
