# glionode in a container.
#   docker build -t glionode:0.1.0 .                                  runs on the CPU
#   docker build -t glionode:0.1.0-cuda --build-arg TORCH_INDEX= .    and on NVIDIA GPUs, several GB more
# Debian 12 has the Python that the tests run on, with Debian's security updates: rebuild with --pull to take them.
# By tag alone: no registry could be reached where this was written, and a digest that nobody has asked for is none.
# scripts/pin-images writes the digests here, into orthanc.Dockerfile and compose.yaml; run it again to take updates.
ARG BASE=debian:bookworm-slim

# ---------------------------------------------------------------- build: a virtual environment, with tools that stay here
FROM ${BASE} AS build
# Where pip finds PyTorch. Empty: pip's own index, whose build for Linux brings CUDA.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-pip python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv --without-pip /opt/glionode
WORKDIR /src
COPY pyproject.toml ./
COPY requirements/node.txt requirements/
# The packages that the lock file names, each checked by its hashes.
RUN pip --python /opt/glionode/bin/python install --no-cache-dir --no-deps --require-hashes -r requirements/node.txt
# PyTorch by itself: the largest layer, from an index of its own, which is why the lock file leaves it out.
RUN torch=$(sed -n 's/^ *"\(torch==[^"]*\)",$/\1/p' pyproject.toml) \
    && pip --python /opt/glionode/bin/python install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$torch"
COPY README.md LICENSE ./
COPY models models
COPY pipeline pipeline
COPY dicom_seg dicom_seg
COPY plugin plugin
RUN pip --python /opt/glionode/bin/python install --no-cache-dir --no-deps --no-build-isolation . \
    && rm -rf /opt/glionode/lib/python3*/site-packages/torch/include

# ---------------------------------------------------------------- node: what runs; no compiler, no pip
FROM ${BASE} AS node
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 tini \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 glionode \
    && useradd --uid 10001 --gid 10001 --home-dir /var/lib/glionode --no-create-home --shell /usr/sbin/nologin glionode \
    && install -d -o glionode -g glionode -m 0711 /var/lib/glionode
COPY --from=build /opt/glionode /opt/glionode
# The node's HTTP side answers HEALTHCHECK on the container's own loopback. What may send, and from where the DICOM port
# is reached, is for the settings: nothing listens beyond loopback until they say so. USER is the answer for libraries that
# ask for a name where the container runs as a number of its own, as XNAT's do.
ENV PATH=/opt/glionode/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    HOME=/var/lib/glionode \
    USER=glionode \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    GLIONODE_STORAGE__DATA_DIR=/var/lib/glionode \
    GLIONODE_HTTP__ENABLED=true
LABEL org.opencontainers.image.title="glionode" \
      org.opencontainers.image.description="A DICOM node that segments adult-type diffuse gliomas on MR. The bundled model is a demonstration, not for patients." \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="debian:bookworm-slim"
