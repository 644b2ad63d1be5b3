"""BertForSequenceClassification(num_labels=1): what its loss is, and what its classifier reads.

    python examples/regression_loss.py [MODEL]

MODEL is `minilm` (offline), `klue/bert-base` (from the hub), or any BERT with a pooler.
"""

from __future__ import annotations

import sys

import torch

from embedkit import CrossEncoder, InputError
from embedkit.tokenization.pairs import PairTokens

PAIRS = [("A man plays guitar.", "Someone makes music."), ("그는 책을 읽고 있다.", "비가 온다.")]
SCORES = torch.tensor([0.8, 0.1])


def main(model: str = "minilm") -> None:
    pooler, cls = (CrossEncoder.untrained(model, reads, (0, 1)) for reads in ("pooler", "cls"))
    inputs = PairTokens.of(pooler.tokenizer, PAIRS).inputs([0, 1], pooler.pad_id)
    bert = pooler.network.eval()
    with torch.no_grad():
        output = bert(**inputs, labels=SCORES)
        states = bert.base_model(**inputs)
        by_hand = bert.classifier(torch.tanh(bert.base_model.pooler.dense(states[0][:, 0])))
        without = cls.network.eval()(**inputs)
        directly = cls.network.classifier(states[0][:, 0])

    print(f"{type(bert).__name__}, logits {tuple(output.logits.shape)}")
    mse = torch.nn.MSELoss()(output.logits.squeeze(), SCORES)
    print(f"is its loss MSELoss(logits, labels)? {torch.equal(output.loss, mse)}")
    print(f"does its classifier read tanh(W cls + b)? {torch.allclose(output.logits, by_hand)}")
    print(f"with reads='cls', does it read cls? {torch.allclose(without.logits, directly)}")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except InputError as error:
        sys.exit(f"error: {error}")
