"""`prefmill eval`: what was trained, held against what people or other judges prefer."""

from __future__ import annotations

import typer

from .evaluate_amber import amber_command, similarity_command
from .evaluate_compare import compare_command
from .evaluate_generator import generator_command
from .evaluate_lmms import lmms_command
from .evaluate_mmhal import mmhal_command
from .evaluate_objhal import objhal_command
from .evaluate_paper import paper_command
from .evaluate_pope import pope_command
from .evaluate_reward import reward_command

app = typer.Typer(no_args_is_help=True, help="Evaluate what was trained against human or other judgements.")
app.command("pope")(pope_command)
app.command("amber")(amber_command)
app.command("amber-similarity")(similarity_command)
app.command("objhal")(objhal_command)
app.command("mmhal")(mmhal_command)
app.command("compare")(compare_command)
app.command("lmms")(lmms_command)
app.command("paper")(paper_command)
app.command("reward")(reward_command)
app.command("generator")(generator_command)
