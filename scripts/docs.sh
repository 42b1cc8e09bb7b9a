#!/usr/bin/env bash
# Builds the guide: build/docs/html/index.html. Its notebooks are executed, and warnings are errors.
#   bash scripts/docs.sh
# It needs nothing but this repository; the pages that it executes are copied to build/docs first, so
# that what they write lies there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
venv=$(realpath -s "${VENV:-.venv}")
bash scripts/setup.sh
if ! "$venv/bin/python" -c 'import sphinx, myst_nb, abel, pandas, xarray' 2>/dev/null; then
  echo "docs.sh: installing what the guide needs into $venv"
  "$venv/bin/python" -m pip install --disable-pip-version-check -q -c constraints.txt -e ".[docs]"
  touch "$venv/sevi_jax.stamp" # newer than pyproject.toml, as before
fi

folder=$root/build/docs
rm -rf "$folder/source" "$folder/html"
mkdir -p "$folder"
cp -r docs "$folder/source"
# commands in the pages are those of this checkout, and figures need no display
export PATH=$venv/bin:$PATH PYTHONPATH=$root MPLBACKEND=agg
# what the commands tell malloc themselves (sevi_jax/memory.py)
export MALLOC_ARENA_MAX=1 MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=-1
# JAX warns of commands that a notebook starts
export PYTHONWARNINGS=ignore:os.fork:RuntimeWarning
cd "$folder"
"$venv/bin/python" -m sphinx -W --keep-going -q -b html -d "$folder/doctrees" source html
echo "docs.sh: $folder/html/index.html"
