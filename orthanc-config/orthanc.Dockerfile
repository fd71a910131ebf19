# An Orthanc for compose.yaml: Debian's, with Debian's Python plugin, the ones that glionode is tested with. Its
# configuration and script are mounted: orthanc.json, load_plugin.py and the folder plugin/. scripts/pin-images pins the
# base image by its digest.
FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends orthanc orthanc-python python3 tini \
    && rm -rf /var/lib/apt/lists/* \
    && install -d -o 10001 -g 10001 -m 0700 /srv/glionode/OrthancStorage
ENV PYTHONDONTWRITEBYTECODE=1
# The node's user, so that secrets/ has one owner for both.
USER 10001:10001
WORKDIR /srv/glionode
VOLUME /srv/glionode/OrthancStorage
EXPOSE 4242 8042
# A request for a password (401) shows that it answers.
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 \
    CMD ["python3", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8042, timeout=8); c.request('GET', '/system'); raise SystemExit(c.getresponse().status not in (200, 401))"]
ENTRYPOINT ["tini", "--", "Orthanc"]
CMD ["orthanc.json"]
