"""Masked language models: fill in a masked token, and the pseudo-perplexity of texts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM, AutoTokenizer, PreTrainedModel

from embedkit.arguments import check_count
from embedkit.data.texts import as_texts, check_text
from embedkit.embedder.loading import load_folder
from embedkit.encoders.devices import check_fork, on_device, standard_torch
from embedkit.encoders.hub import find_folder
from embedkit.encoders.loading import load_pretrained
from embedkit.errors import InputError
from embedkit.progress import progress
from embedkit.tokenization.batching import TOKEN_BUDGET
from embedkit.tokenization.tokenizer import TextTokenizer, check_ids

_MOST_LOGITS = 1 << 26  # 256 MiB, held at a time: a token has as many as the vocabulary has words


class Candidate(NamedTuple):
    """A token in the place of a mask."""

    token: str
    token_id: int
    probability: float  # among all tokens, in this place


@dataclass(frozen=True, eq=False)
class MaskedLM:
    """An encoder with its masked-LM head.

    Attributes:
        network: gives logits (texts, tokens, vocabulary).
        tokenizer: the encoder's tokenizer.
        own_tokenizer: the same of transformers, which has the mask token.

    Example:
        >>> from embedkit import MaskedLM, TrainingSettings, train_masked_lm
        >>> texts = [f"The cat sees {n} dogs." for n in range(40)]
        >>> once = TrainingSettings(epochs=1, evaluations=1, device="cpu")
        >>> _ = train_masked_lm(texts, "my-bert", new_head=True, settings=once)
        >>> model = MaskedLM.from_pretrained("my-bert")
        >>> [[first, *_]] = model.fill_mask("The [MASK] sees 3 dogs.")
        >>> 0 < first.probability < 1 < model.pseudo_perplexity(["The cat sees 3 dogs."])
        True
    """

    network: PreTrainedModel = field(repr=False)
    tokenizer: TextTokenizer = field(repr=False)
    own_tokenizer: Any

    @classmethod
    @standard_torch()
    def from_pretrained(
        cls, model: str | Path, *, device: str | None = None, revision: str | None = None
    ) -> MaskedLM:
        """Load a checkpoint of masked-LM training.

        Args:
            model: a folder or a hub id.
            device: "cpu", "cuda", ...; None uses a GPU if there is one.
            revision: the revision on the hub: a branch, tag or commit.

        Raises:
            InputError: no model, or one without a masked-LM head or a mask token.
        """
        parts = load_folder(find_folder(model, revision=revision), None, None)
        folder = parts.settings.encoder_folder
        network, missing = load_masked_lm(folder)
        if missing:
            raise InputError(
                f"model {str(model)!r} has no weights for a masked-LM head "
                f"({', '.join(missing[:3])}); expected a checkpoint of masked-LM training"
            )
        with on_device(device) as target:
            cast("nn.Module", network).to(target).eval()
        return cls(network, parts.tokenizer, load_mask_tokenizer(folder))

    @standard_torch()
    def fill_mask(self, text: str, top_k: int = 5) -> list[list[Candidate]]:
        """The most probable tokens for each mask of a text, best first.

        Args:
            text: with the tokenizer's mask token in it, once or more; other masks stay masked.
            top_k: candidates for each.

        Raises:
            InputError: no mask, or a text over the model's maximum length.
        """
        top_k = check_count("top_k", top_k)
        own, tokens = self.own_tokenizer, self.tokenizer([check_text("text", text)])
        if tokens.truncated[0]:
            raise InputError(f"the text has over {self.tokenizer.max_length} tokens, the maximum")
        ids = tokens.token_ids.astype(np.int64)
        masks = np.flatnonzero(ids == own.mask_token_id)
        if not len(masks):
            raise InputError(
                f"text {text!r} has no mask; expected {own.mask_token!r}, this model's mask token"
            )
        logits = self._logits(ids[None])[0, masks]
        best = logits.softmax(-1).topk(min(top_k, logits.shape[-1]))
        return [
            [Candidate(own.decode([token]), token, p) for token, p in zip(*row, strict=True)]
            for row in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]

    def pseudo_perplexity(
        self, texts: Iterable[str], *, show_progress: bool | None = None
    ) -> float:
        """exp of minus the mean log-probability, in nats, of each token when it alone is masked.

        The pseudo-perplexity of Salazar et al. 2020, equation 4, over all tokens of all texts that
        are not special. Texts are truncated to the model's maximum length.

        Args:
            texts: n of them, with a token at least.
            show_progress: on stderr; None shows it where stderr is a terminal.

        Raises:
            InputError: no texts, or none with a token.
        """
        tokens = self.tokenizer(as_texts(texts))
        total, count = 0.0, int((~tokens.special).sum())
        if not count:
            raise InputError("the texts have no token that is not special; expected one")
        vocabulary = cast("Any", self.network).config.vocab_size
        budget = min(TOKEN_BUDGET, _MOST_LOGITS // vocabulary)
        with progress(count, "tokens", show=show_progress) as advance:
            for start, end in zip(tokens.offsets, tokens.offsets[1:], strict=False):
                ids = tokens.token_ids[start:end].astype(np.int64)
                asked = np.flatnonzero(~tokens.special[start:end])
                size = max(1, budget // len(ids))
                for places in np.split(asked, range(size, len(asked), size)):
                    total += self._log_probability(ids, places)
                    advance(len(places))
        return float(np.exp(-total / count))

    @standard_torch()
    def _log_probability(self, ids: NDArray[np.int64], places: NDArray[np.int64]) -> float:
        """Summed over these places of one text, each masked alone."""
        if not len(places):
            return 0.0
        rows = np.tile(ids, (len(places), 1))
        rows[np.arange(len(places)), places] = self.own_tokenizer.mask_token_id
        logits = self._logits(rows)[torch.arange(len(places)), torch.from_numpy(places)]
        wanted = torch.from_numpy(ids[places]).unsqueeze(1)
        return float(logits.double().log_softmax(-1).gather(1, wanted).sum())

    def _logits(self, ids: NDArray[np.int64]) -> Tensor:
        """(texts, tokens, vocabulary) of texts of one length."""
        check_ids(ids, cast("Any", self.network).config.vocab_size)
        check_fork()
        inputs = torch.from_numpy(ids).to(self.network.device)
        network = cast("nn.Module", self.network)
        with torch.inference_mode():
            logits: Tensor = network(inputs, attention_mask=torch.ones_like(inputs)).logits
        return logits.float().cpu()


def load_masked_lm(folder: Path, seed: int = 0) -> tuple[PreTrainedModel, list[str]]:
    """The network, and the names of the head's weights that the folder lacks, which were drawn."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network, missing = load_pretrained(AutoModelForMaskedLM.from_config, folder)
    return network, sorted(missing)


def load_mask_tokenizer(folder: Path) -> Any:
    """The tokenizer of transformers, which has a mask token."""
    tokenizer = AutoTokenizer.from_pretrained(
        folder, trust_remote_code=False, local_files_only=True
    )
    if tokenizer.mask_token is None:
        raise InputError(
            f"{folder}: its tokenizer has no mask token; expected that of a masked-LM model"
        )
    return tokenizer
