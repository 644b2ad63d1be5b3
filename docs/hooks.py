"""Fill the markers of the pages, such as `<!-- poolings -->`, with what the code says."""

from __future__ import annotations

import html
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MARKER = re.compile(r"<!-- (poolings|steps|encoders|datasets|commands|python|include: \S+) -->")


def on_page_markdown(markdown: str, page: Any, **_: object) -> str:
    language = "ko" if page.file.src_uri.endswith(".ko.md") else "en"
    return MARKER.sub(lambda match: fill(match[1], language), markdown)


def on_page_content(content: str, **_: object) -> str:
    """Keep a short name in one line, such as an option, which would break after its hyphens."""
    return re.sub(r"<code>([^<\s]{1,24})</code>", r'<code class="short">\1</code>', content)


def fill(marker: str, language: str) -> str:
    """The text of a marker, as Markdown."""
    import embedkit
    from embedkit.pooling import POOLINGS
    from embedkit.recipes.steps import STEPS

    def table(head: str, rows: Iterator[tuple[str, str, Any]]) -> str:
        lines = (
            f"| `{name}` | {middle} | {row.note_ko if language == 'ko' else row.note} |"
            for name, middle, row in rows
        )
        return "\n".join((head, "| --- | --- | --- |", *lines))

    if marker.startswith("include: "):
        return included(ROOT / marker.removeprefix("include: "))
    if marker == "poolings":
        head = (
            "| 풀링 | 텍스트 벡터 | |" if language == "ko" else "| pooling | vector of a text | |"
        )
        return table(head, ((name, row.formula, row) for name, row in POOLINGS.items()))
    if marker == "steps":
        head, yes = "| step | fitted on texts | |", "yes"
        if language == "ko":
            head, yes = "| 단계 | 텍스트로 학습 | |", "예"
        rows = ((row.name + row.parameter, yes * row.fitted, row) for row in STEPS.values())
        return table(head, rows)
    if marker == "encoders":
        sys.path.insert(0, str(ROOT / "tests"))
        from helpers.families import encoder_table

        return encoder_table(language)
    if marker == "datasets":
        return dataset_table(language)
    if marker == "commands":
        return "\n\n".join(commands())
    return "\n\n".join(f"::: embedkit.{name}" for name in sorted(embedkit.__all__))


def included(path: Path) -> str:
    """A table of results; its headings go one level down, its title goes."""
    text = re.sub(r"\A# .*\n", "", path.read_text(encoding="utf-8"))
    return re.sub(r"^#", "##", text, flags=re.MULTILINE).strip()


def dataset_table(language: str) -> str:
    """The public data sets that have names, and the suites."""
    from embedkit.data.named_sets import NAMED_SETS, SUITES

    ko = language == "ko"
    headings = (
        ("이름", "저장소", "분할", "행 수", "언어", "라이선스")
        if ko
        else ("name", "repository", "split", "rows", "language", "licence")
    )
    rows = [headings, ("---",) * len(headings)]
    for known in NAMED_SETS.values():
        where = f"{known.repository} `{known.revision[:8]}`" if known.repository else known.source
        split = f"{known.config} {known.split}".strip()
        documents = "문서" if ko else "documents"
        size = f"{known.rows:,}"
        size += f", {known.documents:,} {documents}" if known.documents else ""
        rows.append((f"`{known.name}`", where, split, size, known.languages, known.licence))
    suites = [("스위트" if ko else "suite", "데이터" if ko else "data sets"), ("---", "---")]
    suites += [(f"`{name}`", ", ".join(f"`{x}`" for x in sets)) for name, sets in SUITES.items()]
    tables = ("\n".join(f"| {' | '.join(row)} |" for row in table) for table in (rows, suites))
    return "\n\n".join(tables)


def commands() -> Iterator[str]:
    """Every command: what it does, its arguments and options, as `--help` says them."""
    import typer

    from embedkit.cli import app

    def visit(command: Any, path: str) -> Iterator[str]:
        if hasattr(command, "commands"):
            for name in command.commands:
                yield from visit(command.commands[name], f"{path} {name}")
            if not command.invoke_without_command or path == "embedkit":
                return
        yield f"## {path}"
        yield re.sub(r"\[bold\](.*?)\[/bold\]", r"`\1`", command.help or "", flags=re.DOTALL)
        context = typer.Context(command, info_name=path)
        groups: dict[str, list[str]] = {}
        for param in command.params:
            record = param.get_help_record(context)
            if record is None:  # it is hidden
                continue
            row = "| <code>{}</code> | {} |".format(*map(cell, record))
            groups.setdefault(param.rich_help_panel or "", []).append(row)
        lines = ["| option | |", "| --- | --- |"]
        for group in sorted(groups, key=bool):  # first those without one, such as arguments
            lines += [f"| **{group}** | |"] * bool(group) + groups[group]
        yield "\n".join(lines)

    yield from visit(typer.main.get_command(app), "embedkit")


def cell(text: str) -> str:
    return html.escape(re.sub(r"\s+", " ", text), quote=False).replace("|", "&#124;")
