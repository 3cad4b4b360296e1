# CPU:   docker build -t gcrf-caffe .
# CUDA:  docker build -t gcrf-caffe:gpu --build-arg GPU=1 .
FROM debian:12
ARG GPU=0
ENV GPU=${GPU}
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates curl make
RUN [ "$GPU" = 0 ] || { \
      curl -fsSLO https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64/cuda-keyring_1.1-1_all.deb \
      && dpkg -i cuda-keyring_1.1-1_all.deb && apt-get update \
      && apt-get install -y --no-install-recommends \
        cuda-nvcc-13-0 cuda-cudart-dev-13-0 libcublas-dev-13-0 libcurand-dev-13-0; }
COPY . /gcrf-caffe
WORKDIR /gcrf-caffe
RUN make
ENTRYPOINT ["/bin/bash", "-c", ". /gcrf-caffe/env.sh && exec \"$@\"", "-"]
CMD ["bash"]
