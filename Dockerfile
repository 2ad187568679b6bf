# The server and its page: docker build -t ser . && docker run --rm -p 8000:8000 ser
# With words: docker build -t ser --build-arg EXTRAS=serve,asr,offline .
#             docker run --rm -p 8000:8000 ser ser serve --host 0.0.0.0 --words
FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 HF_HUB_OFFLINE=1 ORT_DISABLE_TELEMETRY=1

WORKDIR /app
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY src src
# With EXTRAS=train,…: PyTorch's own index has builds without CUDA, a tenth of the size:
# docker build --build-arg PIP_EXTRA_INDEX_URL=ITS_ADDRESS …
ARG PIP_EXTRA_INDEX_URL
ARG EXTRAS=serve
RUN pip install -c constraints.txt ".[$EXTRAS]" \
 && pip install --no-deps -c constraints.txt silero-vad \
 && useradd --system --uid 10001 --no-create-home ser \
 && rm -rf /app/src

USER ser
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
# SIGTERM lets running requests finish, for at most 30 s.
STOPSIGNAL SIGTERM
CMD ["ser", "serve", "--host", "0.0.0.0"]
