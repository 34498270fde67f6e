# The alert engine and its API: docker compose -f ops/alerts.compose.yml up --build
FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --home-dir /var/lib/tapeline --create-home tapeline
WORKDIR /opt/tapeline
COPY pyproject.toml constraints.txt README.md ./
COPY src src
COPY flows flows
COPY tasks tasks
RUN pip install --no-cache-dir -c constraints.txt '.[alerts,postgres,gateway,redis]'
ENV TAPELINE_ROOT=/var/lib/tapeline NUMBA_CACHE_DIR=/var/lib/tapeline/numba PYTHONUNBUFFERED=1
USER tapeline
WORKDIR /var/lib/tapeline
STOPSIGNAL SIGTERM
ENTRYPOINT ["tapeline", "alerts"]
CMD ["serve"]
