#!/usr/bin/env bash
# Builds wheel and sdist, installs the wheel into an empty environment, and compares what it answers
# with what this checkout answers; prints the time of an import. Everything lies in build/package (or
# the folder given).
#   bash scripts/check_package.sh
#   VENV=.venv bash scripts/check_package.sh /tmp/package
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
python=$(realpath -s "${VENV:-.venv}/bin/python")
folder=$(realpath -m "${1:-build/package}")
rm -rf "$folder"
mkdir -p "$folder/source" "$folder/work"

# from what git knows, so that no build leaves anything here
git archive HEAD | tar x -C "$folder/source"
echo "check_package.sh: building wheel and sdist of $(git rev-parse --short HEAD) in $folder"
"$python" -m venv "$folder/build"
"$folder/build/bin/python" -m pip install --disable-pip-version-check -q build
"$folder/build/bin/python" -m build -o "$folder/dist" "$folder/source" >"$folder/build.log" 2>&1 ||
  { tail -5 "$folder/build.log"; exit 1; }
ls "$folder/dist"
# the wheel above was built from the sdist; what the sdist must hold besides
sdist=$(ls "$folder"/dist/*.tar.gz)
tar tzf "$sdist" >"$folder/sdist.txt"
for name in CHANGELOG.md CITATION.cff constraints.txt configs/quick.py tests/test_package.py; do
  grep -q "/$name\$" "$folder/sdist.txt" || { echo "check_package.sh: no $name in $sdist"; exit 1; }
done

echo "check_package.sh: installing the wheel into an empty environment"
"$python" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --disable-pip-version-check -q -c constraints.txt \
  "$folder"/dist/*.whl

cd "$folder/work"
unset PYTHONPATH
"$folder/venv/bin/sevi-jax" --help
"$folder/venv/bin/sevi-jax" --version
"$folder/venv/bin/python" -X importtime -c 'import sevi_jax' 2>&1 | tail -1
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import sevi_jax

assert "site-packages" in sevi_jax.__file__, sevi_jax.__file__
found = {"jax", "matplotlib", "orbax", "tensorstore"} & set(sys.modules)
assert not found, f"import sevi_jax loads {found}"

import numpy as np

shells = [
    {"radius": radius, "sigma": 1.5, "electrons": 30_000, "beta": {2: 1.0}} for radius in (25, 48)
]
np.save("picture.npy", sevi_jax.simulate(shells, (128, 128), seed=1).counts)
PYTHON
arguments=(--shells=2 --orders=2 --input=picture.npy)
"$folder/venv/bin/sevi-jax" predict "${arguments[@]}" --output=wheel.json
"$folder/venv/bin/sevi-jax" calibrate --input=wheel.json --known=1:0.05eV,2:184.32meV \
  --output=calibration.json
# the configurations are in the wheel: this one is found, and only its new size refused
if "$folder/venv/bin/sevi-jax" train --config=quick --config.image.size=33 2>refused.txt ||
  ! grep -q "image.size=33 must be" refused.txt; then
  echo "check_package.sh: --config=quick is not in the wheel: $(cat refused.txt)"
  exit 1
fi
PYTHONPATH=$root "$python" -m sevi_jax.predict "${arguments[@]}" --output=repository.json
"$python" - <<'PYTHON'
import json

wheel, repository = (
    json.load(open(f"{name}.json"))["pictures"][0]["shells"] for name in ("wheel", "repository")
)
for one, other in zip(wheel, repository, strict=True):
    # environments differ in versions where constraints.txt leaves something open
    for key in ("R_pixels", "sigma_pixels", "electrons"):
        error = one[f"{key}_error"]
        assert abs(one[key] - other[key]) < 1e-3 * error, (key, one[key], other[key])
    for value, same, error in zip(one["beta"], other["beta"], one["beta_error"], strict=True):
        assert abs(value - same) < 1e-3 * error, (value, same)
print("check_package.sh: the wheel answers what the checkout answers")
PYTHON
