"""The cross-encoder: scores a pair of texts in one pass; predicts, saves and loads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor, nn

from embedkit.arguments import as_label_range, as_path, check_count, check_seed
from embedkit.data.texts import as_texts
from embedkit.embedder.fingerprint import network_fingerprint
from embedkit.embedder.folder_kind import is_classifier, read_record, write_record
from embedkit.embedder.loading import load_for_head
from embedkit.embedder.model_card import noted, write_mark
from embedkit.encoders.devices import check_fork, on_device, standard_torch
from embedkit.encoders.hub import check_entries
from embedkit.encoders.loading import without_bars
from embedkit.errors import InputError, first_line
from embedkit.files import new_folder, read_json, write_json, write_text
from embedkit.markdown import in_markdown
from embedkit.progress import progress
from embedkit.scoring.cross_encoder_network import (
    READS,
    build_network,
    check_reads,
    config_of,
    load_network,
    save_network,
)
from embedkit.tokenization.batching import TOKEN_BUDGET, Batches
from embedkit.tokenization.loading import load_tokenizer
from embedkit.tokenization.pairs import PairTokens
from embedkit.tokenization.tokenizer import TextTokenizer, check_ids
from embedkit.version import __version__

if TYPE_CHECKING:
    from embedkit.training.outcome import TrainingOutcome

_CARD = """\
---
library_name: {library}
pipeline_tag: text-ranking
tags: [cross-encoder, sentence-similarity, embedkit]
---

# {name}, a cross-encoder that reads `{reads}`

Scores a pair of sentences from {low:g} to {high:g}; the scores are not cut to that range. Trained \
by embedkit {version}.

- made from: {name} ({family}, {layers} layers)
- the classifier reads: {note}
- maximum length: {max_length} tokens, both sentences together
{notes}
```shell
embedkit score PAIRS -m path/to/this/folder
```
{usage}"""

_LONGEST = 512  # tokens of a pair, where a folder says no other length

_TRANSFORMERS = """
```python
from sentence_transformers import CrossEncoder

scores = CrossEncoder("path/to/this/folder").predict([("...", "...")])
```

