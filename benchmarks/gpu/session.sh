#!/usr/bin/env bash
# One session on a GPU machine that has PyTorch and no network, step by step; each call names one.
#
#   benchmarks/gpu/session.sh STEP      setup [train] [merge] | kit | take | models | meaning | index | serving | paired | prefix | collect | look
#
# What the machine needs comes in pieces of at most 64 MiB (docs/gpu-session.md says which call brings which):
# .dev/wheels.txz by wheels.sh, .kit/site.txz with LMDeploy, .dev/parts by parts.py, .dev/kb with others' workbooks.
# Everything lies below $HERE. A step has a time limit and a log of its own, so that one that fails costs little.
set -uo pipefail
cd "$(dirname "$0")/../.."
here=${HERE:-/opt/gt} python=${PYTHON:-python3}
out=$here/out logs=$here/logs work=$here/work model=${MODEL:-qwen2.5-coder-0.5b-instruct}
mkdir -p "$out" "$logs" "$work" "$here/parts" "$here/kb" "$here/var/models"
export PYTHONPATH=$PWD:$here/site:$here/wheels GROUNDTUNE_VAR=$here/var HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1
export TOKENIZERS_PARALLELISM=false TRANSFORMERS_VERBOSITY=error

say() { echo "[$(date +%T)] $*"; }

