# Detect, simulate and score in a container; weights and recipes are inside.
#   docker build -t spiking-centernet .
#   docker run --rm -v "$PWD:/data" spiking-centernet detect small drive_td.dat
# Another build of PyTorch, for example with CUDA: --build-arg TORCH="torch==2.13.0+cu130 --index-url ..."
# Training and other extras: --build-arg EXTRAS="[train,formats]"
FROM python:3.12-slim AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
COPY native native
COPY recipes recipes
COPY src src
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim
ARG TORCH=""
ARG EXTRAS=""
COPY constraints.txt /wheels/
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir ${TORCH:-"$(grep '^torch==' /wheels/constraints.txt)"} \
    && pip install --no-cache-dir --constraint /wheels/constraints.txt "$(ls /wheels/*.whl)${EXTRAS}" \
    && useradd --create-home scn
USER scn
WORKDIR /data
ENTRYPOINT ["scn"]
CMD ["--help"]
