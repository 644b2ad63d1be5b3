"""The worked example of CONTRIBUTING.md: a new pooling is one file and one row of the table."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent, indent

import numpy as np
import pytest
import torch
import transformers
from architecture import PACKAGE, ROOT
from helpers import tiny

TEXTS = [text for text in tiny.TEXTS if text]
CODE = re.compile(r"^ *```python\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
ENCODE = """
import json, sys
from embedkit import Embedder
from hooks import fill
model, texts = sys.argv[1], json.loads(sys.argv[2])
embedder = Embedder.from_pretrained(model, "unit_mean@1", device="cpu", precision="float32")
print(json.dumps([fill("poolings", "en"), embedder.encode(texts).tolist()]))
"""


@pytest.mark.process
def test_the_example_of_a_new_pooling_works(tmp_path: Path) -> None:
    bytecode = shutil.ignore_patterns("__pycache__")  # where other processes write meanwhile
    package = shutil.copytree(PACKAGE, tmp_path / "embedkit", ignore=bytecode)
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    file, line, row = CODE.findall(page)
    (package / "pooling" / "unit_mean.py").write_text(dedent(file), encoding="utf-8")
    table = package / "pooling" / "__init__.py"
    before = table.read_text(encoding="utf-8")
    after = before.replace("\n\nif TYPE_CHECKING:", f"\n{line.strip()}\n\nif TYPE_CHECKING:", 1)
    pooler = '    PoolingSpec(\n        "pooler",'
    assert after.count(pooler) == 1
    new = indent(dedent(row).rstrip() + ",\n", " " * 4)
    after = after.replace(pooler, new + pooler)
    table.write_text(after, encoding="utf-8")

    model = tiny.make_bert(tmp_path / "bert", layers=2)
    done = subprocess.run(
        [sys.executable, "-c", ENCODE, model, json.dumps(TEXTS)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (tmp_path, ROOT / "docs")))},
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    readme, embeddings = json.loads(done.stdout)
    assert "| `unit_mean` | sum(h_i / |h_i|) / n | every token counts the same" in readme
    np.testing.assert_allclose(embeddings, expected(model), atol=1e-5)


def expected(folder: Path) -> np.ndarray:
    """transformers' states, text by text, in numpy."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    rows = []
    for text in TEXTS:
        with torch.no_grad():
            output = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True)
        tokens = output.hidden_states[1][0].numpy()
        rows.append((tokens / np.linalg.norm(tokens, axis=1, keepdims=True)).mean(0))
    return np.stack(rows)
