#!/bin/sh
# Makes a virtual environment with image-reward 1.5, which cannot live beside current transformers.
#   sh bench/scorers_peer_environment.sh FOLDER [PYTHON]
#
# image-reward imports functions that transformers dropped after 4.55.4, so all is pinned and installed without
# dependency resolution. torchvision is published with CUDA only; 0.15.2 is the last one that merely warns, and does
# not fail, when its compiled part does not load beside a CPU torch, and image-reward needs no more than its
# transforms, which are Pillow. Its clip module needs pkg_resources, which setuptools dropped in 81.
set -eu
folder=$1
"${2:-python3}" -m venv "$folder"
pip="$folder/bin/pip"
"$pip" install --quiet "torch==2.13.0" "numpy<2.5" "pillow<14" tqdm requests pyyaml regex filelock packaging psutil \
    "tokenizers<0.22" "huggingface_hub<1" "datasets<5" safetensors wheel ftfy "setuptools<81"
"$pip" install --quiet --no-deps transformers==4.55.4 timm==0.6.13 torchvision==0.15.2 accelerate==1.15.0 \
    diffusers==0.29.2 image-reward==1.5
"$pip" install --quiet --no-deps --no-build-isolation fairscale==0.4.13 openai-clip==1.0.1
"$folder/bin/python" -W ignore -c "import ImageReward; print('image-reward is ready')"
