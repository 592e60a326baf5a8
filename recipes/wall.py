"""How long a stage takes on several devices: the arithmetic that plans and the simulation (`bench/scaling.py`) share.

A stage is cut into units of about equal time, which free devices take one after the other; all devices wait for the
last one before the next stage begins. So it takes as many rounds as the device with the most units has.
"""

from __future__ import annotations

import math

UNIT_SECONDS = 60.0


def stage_wall(work: float, load: float, devices: int, unit: float) -> float:
    """Return the seconds from a stage's beginning to its end.

    `work` in device seconds, `load` the seconds in which all devices make their model ready at the same time, `unit`
    the seconds of one unit; 0: work that can be cut anywhere.
    """
    if not work:
        return 0.0
    if not unit:
        return load + work / devices
    units = max(1, math.ceil(work / unit))
    return load + math.ceil(units / devices) * work / units
