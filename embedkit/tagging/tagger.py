"""The token classifier: finds entities in texts; loads, tags and saves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast, get_args

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoModelForTokenClassification, PreTrainedModel

from embedkit.arguments import as_path, check_list, check_type
from embedkit.data.entities import Span, TaggedText, TaggedTexts, Unit, check_unit
from embedkit.data.texts import check_text
from embedkit.embedder.fingerprint import network_fingerprint
from embedkit.embedder.folder_kind import check_kind, read_record, write_record
from embedkit.embedder.loading import load_folder, load_for_head
from embedkit.embedder.model_card import noted, write_mark
from embedkit.encoders.devices import check_fork, on_device, standard_torch
from embedkit.encoders.hub import find_folder
from embedkit.encoders.loading import load_pretrained, without_bars
from embedkit.errors import InputError
from embedkit.files import new_folder, write_text
from embedkit.markdown import in_markdown
from embedkit.progress import progress
from embedkit.tagging.alignment import Window, spans_of, windows_of
from embedkit.tokenization.batching import TOKEN_BUDGET, Batches, padded
from embedkit.tokenization.tokenizer import TextTokenizer, check_ids
from embedkit.version import __version__

if TYPE_CHECKING:
    from embedkit.training.outcome import TrainingOutcome

_CARD = """\
---
library_name: transformers
pipeline_tag: token-classification
tags: [token-classification, embedkit]
---

# A token classifier on {name}

Finds entities of the types {types}. Saved by embedkit {version}.

- made from: {name} ({family}, {layers} layers)
- unit: {unit}; texts over {max_length} tokens are read in overlapping windows
{notes}
```shell
embedkit tag TEXTS -m path/to/this/folder
```

