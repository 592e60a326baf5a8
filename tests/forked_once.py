"""Imported by the fork server: what a process reads or makes only once is there in all that are forked from it."""

import gc
import io

from prefmill.base.versions import package_versions
from prefmill.pipeline.report import _template
from prefmill.train.curves import draw
from transformers.conversion_mapping import get_checkpoint_conversion_mapping

LINES = [{"step": step, "loss": 0.5, "rewards/margins": 0.1, "logps/chosen": -9.0} for step in (1, 2)]
draw(LINES).savefig(io.BytesIO())  # finds the fonts
get_checkpoint_conversion_mapping("llava")
package_versions()
_template()
gc.collect()
gc.freeze()  # what was imported is no garbage
