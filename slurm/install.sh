#!/bin/sh
# Install hg3 and what constraints.txt pins into a virtual environment, in one go: the image's only layer of software.
#
#     slurm/install.sh SOURCE VENV TORCH_INDEX BUILD ARCHITECTURES
#
# SOURCE         a clone of hg3, installed in place
# VENV           a virtual environment that is there
# TORCH_INDEX    the package index that torch alone comes from; '' is pip's own
# BUILD          the extension: cuda, cpu or none (see setup.py); no GPU is needed for cuda, only its toolkit
# ARCHITECTURES  of GPUs that the extension is compiled for, as TORCH_CUDA_ARCH_LIST has them
set -eu
source=$1 python=$2/bin/python index=$3 build=$4 architectures=$5

pip() {
    "$python" -m pip --disable-pip-version-check --no-cache-dir --quiet "$@"
}

cd "$source"
# torch alone first, of the wanted build, so that nothing brings in another. Its index need not have the other pins.
if [ -n "$index" ]; then
    pip install --index-url "$index" "$(grep '^torch==' constraints.txt)"
else
    pip install -c constraints.txt torch
fi
pip install -c constraints.txt setuptools wheel ninja
rm -f hg3/_C*.so  # of whoever made the clone
PATH="$(dirname "$python"):$PATH" HG3_BUILD="$build" TORCH_CUDA_ARCH_LIST="$architectures" \
    "$python" -m pip --disable-pip-version-check --no-cache-dir --quiet \
    install -c constraints.txt --no-build-isolation -e '.[dev,evaluation,private,cluster,tracking]'