It is a folder of transformers, too: AutoModelForSequenceClassification's logits are the scores.
"""


@dataclass(frozen=True, eq=False)
class CrossEncoder:
    """Scores sentence pairs with one pass of an encoder over both sentences.

    Attributes:
        network: gives logits (n, 1), which are the scores.
        tokenizer: the encoder's tokenizer.
        reads: what the network's classifier sits on, a name from the table of readings.
        name: the model that it was made from, or its folder.
        label_range: the lowest and the highest label that it was trained for.
        notes: notes on its training, for people.
        training: how `train_cross_encoder` trained it; None for one that was loaded.
        sigmoid: whether scores are the sigmoid of the logits, as sentence-transformers has it.

    Example:
        >>> from embedkit import CrossEncoder
        >>> model = CrossEncoder.untrained("minilm", "mean", (0, 5))  # `train_cross_encoder` trains
        >>> model.predict([("A cat sleeps.", "A cat naps."), ("It rains.", "Stocks fell.")]).shape
        (2,)
    """

    kind: ClassVar[Literal["cross-encoder"]] = "cross-encoder"

    network: nn.Module
    tokenizer: TextTokenizer
    reads: str
    name: str
    label_range: tuple[float, float]
    notes: Mapping[str, Any] = field(default_factory=dict)
    training: TrainingOutcome | None = None
    sigmoid: bool = False

    @classmethod
    @standard_torch()
    def untrained(
        cls,
        model: str | Path,
        reads: str,
        label_range: tuple[float, float],
        *,
        seed: int = 0,
        max_length: int | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
    ) -> CrossEncoder:
        """An encoder with a new classifier, to be trained.

        Args:
            model: as for `Embedder.from_pretrained`; a name or a folder.
            reads: a name from the table of readings.
            label_range: the range of the labels to come.
            seed: the random seed of the new weights.
            max_length: the most tokens of a pair; None for the model's own.
            revision: the revision on the hub: a branch, tag or commit.
            local_files_only: do not contact the hub.

        Raises:
            InputError: what is wrong with the model, or a reading that it does not have.
        """
        check_reads(reads)
        check_seed(seed)
        label_range = as_label_range(label_range)
        hub = {"revision": revision, "local_files_only": local_files_only}
        folder, parts = load_for_head(model, max_length, cls.kind, **hub)
        network = build_network(parts.settings.encoder_folder, reads, seed)
        return cls(network, parts.tokenizer, reads, str(model), label_range)._checked(folder)

    @classmethod
    @standard_torch()
    def from_pretrained(
        cls, folder: str | Path, *, device: str | torch.device | None = None
    ) -> CrossEncoder:
        """Read what `save_pretrained` wrote, or another classifier of one label.

        The second kind has a label range of 0 to 1 and gives the scores of sentence-transformers.

        Args:
            folder: its path.
            device: "cpu", "cuda", ...; None uses a GPU if there is one.

        Raises:
            InputError: no cross-encoder, or a damaged one.
        """
        target = as_path("folder", folder)
        if is_classifier(target):
            check_entries(target)
            return cls._from_classifier(target, device)
        path, record = read_record(target, "cross-encoder")
        config = read_json(target / "config.json")
        try:
            reads, length = check_reads(record["reads"]).name, int(record["max_length"])
            low, high = map(float, record["label_range"])
            notes = dict(record["notes"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"{path}: is damaged ({type(error).__name__}: {error})") from error
        tokenizer = load_tokenizer(
            target, str(config.get("model_type")), max_length=lambda own: length
        )
        network = load_network(target, reads)
        with on_device(device) as chosen:
            network.to(chosen)
        made = cls(network.eval(), tokenizer, reads, str(folder), (low, high), notes)
        return made._checked(target)

    @classmethod
    def _from_classifier(cls, folder: Path, device: str | torch.device | None) -> CrossEncoder:
        config = read_json(folder / "config.json")
        theirs = config.get("sentence_transformers") or {}
        name = theirs.get("activation_fn", config.get("sbert_ce_default_activation_function"))
        activation = str(name or "Sigmoid").rpartition(".")[2]
        if activation not in ("Sigmoid", "Identity"):
            raise InputError(f"{folder}: its scores are {name}; expected Sigmoid or Identity")
        positions = config.get("max_position_embeddings") or _LONGEST
        tokenizer = load_tokenizer(
            folder,
            str(config.get("model_type")),
            max_length=lambda own: min(own or _LONGEST, positions),
        )
        network = load_network(folder, "pooler")
        with on_device(device) as chosen:
            network.to(chosen)
        made = cls(network.eval(), tokenizer, "pooler", str(folder), (0.0, 1.0))
        return replace(made, sigmoid=activation == "Sigmoid")._checked(folder)

    def _checked(self, folder: Path) -> CrossEncoder:
        """The same, after it has scored one pair: what cannot run is found before long work."""
        length = self.tokenizer.max_length
        added = self.tokenizer.backend.num_special_tokens_to_add(is_pair=True)
        if length <= added + 1:
            raise InputError(
                f"{folder}: max_length is {length}; expected more than the {added} tokens that the "
                "tokenizer adds to a pair, and one of each sentence"
            )
        positions = getattr(self.config, "max_position_embeddings", None)
        if isinstance(positions, int) and length > positions > 0:
            raise InputError(
                f"{folder}: max_length is {length}, but the encoder has {positions} positions"
            )
        try:
            self.predict([("a", "b")], show_progress=False)
        except (InputError, MemoryError):
            raise
        except Exception as error:  # whatever a wrong config.json makes a network raise
            raise InputError(
                f"{folder}: a {self.config.model_type} with this config.json does not run as a "
                f"cross-encoder ({first_line(error)})"
            ) from error
        return self

    def predict(
        self, pairs: Iterable[Sequence[str]], *, show_progress: bool | None = None
    ) -> NDArray[np.float64]:
        """Scores (n,) on the labels' scale, not cut to its range.

        Args:
            pairs: n pairs of texts: lists, tuples, an array (n, 2) of str, or an iterator.
            show_progress: show a bar on stderr; None shows it if stderr is a terminal.

        Raises:
            InputError: no pairs, or an element that is no text.
        """
        tokens = PairTokens.of(self.tokenizer, pairs)
        return self.predict_tokens(tokens, show_progress=show_progress)

    @standard_torch()
    def predict_tokens(
        self, tokens: PairTokens, *, show_progress: bool | None = None
    ) -> NDArray[np.float64]:
        """The same for pairs that are tokenized."""
        check_ids(np.concatenate(tokens.token_ids), self.config.vocab_size)
        check_fork()
        scores = np.empty(len(tokens.token_ids))
        self.network.eval()
        with torch.inference_mode(), progress(len(scores), "pairs", show=show_progress) as advance:
            for batch in Batches(tokens.lengths, TOKEN_BUDGET):
                inputs = tokens.inputs(batch, self.pad_id)
                logits: Tensor = self.network(
                    **{name: inputs[name].to(self.device) for name in self.input_names}
                ).logits
                scores[batch] = logits.squeeze(-1).float().cpu().numpy()
                advance(len(batch))
        return expit(scores) if self.sigmoid else scores

    def rank(
        self,
        query: str,
        documents: Sequence[str],
        top_k: int | None = None,
        *,
        return_documents: bool = False,
        show_progress: bool | None = None,
    ) -> list[dict[str, Any]]:
        """The documents that fit a query best, as sentence-transformers' `CrossEncoder.rank`.

        Args:
            query: the first text of each pair.
            documents: the second ones.
            top_k: documents to return; None for all.
            return_documents: with their texts.
            show_progress: show a bar on stderr; None shows it if stderr is a terminal.

        Returns:
            Dicts of `corpus_id`, which is the position in `documents`, `score`, and perhaps `text`;
            the highest score first.

        Raises:
            InputError: no documents, a query or document that is no text, or a wrong `top_k`.

        Example:
            >>> model = CrossEncoder.untrained("minilm", "mean", (0, 5))
            >>> [row["corpus_id"] for row in model.rank("Do cats nap?", ["It rains."])]
            [0]
        """
        documents = as_texts(documents, "documents")
        count = None if top_k is None else check_count("top_k", top_k)
        scores = self.predict([(query, text) for text in documents], show_progress=show_progress)
        return [
            {
                "corpus_id": row,
                "score": float(scores[row]),
                **({"text": documents[row]} if return_documents else {}),
            }
            for row in np.argsort(-scores, kind="stable")[:count].tolist()
        ]

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    @cached_property
    def input_names(self) -> list[str]:
        """What the network reads; some, such as DistilBERT, know no token types."""
        has_types = int(getattr(self.config, "type_vocab_size", 0) or 0) > 1
        if has_types and "token_type_ids" in signature(self.network.forward).parameters:
            return ["input_ids", "attention_mask", "token_type_ids"]
        return ["input_ids", "attention_mask"]

    @property
    def pad_id(self) -> int:
        """The token that fills rows up."""
        return int(getattr(self.config, "pad_token_id", None) or 0)

    @property
    def config(self) -> Any:
        """The encoder's configuration, of transformers."""
        return config_of(self.network)

    @cached_property
    def described(self) -> dict[str, Any]:
        """What a report says of the model."""
        return {
            "name": self.name,
            "family": self.config.model_type,
            "layers": self.config.num_hidden_layers,
            "width": self.config.hidden_size,
            "pooler": READS[self.reads].saved_as == "pooler",
            "recipe": READS[self.reads].saved_as,
            "max_length": self.tokenizer.max_length,
            "precision": "float32",
        }

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of weights, tokenizer and maximum length."""
        return network_fingerprint(self.network, self.tokenizer)

    @standard_torch()
    def save_pretrained(self, folder: str | Path) -> None:
        """Write a folder, whole or not at all.

        What reads a pooler is a folder of transformers, for AutoModelForSequenceClassification and
        sentence-transformers' CrossEncoder; the others hold the encoder, and the classifier beside.

        Raises:
            InputError: something else is in the way, or it is a folder of others already.
        """
        if self.sigmoid:
            raise InputError(f"{self.name}: is a saved classifier already; copy its folder")
        row, (low, high) = READS[READS[self.reads].saved_as], self.label_range
        of_transformers = row.name == "pooler"
        with new_folder(as_path("folder", folder)) as new, without_bars():
            save_network(self.network, new)
            self.tokenizer.save(new)
            # The tokenizer of klue/roberta-base gives token types, which its encoder does not read;
            # that of ALBERT gives none, and its encoder reads them.
            path = new / "tokenizer_config.json"
            settings = read_json(path) if path.is_file() else {}
            write_json(path, {**settings, "model_input_names": self.input_names})
            record = {
                "reads": row.name,
                "max_length": self.tokenizer.max_length,
                "label_range": [low, high],
                "notes": dict(self.notes),
            }
            write_record(new, "cross-encoder", record)
            write_mark(new, row.name, self.name)
            card = _CARD.format(
                **{**self.described, "name": in_markdown(self.name)},
                library="sentence-transformers" if of_transformers else "embedkit",
                reads=row.name,
                low=low,
                high=high,
                version=__version__,
                note=READS[self.reads].note,
                notes=noted(self.notes),
                usage=_TRANSFORMERS if of_transformers else "",
            )
            write_text(new / "README.md", card)
