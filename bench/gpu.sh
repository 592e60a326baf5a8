#!/usr/bin/env bash
# Everything that needs a GPU, checked and measured in under nine minutes: one command, one summary.
#   bash bench/gpu.sh                # results in bench/results, or in $OUT
#   bash bench/gpu.sh --dry-run      # prints the parts, checks limits and commands; needs no GPU
# Every part has a time limit of its own, and a part that fails stops no other. WHEELS=FOLDER installs the wheels in a
# folder first, into one of its own. PYTHON=PATH chooses the Python. Exit codes: 0 all parts ran, 1 one failed, 2 no GPU.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-bench/results}
if [ -z "${PYTHON:-}" ]; then PYTHON=python3; [ -x .venv/bin/python ] && PYTHON=.venv/bin/python; fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
total=540

# name | seconds at most | needed packages and $VARIABLES | command; RESULT is the part's result file, WORK a folder for all
parts=(
  "kernel_tests|45|pytest|-m pytest tests/kernels -n 8"
  "kernels|55|triton|-m prefmill.cli.main bench kernels --device cuda --quick --output WORK/kernels"
  "scorers|45|transformers|-m prefmill.cli.main bench scorers --device cuda --rounds 5 --to RESULT"
  "train|65|trl deepspeed peft|-m prefmill.cli.main bench train --device cuda --ladder --layers 4 --pairs 8 --rounds 1 --to RESULT"
  "engines|45|diffusers|-m prefmill.cli.main bench engines --device cuda --spec sd3_55m --backends torch_compile,aoti --batches 8 --to RESULT"
  "tensorrt|40|diffusers|-m prefmill.cli.main bench engines --device cuda --spec sd3_55m --backends tensorrt,tensorrt_rtx --batches 8 --to RESULT"
  "sd3_medium|80|diffusers|-m prefmill.cli.main bench sd3_device --images 4 --rounds 1 --to RESULT"
  "responders|20|transformers|-m prefmill.cli.main bench responders --device cuda --rounds 1 --to RESULT"
  "vllm|35|transformers \$PREFMILL_VLLM_PYTHON|-m prefmill.cli.main bench responders --backend vllm --device cuda --rounds 1 --to RESULT"
  "pipeline|20|diffusers|-m prefmill.cli.main run tiny --prompts WORK/prompts.txt --to WORK/run --no-train --set engine.device=cuda"
  "preferences|20|diffusers|-m prefmill.cli.main run visionprefer-micro --prompts WORK/micro.txt --to WORK/rated --no-train --set engine.device=cuda"
  "reward_training|15|transformers|-m prefmill.cli.main train reward WORK/rated --micro --to WORK/reward --set device=cuda --set epochs=1 --json"
  "ppo|15|diffusers peft|-m prefmill.cli.main train generator WORK/rated --tuning micro --method ppo --to WORK/ppo --set device=cuda --set steps=4 --json"
  "refl|15|diffusers peft|-m prefmill.cli.main train generator WORK/rated --tuning micro --method refl --to WORK/refl --set device=cuda --set steps=4 --json"
)
setup=20 # seconds for wheels and imports

# The folders are the package: without an installation they are linked as one.
"$PYTHON" -c "import prefmill.base.errors" 2>/dev/null || {
  mkdir -p "$work/links/prefmill"
  for folder in base kernels engine micro compile pipeline train recipes bench cli; do
    ln -s "$PWD/$folder" "$work/links/prefmill/$folder"
  done
  export PYTHONPATH="$work/links${PYTHONPATH:+:$PYTHONPATH}"
}

if [ "${1:-}" = --dry-run ]; then
  sum=$setup
  for part in "${parts[@]}"; do
    IFS='|' read -r name limit _ command <<<"$part"
    sum=$((sum + limit))
    printf '%-14s %4s s   python %s\n' "$name" "$limit" "$command"
  done
  echo "all limits together: $sum s, of $total s"
  [ "$sum" -lt "$total" ] || { echo "error: the limits are too long" >&2; exit 1; }
  printf '%s\n' "${parts[@]}" | "$PYTHON" -W ignore -m prefmill.bench.gpu_dry_run
  exit $?
