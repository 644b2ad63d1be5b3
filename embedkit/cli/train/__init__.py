"""`embedkit train`: head, cross-encoder, bi-encoder, mlm and token-classifier."""

from __future__ import annotations

from embedkit.cli.app import App
from embedkit.cli.train.bi_encoder import train_bi_encoder_command
from embedkit.cli.train.cross_encoder import train_cross_encoder_command
from embedkit.cli.train.head import train_head_command
from embedkit.cli.train.masked_lm import train_masked_lm_command
from embedkit.cli.train.token_classifier import train_token_classifier_command

train_app = App(
    help="Train a head, a cross-encoder, a bi-encoder, a masked LM or a token classifier.",
    no_args_is_help=True,
)
train_app.command("head")(train_head_command)
train_app.command("cross-encoder")(train_cross_encoder_command)
train_app.command("bi-encoder")(train_bi_encoder_command)
train_app.command("mlm")(train_masked_lm_command)
train_app.command("token-classifier")(train_token_classifier_command)
