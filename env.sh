# Put `caffe`, pycaffe, the Python layers and the Python environment in reach of
# this shell (bash or zsh):  . ./env.sh     after make GPU=1:  GPU=1 . ./env.sh

if [ -n "${ZSH_VERSION:-}" ]; then
  eval '_gcrf=${(%):-%x}'
else
  _gcrf=${BASH_SOURCE[0]}
fi
_gcrf=$(CDPATH= cd -- "$(dirname -- "$_gcrf")" && pwd)
_gcrf_build=$_gcrf/build/cpu
[ "${GPU:-0}" != 1 ] || _gcrf_build=$_gcrf/build/gpu

if [ -x "$_gcrf_build/tools/caffe" ]; then
  export PATH="$_gcrf_build/tools:$_gcrf/build/venv/bin:$PATH"
  export PYTHONPATH="$_gcrf_build/python:$_gcrf/python_layers${PYTHONPATH:+:$PYTHONPATH}"
else
  echo "env.sh: $_gcrf_build/tools/caffe is not there: run make first" >&2
fi
unset _gcrf _gcrf_build
