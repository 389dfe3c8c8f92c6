# The command alone: no model is inside, so it asks a server. Not built yet: no Docker daemon ran where it was written.
#
#   docker build --tag synopsis-writer .
#   docker run --rm --env OPENAI_API_KEY --volume "$PWD:/texts" synopsis-writer write --show … --theme …
#
# The files are written as user 1000; `--user "$(id -u)"` with `--env HOME=/tmp` writes them as yours.
FROM python:3.13-slim AS build
WORKDIR /src
COPY . .
RUN python -m pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.13-slim
COPY --from=build /wheels /src/constraints.txt /tmp/wheels/
RUN python -m pip install --no-cache-dir --constraint /tmp/wheels/constraints.txt /tmp/wheels/*.whl \
    && rm -r /tmp/wheels \
    && useradd --create-home --uid 1000 writer \
    && install --directory --owner writer /texts
USER writer
WORKDIR /texts
ENTRYPOINT ["synopsis"]
