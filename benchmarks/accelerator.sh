#!/usr/bin/env bash
# Measures the benchmarks on a GPU or TPU into a file of Markdown. See usage.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: benchmarks/accelerator.sh cuda13|cuda12|tpu [FOLDER]

Installs JAX for the accelerator beside requirements.txt in build/accelerator-<kind>, then measures training steps of all
networks in float32 and bfloat16, and the losses, into FOLDER/<device name>.md (FOLDER: build, if not given).

cuda13, cuda12: NVIDIA's libraries come with JAX; the driver has to be there. cuda13 wants driver 580 or newer.
PYTHON=<absolute path>: an interpreter that has JAX and the requirements already; nothing is installed.
TEXT
}

case "${1:-}" in
-h | --help) usage && exit 0 ;;
cuda13 | cuda12 | tpu) kind="$1" ;;
*) usage >&2 && exit 2 ;;
esac
folder="$(realpath -m "${2:-$(dirname "$0")/../build}")"
cd "$(dirname "$0")/.."

python="${PYTHON:-build/accelerator-$kind/bin/python}"
if [[ -z "${PYTHON:-}" ]]; then
    python3 -m venv "build/accelerator-$kind"
    "$python" -m pip install -q --disable-pip-version-check -r requirements.txt "jax[$kind]"
fi

sizes=8x8,8x16,16x16,32x8,32x16
export JAX_PLATFORMS=cuda,cpu
if [[ "$kind" == tpu ]]; then
    JAX_PLATFORMS=tpu,cpu
    sizes=8x8,8x16,16x16,32x8 # building every triplet of 32x16 takes more than a small TPU has
fi
devices='
import jax
try:
    found = jax.devices()
except Exception as error:
    raise SystemExit(f"{type(error).__name__}: {error}")
if found[0].platform == "cpu":
    raise SystemExit("There is only the CPU")
print(*(device.device_kind for device in found), sep="\n")
'
if ! found="$("$python" -c "$devices")"; then
    echo "benchmarks/accelerator.sh $kind: JAX finds no accelerator with $python: is its driver there (nvidia-smi), is" \
        "JAX's plugin installed, does another process hold it?" >&2
    exit 1
fi
name="$(head -n 1 <<<"$found")"
mkdir -p "$folder"
table="$folder/${name//[^A-Za-z0-9._-]/_}.md"

{
    echo "# $name"
    echo
    version="$("$python" -c 'import jax; print(jax.__version__)')"
    echo "$(wc -l <<<"$found") device(s), JAX $version, commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown)"
    for dtype in float32 bfloat16; do
        printf '\n## Training step, %s\n\n' "$dtype"
        "$python" -m benchmarks.train_step --no-torch --dtype="$dtype"
    done
    printf '\n## Losses\n\n'
    "$python" -m benchmarks.losses --sizes="$sizes"
} | tee "$table"
echo "Kept in $table" >&2
