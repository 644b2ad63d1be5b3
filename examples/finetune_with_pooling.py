"""Fine-tune a BERT with a pooling in a plain loop of PyTorch; the pooling is differentiable.

    python examples/finetune_with_pooling.py MODEL [RECIPE] [PAIRS] [RATE]

MODEL is a folder or hub id of transformers, PAIRS a file of sentence pairs with scores,
RATE the learning rate of the encoder.
"""

from __future__ import annotations

import sys

import torch
from transformers import AutoModel, AutoTokenizer

from embedkit import Pooling, read_pairs


def main(
    name: str, recipe: str = "attention/normalize", data: str = "first_look", rate: str = "2e-5"
) -> None:
    torch.manual_seed(0)
    pairs = read_pairs(data)
    low, high = min(pairs.scores), max(pairs.scores)
    labels = torch.tensor([(score - low) / (high - low) for score in pairs.scores]).float()
    tokenizer, model = AutoTokenizer.from_pretrained(name), AutoModel.from_pretrained(name)
    sizes = {"dim": model.config.hidden_size, "num_layers": model.config.num_hidden_layers}
    pooling = Pooling(recipe, **sizes)
    model.train()

    def embed(texts: list[str]) -> torch.Tensor:
        tokens = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        output = model(**tokens, output_hidden_states=True)
        return pooling(output, tokens["attention_mask"])

    encoder = {"params": [*model.parameters()], "lr": float(rate)}
    weights = {"params": [*pooling.parameters()], "lr": 50 * float(rate)}  # they begin equal
    optimizer = torch.optim.AdamW([encoder, weights])
    for epoch in range(3):
        total = 0.0
        for rows in torch.randperm(len(labels)).split(16):
            a, b = (embed([side[i] for i in rows]) for side in (pairs.sentence1, pairs.sentence2))
            loss = (torch.cosine_similarity(a, b) - labels[rows]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
        print(f"epoch {epoch + 1}: mean squared error {total / len(labels):.4f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