```python
from transformers import pipeline

find = pipeline("token-classification", "path/to/this/folder", aggregation_strategy="{strategy}")
```
"""


@dataclass(frozen=True, eq=False)
class Tagger:
    """Finds entities with a token classifier of transformers.

    Attributes:
        network: gives logits (texts, tokens, labels).
        tokenizer: the encoder's tokenizer.
        unit: "word" or "character", whose first token has the label.
        name: the model that it was made from, or its folder.
        notes: notes on its training, for people.
        training: how `train_token_classifier` trained it; None for one that was loaded.

    Example:
        >>> from embedkit import Tagger
        >>> tagger = Tagger.untrained("minilm", ["LC"], "word")  # `train_token_classifier` trains
        >>> len(tagger.tag(["She lives in Seoul.", "It rains."], show_progress=False))
        2
    """

    kind: ClassVar[Literal["token-classifier"]] = "token-classifier"

    network: PreTrainedModel = field(repr=False)
    tokenizer: TextTokenizer = field(repr=False)
    unit: Unit
    name: str
    notes: Mapping[str, Any] = field(default_factory=dict, repr=False)
    training: TrainingOutcome | None = field(default=None, repr=False)

    @classmethod
    @standard_torch()
    def untrained(
        cls,
        model: str | Path,
        types: Sequence[str],
        unit: Unit,
        *,
        seed: int = 0,
        max_length: int | None = None,
        revision: str | None = None,
    ) -> Tagger:
        """An encoder with a new classifier of IOB2 tags, to be trained.

        Args:
            model: as for `Embedder.from_pretrained`; a name or a folder.
            types: of the entities.
            unit: of the data to come.
            seed: the random seed of the new weights.
            max_length: the most tokens of a window; None for the model's own.
            revision: the revision on the hub: a branch, tag or commit.

        Raises:
            InputError: what is wrong with the model.
        """
        check_unit(unit)
        check_list("types", types)
        names = [check_text("types", name) for name in types]
        if not names or sorted({*names}) != sorted(x for name in names for x in name.split()):
            raise InputError(f"types is {names}; expected different names, without spaces")
        _, parts = load_for_head(model, max_length, "token classifier", revision=revision)
        labels = dict(enumerate(["O", *(f"{prefix}-{name}" for name in names for prefix in "BI")]))
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network, _ = load_pretrained(
                AutoModelForTokenClassification.from_config,
                parts.settings.encoder_folder,
                resize=True,
                id2label=labels,
                label2id={label: index for index, label in labels.items()},
            )
            for name, module in network.named_modules():
                inside = name.split(".")[0] == network.base_model_prefix
                if isinstance(module, nn.Linear) and not inside:  # may be of other labels
                    nn.init.normal_(module.weight, std=0.02)
                    if module.bias is not None:
                        nn.init.zeros_(module.bias)
        return cls(network.eval(), parts.tokenizer, unit, str(model))

    @classmethod
    @standard_torch()
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        unit: Unit | None = None,
        max_length: int | None = None,
        device: str | torch.device | None = None,
        revision: str | None = None,
    ) -> Tagger:
        """Read a folder of `save_pretrained`, or another one of a token classifier.

        Args:
            model: a folder or a hub id.
            unit: None for the one that the folder records, else "word".
            max_length: the most tokens of a window; None for the folder's own.
            device: "cpu", "cuda", ...; None uses a GPU if there is one.
            revision: the revision on the hub: a branch, tag or commit.

        Raises:
            InputError: no token classifier, or a damaged one.
        """
        if unit is not None:
            check_unit(unit)
        folder = find_folder(model, revision=revision)
        check_kind(folder, "token-classifier")
        record: dict[str, Any] = {}
        if (folder / "token_classifier.json").is_file():
            path, record = read_record(folder, "token-classifier")
            if record.get("unit") not in get_args(Unit) or type(record.get("notes")) is not dict:
                raise InputError(f"{path}: is damaged; expected a unit and notes")
        length = record.get("max_length") if max_length is None else max_length
        parts = load_folder(folder, None, length)
        network, missing = load_pretrained(
            AutoModelForTokenClassification.from_config, parts.settings.encoder_folder
        )
        if missing:
            raise InputError(
                f"{folder}: its weights lack those of a token classifier "
                f"({', '.join(sorted(missing)[:3])}); expected a folder of embedkit train "
                "token-classifier"
            )
        with on_device(device) as target:
            network.to(target)
        chosen: Unit = record.get("unit", "word") if unit is None else unit
        made = cls(network.eval(), parts.tokenizer, chosen, str(model), record.get("notes", {}))
        if "O" not in made.labels:
            raise InputError(f"{folder}: has the labels {made.labels}; expected 'O' among them")
        return made

    @property
    def labels(self) -> list[str]:
        """The tag of each of the network's outputs."""
        names = cast("Any", self.network).config.id2label
        return [names[index] for index in range(len(names))]

    def tag(
        self, texts: Iterable[str], *, show_progress: bool | None = None
    ) -> list[tuple[Span, ...]]:
        """The entities of each text.

        Args:
            texts: n of them.
            show_progress: on stderr; None shows it where stderr is a terminal.

        Raises:
            InputError: no texts, or something else among them.
        """
        rows = TaggedTexts.untagged(texts, self.unit).rows
        return self.predict(rows, show_progress=show_progress)

    @standard_torch()
    def predict(
        self, rows: Sequence[TaggedText], *, show_progress: bool | None = None
    ) -> list[tuple[Span, ...]]:
        """The same for texts whose words are known, or whose units are characters."""
        for one in rows:
            check_type("rows", one, TaggedText, "TaggedText")
        check_fork()
        windows = list(windows_of(self.tokenizer, rows))
        lengths = np.array([len(window.token_ids) for window in windows], np.int64)
        tags: list[list[str]] = [[] for _ in windows]
        scores: list[list[float]] = [[] for _ in windows]
        labels = self.labels
        network = cast("nn.Module", self.network).eval()
        with (
            torch.inference_mode(),
            progress(len(windows), "texts", show=show_progress) as advance,
        ):
            for batch in Batches(lengths, TOKEN_BUDGET):
                inputs = self.inputs([windows[index] for index in batch], self.network.device)
                logits: Tensor = network(**inputs).logits
                best, choices = logits.float().softmax(-1).max(-1)
                for row, index in enumerate(batch):
                    labelled = torch.from_numpy(windows[index].labelled).to(best.device)
                    scores[index] = best[row, labelled].tolist()
                    tags[index] = [labels[one] for one in choices[row, labelled].tolist()]
                advance(len(batch))
        return spans_of(windows, tags, len(rows), scores)

    def inputs(self, windows: Sequence[Window], device: str | torch.device) -> dict[str, Tensor]:
        """input_ids and attention_mask, (windows, longest) each."""
        config, rows = cast("Any", self.network).config, [window.token_ids for window in windows]
        for row in rows:
            check_ids(row, config.vocab_size)
        ids = padded(rows, config.pad_token_id or 0)
        mask = padded([np.ones_like(row) for row in rows], 0)
        return {
            "input_ids": torch.from_numpy(ids).to(device),
            "attention_mask": torch.from_numpy(mask).to(device),
        }

    @property
    def fingerprint(self) -> str:
        """SHA-256 of weights, tokenizer and maximum length."""
        return network_fingerprint(self.network, self.tokenizer)

    @standard_torch()
    def save_pretrained(self, folder: str | Path) -> None:
        """Write a folder of transformers, whole or not at all.

        Raises:
            InputError: something else is in the way.
        """
        config = cast("Any", self.network).config
        with new_folder(as_path("folder", folder)) as new, without_bars():
            self.network.save_pretrained(new)
            self.tokenizer.save(new)
            length = self.tokenizer.max_length
            record = {"unit": self.unit, "max_length": length, "notes": dict(self.notes)}
            write_record(new, "token-classifier", record)
            write_mark(new, "mean", self.name)
            card = _CARD.format(
                **record | {"notes": noted(self.notes)},
                name=in_markdown(self.name),
                types=in_markdown(
                    ", ".join(dict.fromkeys(label[2:] for label in self.labels if label[2:]))
                ),
                version=__version__,
                family=config.model_type,
                layers=config.num_hidden_layers,
                strategy="first" if self.unit == "word" else "simple",
            )
            write_text(new / "README.md", card)
