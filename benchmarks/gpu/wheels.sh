#!/usr/bin/env bash
# Builds .dev/wheels.txz: what a GPU machine without network lacks of GroundTune's needs, for Python 3.12, to lie on
# PYTHONPATH beside LMDeploy. Assumed there: torch, transformers, peft, sentence-transformers, pandas, onnxruntime and
# grpcio, as images with PyTorch have them. Left out: kubernetes, langgraph, optuna, sqlalchemy, which nothing imports
# that retrieves, trains, serves or compares.
# Usage: benchmarks/gpu/wheels.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
wheels=$(mktemp -d); site=$(mktemp -d); trap 'rm -rf "$wheels" "$site"' EXIT
lock() { grep -iE "^($1)==" requirements.lock; }
names='chromadb|langchain-core|langchain-chroma|langchain-text-splitters|langchain-protocol|langsmith|bm25s|snowballstemmer|pypdf|orjson'
names+='|tenacity|jsonpatch|jsonpointer|uuid_utils|requests-toolbelt|zstandard|opentelemetry-.*|googleapis-common-protos'
names+='|protobuf|pydantic-settings|python-dotenv|pybase64|overrides|importlib_resources|mmh3|bcrypt|pypika|jsonschema'
names+='|jsonschema-specifications|referencing|rpds-py|build|distro|annotated-types|defusedxml|et_xmlfile|ftfy|gguf'
names+='|httptools|openpyxl|prompt_toolkit|rapidfuzz|wcwidth|xlrd|watchfiles|websockets|sacrebleu|portalocker|tabulate'
names+='|prometheus_client|peft|pydantic|pydantic_core|tensorboardx'
platforms=()
for glibc in 2_34 2_28 2_27 2_26 2_24 2_17 2_12; do platforms+=(--platform "manylinux_${glibc}_x86_64"); done
for name in manylinux2014 manylinux2010 manylinux1; do platforms+=(--platform "${name}_x86_64"); done
# shellcheck disable=SC2046  # one argument a requirement
python3 -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
  --abi cp312 --abi abi3 --abi none "${platforms[@]}" -d "$wheels" $(lock "$names") 'bitsandbytes>=0.49,<1' \
  'liger-kernel>=0.6,<1' 2>&1 | grep -v -e WARNING -e DEPRECATION || true
for wheel in "$wheels"/*.whl; do python3 -m zipfile -e "$wheel" "$site"; done
# Of bitsandbytes the library of CUDA 13, of the rest no tests.
find "$site/bitsandbytes" -name 'libbitsandbytes_*' ! -name '*cuda130*' ! -name '*cpu*' -delete
find "$site" -type d \( -name tests -o -name test \) -prune -exec rm -rf {} +
# Used only where the machine's own is older than 0.19.
mkdir -p "$site/.peft" && mv "$site"/peft "$site"/peft-*.dist-info "$site/.peft/"
mkdir -p .dev
tar -C "$site" -cf - . | xz -T0 -6 >.dev/wheels.txz
ls -l .dev/wheels.txz
