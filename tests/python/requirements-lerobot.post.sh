#!/usr/bin/env bash
# Lets the CUDA build of torch, the only one that the package index has for Linux,
# be imported without gigabytes of CUDA libraries which nothing here calls.
#
# usage: requirements-lerobot.post.sh PYTHON    (run by venv.sh after the install)
#
# libtorch_cuda.so is linked against nine libraries that are used only by work on a
# GPU (cuBLAS, cuDNN, NCCL, ...; 1.6 GB of wheels).  The dynamic loader wants the files
# to exist, and with lazy binding it looks for the functions in them only when they
# are called.  So an empty library of each name is put where torch's own run path
# looks, and torch's documented switch for lazy binding is set for this environment.
# Nothing of torch is changed; torch.cuda does not work in this environment.

set -euo pipefail

python=${1:?usage: requirements-lerobot.post.sh PYTHON}
site=$("$python" -c 'import sysconfig; print(sysconfig.get_path("platlib"))')

if [[ -e $site/torch/lib/libtorch_cuda.so ]]; then
    libraries=$site/nvidia/cu13/lib
    mkdir -p "$libraries"
    for name in libcublas.so.13 libcublasLt.so.13 libcudnn.so.9 libcufft.so.12 libcurand.so.10 \
        libcusparse.so.12 libcusparseLt.so.0 libnccl.so.2 libnvshmem_host.so.3; do
        "${CC:-cc}" -shared -nostdlib -x c -Wl,-soname,"$name" -o "$libraries/$name" /dev/null
    done
    echo 'import os; os.environ.setdefault("TORCH_USE_RTLD_GLOBAL", "1")' \
        >"$site/torch_lazy_binding.pth"
fi

# Proves the install, and compiles the modules that are used (pip was told not to compile
# all of them), even where the caller's environment forbids writing bytecode.
env -u PYTHONDONTWRITEBYTECODE HF_HUB_OFFLINE=1 "$python" -c \
    'from lerobot.datasets.lerobot_dataset import LeRobotDataset'