# plugin/xnat/command.json, by scripts/write-xnat-label: what XNAT's Container Service offers once it has the image.
LABEL org.nrg.commands="[{\"name\":\"glionode\",\"label\":\"glionode: glioma segmentation\",\"description\":\"Segments adult-type diffuse gliomas on an MR session with T1CE, FLAIR and ADC: DICOM SEG and SR. The bundled model is a demonstration, not for patients.\",\"version\":\"0.1.0\",\"schema-version\":\"1.0\",\"type\":\"docker\",\"image\":\"glionode:0.1.0\",\"override-entrypoint\":true,\"working-directory\":\"/output\",\"command-line\":\"glionode xnat-session /input /output #SESSION_ID# #PROJECT# #SUBJECT_ID#\",\"mounts\":[{\"name\":\"in\",\"writable\":false,\"path\":\"/input\"},{\"name\":\"out\",\"writable\":true,\"path\":\"/output\"}],\"environment-variables\":{},\"ports\":{},\"inputs\":[{\"name\":\"SESSION_ID\",\"label\":\"Session ID\",\"description\":\"XNAT's ID of the session; the scans made are put into it\",\"type\":\"string\",\"required\":true,\"command-line-flag\":\"--session-id\"},{\"name\":\"PROJECT\",\"label\":\"Project\",\"description\":\"ID of the project that owns the ROI collection\",\"type\":\"string\",\"required\":true,\"command-line-flag\":\"--project\"},{\"name\":\"SUBJECT_ID\",\"label\":\"Subject ID\",\"description\":\"XNAT's ID of the subject, for the ROI collection\",\"type\":\"string\",\"required\":true,\"command-line-flag\":\"--subject-id\"}],\"outputs\":[{\"name\":\"results\",\"description\":\"SEG, SR, pictures and report.json\",\"required\":true,\"mount\":\"out\",\"path\":\"results\"},{\"name\":\"seg-scan\",\"description\":\"The SEG on T1CE as a scan: its XML\",\"required\":false,\"mount\":\"out\",\"path\":\"scan-seg/scan.xml\"},{\"name\":\"seg-dicom\",\"description\":\"The SEG on T1CE as a scan: its DICOM\",\"required\":false,\"mount\":\"out\",\"path\":\"scan-seg/DICOM\"},{\"name\":\"sr-scan\",\"description\":\"The measurements as a scan: its XML\",\"required\":false,\"mount\":\"out\",\"path\":\"scan-sr/scan.xml\"},{\"name\":\"sr-dicom\",\"description\":\"The measurements as a scan: its DICOM\",\"required\":false,\"mount\":\"out\",\"path\":\"scan-sr/DICOM\"},{\"name\":\"roi-collection\",\"description\":\"ROI collection of the SEG; taken in where XNAT has the OHIF viewer plugin\",\"required\":false,\"mount\":\"out\",\"path\":\"assessor/assessor.xml\"},{\"name\":\"roi-seg\",\"description\":\"The SEG that the viewer draws\",\"required\":false,\"mount\":\"out\",\"path\":\"assessor/SEG\"}],\"xnat\":[{\"name\":\"glionode-session\",\"label\":\"Segment gliomas\",\"description\":\"Segment gliomas on this session (demonstration model, not for patients)\",\"contexts\":[\"xnat:mrSessionData\"],\"external-inputs\":[{\"name\":\"session\",\"label\":\"Session\",\"description\":\"MR session with T1CE, FLAIR and ADC\",\"type\":\"Session\",\"required\":true,\"provides-files-for-command-mount\":\"in\",\"load-children\":false}],\"derived-inputs\":[{\"name\":\"session-id\",\"description\":\"ID of the session\",\"type\":\"string\",\"required\":true,\"user-settable\":false,\"provides-value-for-command-input\":\"SESSION_ID\",\"derived-from-wrapper-input\":\"session\",\"derived-from-xnat-object-property\":\"id\"},{\"name\":\"project-id\",\"description\":\"Project of the session\",\"type\":\"string\",\"required\":true,\"user-settable\":false,\"provides-value-for-command-input\":\"PROJECT\",\"derived-from-wrapper-input\":\"session\",\"derived-from-xnat-object-property\":\"project-id\"},{\"name\":\"subject-id\",\"description\":\"Subject of the session\",\"type\":\"string\",\"required\":true,\"user-settable\":false,\"provides-value-for-command-input\":\"SUBJECT_ID\",\"derived-from-wrapper-input\":\"session\",\"derived-from-xnat-object-property\":\"subject-id\"}],\"output-handlers\":[{\"name\":\"results-resource\",\"accepts-command-output\":\"results\",\"as-a-child-of\":\"session\",\"type\":\"Resource\",\"label\":\"GLIONODE\",\"format\":\"DICOM\"},{\"name\":\"seg-scan-xml\",\"accepts-command-output\":\"seg-scan\",\"as-a-child-of\":\"session\",\"type\":\"Scan\"},{\"name\":\"seg-scan-dicom\",\"accepts-command-output\":\"seg-dicom\",\"as-a-child-of\":\"seg-scan-xml\",\"type\":\"Resource\",\"label\":\"DICOM\",\"format\":\"DICOM\",\"content\":\"SEG\"},{\"name\":\"sr-scan-xml\",\"accepts-command-output\":\"sr-scan\",\"as-a-child-of\":\"session\",\"type\":\"Scan\"},{\"name\":\"sr-scan-dicom\",\"accepts-command-output\":\"sr-dicom\",\"as-a-child-of\":\"sr-scan-xml\",\"type\":\"Resource\",\"label\":\"DICOM\",\"format\":\"DICOM\",\"content\":\"SR\"},{\"name\":\"roi-collection-xml\",\"accepts-command-output\":\"roi-collection\",\"as-a-child-of\":\"session\",\"type\":\"Assessor\"},{\"name\":\"roi-collection-seg\",\"accepts-command-output\":\"roi-seg\",\"as-a-child-of\":\"roi-collection-xml\",\"type\":\"Resource\",\"label\":\"SEG\",\"format\":\"DICOM\",\"content\":\"EXTERNAL\"}]}]}]"
USER 10001:10001
WORKDIR /var/lib/glionode
VOLUME /var/lib/glionode
EXPOSE 11112 8114
STOPSIGNAL SIGTERM
# A container that segments one session for XNAT serves nothing; Swarm would end it as unhealthy.
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s --retries=3 \
    CMD ["sh", "-c", "grep -qa xnat-session /proc/1/cmdline || exec glionode health"]
# tini hands signals on and reaps what PostgreSQL and the worker leave behind.
ENTRYPOINT ["tini", "--", "glionode"]
CMD ["serve"]
