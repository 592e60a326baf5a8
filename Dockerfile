# For machines with an NVIDIA GPU and its container toolkit:
#   docker build --tag prefmill .
#   docker run --rm --gpus all --shm-size 8g --user "$(id -u):$(id -g)" --volume "$PWD:/work" --volume prefmill-cache:/cache prefmill run tiny --to runs/first
# The user is that of the host, so that what is written into its folder is its own.
# The wheel of torch brings the CUDA libraries; the image adds a compiler (Triton, torch.compile) and Python's headers.
FROM nvidia/cuda:12.8.1-base-ubuntu24.04

RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv python3-dev g++ ca-certificates \
    && rm -rf /var/lib/apt/lists/*

ENV PATH=/opt/prefmill/bin:$PATH \
    PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1 \
    HF_HOME=/cache/huggingface \
    PREFMILL_CACHE=/cache/prefmill

# Everything that is pinned first: a change of the code makes only the last layer again.
WORKDIR /source
COPY constraints.txt ./
RUN python3 -m venv /opt/prefmill \
    && pip install "$(grep '^torch==' constraints.txt)" \
    && pip install --constraint constraints.txt "setuptools>=77" trl peft accelerate deepspeed diffusers datasets

COPY . .
# EXTRAS of pyproject.toml: --build-arg EXTRAS=train,tensorrt,ray
ARG EXTRAS=train
RUN pip install --constraint constraints.txt ".[$EXTRAS]" && prefmill --version

# Whatever number the user has: a home and a name for the libraries that ask for them, and caches that are kept.
ENV HOME=/cache \
    USER=prefmill
RUN useradd --home-dir /cache --no-create-home prefmill && mkdir -p /work /cache && chmod 1777 /work /cache
USER prefmill
WORKDIR /work
VOLUME /cache
ENTRYPOINT ["prefmill"]
CMD ["--help"]