elif [ -n "${1:-}" ]; then
  echo "error: $1 is no option; there is --dry-run" >&2
  exit 2
fi

if ! "$PYTHON" -c "import sys, torch; sys.exit(0 if torch.cuda.is_available() else 1)" 2>/dev/null; then
  echo "error: torch sees no GPU here." >&2
  echo "  fix: run it where there is one, or try it with bash bench/gpu.sh --dry-run" >&2
  exit 2
fi
if [ -n "${WHEELS:-}" ]; then
  "$PYTHON" -m pip install -q --no-index --no-deps --no-compile --target "$work/site" "$WHEELS"/*.whl || exit 1
  export PYTHONPATH="$work/site${PYTHONPATH:+:$PYTHONPATH}"
fi
device=$("$PYTHON" -c "import re, torch; print(re.sub('[^a-z0-9]+', '-', torch.cuda.get_device_name().lower()).strip('-'))")
mkdir -p "$out" && out=$(cd "$out" && pwd) || exit 1
log="$out/gpu-$device.log"
: >"$log"
printf 'a red kite over the sea\na blue boat at dawn\n' >"$work/prompts.txt"
for first in "a red ball" "a green tree" "a yellow cup" "a purple car"; do
  for second in "a blue boat" "a red bird" "a green kite" "an orange lamp"; do
    echo "$first at top left and $second at bottom right on gray"
  done
done >"$work/micro.txt"

for part in "${parts[@]}"; do
  IFS='|' read -r name limit needed command <<<"$part"
  command=${command//RESULT/$out/$name-$device.json}
  command=${command//WORK/$work}
  began=$SECONDS status=ok reason=
  for package in $needed; do
    variable=${package#\$}
    if [ "$variable" != "$package" ]; then
      [ -n "${!variable:-}" ] || { status=skipped reason="$variable is not set"; break; }
    elif ! "$PYTHON" -c "import importlib.util, sys; sys.exit(importlib.util.find_spec('$package') is None)"; then
      status=skipped reason="$package is not installed"
      break
    fi
  done
  if [ "$status" = ok ]; then
    echo "== $name: python $command" | tee -a "$log"
    # the command is words without spaces of their own
    timeout --kill-after=5 "$limit" "$PYTHON" -W ignore $command >"$work/stdout" 2>"$work/stderr"
    code=$?
    cat "$work/stdout" "$work/stderr" >>"$log"
    if [ "$code" -eq 124 ] || [ "$code" -eq 137 ]; then
      status=failed reason="longer than $limit s"
    elif [ "$code" -ne 0 ]; then
      status=failed reason=$(cat "$work/stdout" "$work/stderr" | grep -v '^ *fix:' | tail -n 1 | cut -c1-300)
    fi
    tail -n 1 "$work/stdout" >"$work/$name.last"
  fi
  printf '%s\t%s\t%s\t%s\n' "$name" "$status" "$((SECONDS - began))" "${reason//$'\t'/ }" >>"$work/parts.tsv"
  echo "== $name: $status after $((SECONDS - began)) s${reason:+, $reason}" | tee -a "$log"
done
[ -f "$work/kernels/kernels-cuda.csv" ] && cp "$work/kernels/kernels-cuda.csv" "$out/kernels-$device.csv"

"$PYTHON" - "$work" "$out/gpu-$device.json" <<'PYTHON'
import json, pathlib, sys

import torch

work, summary = map(pathlib.Path, sys.argv[1:])
parts = {}
for line in (work / "parts.tsv").read_text().splitlines():
    name, status, seconds, reason = line.split("\t")
    parts[name] = {"status": status, "seconds": int(seconds), "reason": reason}
    last = work / f"{name}.last"
    try:
        parts[name]["claims"] = json.loads(last.read_text()) if last.is_file() else None
    except ValueError:
        parts[name]["claims"] = None
record = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "parts": parts}
summary.write_text(json.dumps(record, indent=1) + "\n")
print(json.dumps({name: [part["status"], part["reason"]] for name, part in parts.items()}))
sys.exit(any(part["status"] == "failed" for part in parts.values()))
PYTHON
