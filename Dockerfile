# docker build --tag denseclip_mm . ; docs/training.md says how to run it.
FROM python:3.11-slim-bookworm
# What OpenCV's wheel links to.
RUN apt-get update && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /work
COPY . .
RUN pip install --no-cache-dir --constraint constraints.txt --editable '.[openmmlab,mmdet,onnx]'
ENTRYPOINT ["denseclip-mm"]
CMD ["--help"]