# limited NAME SECONDS COMMAND...: log in $logs/NAME.log; what it said last is shown.
limited() {
  local name=$1 seconds=$2 started=$SECONDS status=0 keeping=
  shift 2
  # A call that is cut off brings back what is in $OUT by then.
  if [ -d "${OUT:-}" ]; then
    while sleep 5; do cp -u "$out"/*.json "$logs/$name.log" "$OUT"/ 2>/dev/null; done &
    keeping=$!
  fi
  timeout -k 15 "$seconds" "$@" >"$logs/$name.log" 2>&1 || status=$?
  if [ -n "$keeping" ]; then
    kill "$keeping"
    cp -u "$out"/*.json "$logs/$name.log" "$OUT"/ 2>/dev/null
  fi
  say "$name: status $status, $((SECONDS - started)) s"
  [ "$status" = 0 ] || tail -n 15 "$logs/$name.log" | cut -c1-400
  return 0
}

take() { for part in .dev/parts/* .dev/small/*; do if [ -f "$part" ]; then mv "$part" "$here/parts/"; fi; done; ls "$here/parts" | wc -l; }

wait_for() { # wait_for FILE SECONDS
  local until=$((SECONDS + $2))
  while [ ! -e "$1" ] && [ $SECONDS -lt $until ]; do sleep 1; done
  [ -e "$1" ] || say "$1 is not there after $2 s"
}

case ${1:-} in
setup) # unpack the wheels, and begin in the background what needs nothing else: `setup train merge`, `setup merge`
  mkdir -p "$here/wheels" && tar -C "$here/wheels" -xJf .dev/wheels.txz
  tar -C "$here" -xJf .dev/tok.txz
  if ! $python -c 'import peft; assert tuple(map(int, peft.__version__.split(".")[:2])) >= (0, 19)'; then
    mv "$here"/wheels/.peft/* "$here/wheels/"
  fi
  if [ -d .dev/kb ]; then cp .dev/kb/* "$here/kb/"; fi
  take
  nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader
  setsid "$0" background "${@:2}" >"$logs/background.log" 2>&1 </dev/null &
  ;;
background)
  for what in "${@:2}"; do
    case $what in
    train) limited train "${TRAIN_S:-400}" $python -m benchmarks.gpu.train --budget-s "${TRAIN_BUDGET_S:-340}" \
      --out "$out/train.json" ${TRAIN_ARGS:-} ;;
    merge) limited merge 280 $python -m benchmarks.gpu.merge --tokenizer "$here/tok" --work "$work" \
      --out "$out/merge.json" ${MERGE_ARGS:-} ;;
    esac
  done
  touch "$here/background.done"
  ;;
kit) # LMDeploy
  mkdir -p "$here/site" && tar -C "$here/site" -xJf .kit/site.txz
  take
  limited turbomind 60 $python -c 'import lmdeploy.turbomind as t; print(t.is_available())'
  tail -n 1 "$logs/turbomind.log"
  ;;
take) take ;;
models) # parts to sources, sources to model folders; the digests are those of the folders they were made from
  limited unpack 90 $python -m benchmarks.gpu.parts unpack "$here/parts" "$here/unpacked"
  mkdir -p "$here/var/models/.downloads" && mv "$here"/unpacked/sources/* "$here/var/models/.downloads/"
  limited fetch 200 $python -m serving.cli models fetch $model multilingual-e5-small-asked
  (cd "$here/var/models" && sha256sum $model/model.safetensors multilingual-e5-small-asked/model.safetensors)
  ;;
meaning) # which model is right, and whether what is served is what was trained: not speed, so side by side
  # PARTS says what: meaning (the sample run served and verified), internlm, reports.
  wait_for "$here/background.done" "${WAIT_S:-150}"
  for part in ${PARTS:-meaning internlm reports}; do
    case $part in
    meaning) limited meaning "${MEANING_S:-240}" $python -m benchmarks.gpu.meaning --parts tuned --base "$model" \
      --out "$out/meaning.json" ${MEANING_ARGS:-} & ;;
    internlm) limited internlm "${INTERNLM_S:-200}" $python -m benchmarks.gpu.meaning --parts internlm --out "$out/internlm.json" \
      ${INTERNLM_ARGS:-} & ;;
    reports) limited reports "${REPORTS_S:-330}" $python -m benchmarks.gpu.reports --kb "$here/kb" --base "$model" \
      --reports "$out/reports" --out "$out/reports.json" ${REPORTS_ARGS:-} & ;;
    esac
  done
  wait
  ls -l "$out" "$out"/reports 2>/dev/null
  ;;
index) limited index "${INDEX_S:-200}" $python -m benchmarks.gpu.index --kb "$here/kb" --out "$out/index.json" ${INDEX_ARGS:-} ;;
serving)
  # Without the steps that are measured already: SERVING_ARGS="--steps goodput,tuned,fp8,awq".
  limited serving "${SERVING_S:-290}" $python -m benchmarks.gpu.serving --tokenizer "$here/tok" --work "$work" \
    --shape 7b-gqa --steps gateway,goodput,tuned,fp8,awq --rates 24 --search 24,8,88 --seconds 6 --waves 1.5 \
    --budget-s "${SERVING_BUDGET_S:-240}" --out "$out/serving-gqa.json" ${SERVING_ARGS:-}
  ;;
paired) # the gateway against TurboMind alone, turn about
  limited paired "${PAIRED_S:-560}" $python -m benchmarks.gpu.paired --tokenizer "$here/tok" --work "$work" \
    --out "$out/paired.json" ${PAIRED_ARGS:-}
  ;;
prefix) # what the order of rows does to the prefix cache
  limited prefix "${PREFIX_S:-200}" $python -m benchmarks.gpu.prefix --tokenizer "$here/tok" --work "$work" \
    --more "$here/kb/neike.xlsx,$here/kb/neike_paraphrases.jsonl" --out "$out/prefix.json" ${PREFIX_ARGS:-}
  ;;
look) tail -n "${LINES_SHOWN:-8}" "$logs"/*.log | cut -c1-300; ls -l "$out"; df -h "$here" | tail -n 1; nvidia-smi | grep MiB ;;
collect) # into $OUT: one archive of JSON and reports, one of logs
  tar -C "$here" -cJf "$OUT/out.txz" out
  cp "$work"/*.log "$logs/" 2>/dev/null
  for run in "$here"/var/runs/*/logs; do name=$(basename "$(dirname "$run")"); cp -r "$run" "$logs/$name" 2>/dev/null; done
  tar -C "$here" -cJf "$OUT/logs.txz" logs
  ls -l "$OUT"
  ;;
*)
  echo "usage: $0 setup|kit|take|models|meaning|index|serving|paired|prefix|collect|look" >&2
  exit 2
  ;;
esac
