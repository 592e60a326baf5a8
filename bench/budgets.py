"""Compile every kernel for sm_80 and sm_90 on this machine, and compare or update the record of what they take.

python -m prefmill.bench.budgets            # exit code 1 where a number moved
python -m prefmill.bench.budgets --update   # write kernels/budgets.json anew
"""

import argparse
import sys

from ..kernels.budgets import RECORD, SHARED_LIMIT, key, measure, read_record, write_record
from ..kernels.catalogue import OPS


def main(arguments: list[str] | None = None) -> int:
    """Print registers, spills and shared memory of every kernel; 1 where one differs from the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help="write the measured numbers to the record")
    builds = [build for op in OPS for build in op.builds]
    if parser.parse_args(arguments).update:
        write_record(builds)
        print(f"wrote {RECORD}")
    recorded, moved = read_record(), 0
    for build in builds:
        for target in sorted(SHARED_LIMIT):
            usage, before = measure(build, target), recorded.get(key(build, target))
            moved += usage != before
            note = "" if usage == before else f"   recorded: {before}"
            print(f"{key(build, target):60} {usage.registers:4} registers {usage.shared:7} B shared{note}")
    return 1 if moved else 0


if __name__ == "__main__":
    sys.exit(main())
