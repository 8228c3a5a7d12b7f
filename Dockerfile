# The server as a container: CPU by default; for NVIDIA GPUs build with
#   --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130
FROM python:3.11-slim-bookworm

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 VIRTUAL_ENV=/opt/venv PATH=/opt/venv/bin:$PATH
WORKDIR /app

# What changes rarely first: torch alone is most of the image.
COPY requirements.lock ./
RUN python -m venv "$VIRTUAL_ENV" \
    && pip install "$(grep '^torch==' requirements.lock)" --index-url "$TORCH_INDEX" --extra-index-url https://pypi.org/simple \
    && pip install --requirement requirements.lock

COPY pyproject.toml README.md LICENSE config.properties ./
COPY config/ config/
COPY handlers/ handlers/
COPY data/ data/
COPY scripts/wheel_resources.py scripts/
COPY simplenet/ simplenet/
COPY model_store/ model_store/
RUN pip install --no-deps --editable . \
    && useradd --create-home --uid 10001 simplenet \
    && chown simplenet model_store
USER simplenet

EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/ping', timeout=4)"]
# Only the predictions leave the container; management, metrics and gRPC listen on its loopback address.
ENTRYPOINT ["simplenet", "serve", "--host", "0.0.0.0", "--model-store", "/app/model_store"]
