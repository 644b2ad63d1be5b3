"""What transformers reports of weights that a model and its folder do not share."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from helpers import tiny
from transformers import AutoModelForTokenClassification

from embedkit.encoders.loading import load_pretrained


def test_a_new_head_is_not_reported_and_lost_layers_are(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny.make_bert(tmp_path, layers=2)
    caplog.set_level(logging.WARNING, logger="transformers")
    logger = logging.getLogger("transformers")
    monkeypatch.setattr(logger, "handlers", [caplog.handler])
    monkeypatch.setattr(logger, "propagate", False)  # it does where CI is set
    _, drawn = load_pretrained(AutoModelForTokenClassification.from_config, folder)
    assert drawn == {"classifier.weight", "classifier.bias"}
    assert caplog.messages == []
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    load_pretrained(AutoModelForTokenClassification.from_config, folder)
    (report,) = caplog.messages
    assert "encoder.layer.1.output.dense.weight" in report
